"""Which of several places takes a call, and which there are: the decisions alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.api.batch_options import check_options
from runner.api.failover import SPOOL, KeepHere, PlaceView, RefuseCall, SendTo, decide

US, EU, LOCAL = "us-east-1", "eu-west-1", "local"
GONE = "it doesn't answer"


def test_the_least_loaded_place_that_answers_takes_it() -> None:
    """All jobs would go to one region, or to one that is away."""
    us, eu = PlaceView(US, load=3), PlaceView(EU, load=2)
    assert decide([us, eu]) == SendTo(EU)
    assert decide([us, PlaceView(EU, away=GONE)]) == SendTo(US)
    assert decide([us, PlaceView(EU, refusal="no GPUs")]) == SendTo(US)
    assert decide([PlaceView(US), PlaceView(EU)]) == SendTo(US)
    assert decide([us, PlaceView(LOCAL, reserve=True)], [LOCAL]) == SendTo(US)


def test_fallbacks_are_tried_in_their_order() -> None:
    """A job would be kept where another region could have done it, or the other way round."""
    us, local = PlaceView(US, away=GONE), PlaceView(LOCAL, reserve=True)
    assert decide([us, local], [LOCAL, SPOOL]) == SendTo(LOCAL)
    assert decide([us, local], [SPOOL, LOCAL]) == KeepHere(f"{US}: {GONE}")
    no_containers = PlaceView(LOCAL, refusal="no containers", reserve=True)
    assert decide([us, no_containers], [LOCAL, SPOOL]) == KeepHere(f"{US}: {GONE}")
    assert decide([us, no_containers], [LOCAL]) == RefuseCall(f"{US}: {GONE}", away=True)
    assert decide([us]) == RefuseCall(f"{US}: {GONE}", away=True)


def test_what_can_never_run_is_not_kept() -> None:
    """It would wait for ever for a region that is there."""
    us = PlaceView(US, refusal="no GPUs", away=GONE)
    eu = PlaceView(EU, refusal="no GPUs")
    local = PlaceView(LOCAL, reserve=True)
    assert decide([us, eu, local], [LOCAL, SPOOL]) == RefuseCall("no GPUs", away=False)


VIEWS = st.lists(
    st.builds(
        PlaceView,
        st.just(""),
        st.sampled_from([None, None, "refused"]),
        st.sampled_from([None, GONE]),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@given(VIEWS, st.booleans())
def test_nothing_goes_to_a_place_that_is_away_or_refuses(
    views: list[PlaceView], spools: bool
) -> None:
    """A job would be lost there."""
    places = [replace(each, name=f"p{number}") for number, each in enumerate(views)]
    fallback = [each.name for each in places if each.reserve] + [SPOOL] * spools
    decision = decide(places, fallback)
    fit = [each for each in places if not each.reserve and each.refusal is None]
    match decision:
        case SendTo(name):
            place = next(each for each in places if each.name == name)
            assert place.refusal is None and place.away is None and fit
            assert not place.reserve or all(each.away for each in fit)
        case KeepHere():
            assert spools and fit and all(each.away for each in fit)
        case RefuseCall(_, away):
            assert away is bool(fit) and not (away and spools)


BATCH = {"job_queue": "q", "bucket": "bucket"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"regions": "us-east-1"}, "regions: must be a list"),
        ({"regions": []}, "regions: must name at least one"),
        ({"regions": ["mars"]}, "regions: .*mars"),
        ({"regions": [US], "region": EU}, "give no region beside it"),
        ({"regions": [US, US]}, "regions: names one twice"),
        ({"regions": {US: {"buckt": "x"}}}, 'did you mean "bucket"'),
        ({"regions": {US: {"region": EU}}}, '"region" is not an option of a region'),
        ({"regions": {US: 3}}, "must be a dict of options"),
        ({"fallback": "spol"}, 'did you mean "spool"'),
        ({"fallback": 3}, "fallback: must be a name or a list"),
        ({"fallback": ["local", "local"]}, "fallback: names one twice"),
        ({"regions": [US], "fallback": US}, "a region that jobs go to anyway"),
        ({"region": US, "fallback": US}, "a region that jobs go to anyway"),
    ],
)
def test_wrong_places_are_refused_before_anything_is_opened(given: Any, told: str) -> None:
    """A mistake in a fallback would be found when the region is away."""
    with pytest.raises((ValueError, TypeError), match=told):
        check_options({**BATCH, **given})


def test_places_are_read_as_they_were_meant() -> None:
    """A region would get another one's bucket."""
    checked = check_options({**BATCH, "regions": {US: {}, EU: {"bucket": "there"}}})
    assert checked["regions"] == {US: {}, EU: {"bucket": "there"}} and checked["fallback"] == ()
    alone = check_options({**BATCH, "region": US, "fallback": EU})
    assert (alone["regions"], alone["fallback"]) == ({}, (EU,))
    assert "fallback" not in check_options(BATCH)
