"""§12: a state that is older than its jobs, as the scheduler sees it."""

from __future__ import annotations

from core_driver import Driver, document, drive, job

from runner.core import events as ev
from runner.core.attempts import start_number, token_of


def test_no_token_is_given_out_twice() -> None:
    """A late shim of the lost attempt would claim the new one, and run its command beside it."""
    q = drive(job("a"), job("b"))
    before = q.token("a")
    q = Driver(document(job("a"), job("b")))
    q.session()
    q.send(ev.StateWentBack(q.now(), 7, start_number("0123456789abcdef", before)))
    q.told()
    assert q.token("a") != before
    assert [e.detail for e in q.story if e.event == "state_went_back"] == [{"lost": 7}]


def test_the_end_of_a_stray_is_part_of_the_story() -> None:
    """An attempt would be ended without a trace."""
    q = Driver(document(job("a")))
    q.session()
    q.send(ev.StrayEnded(q.now(), "01234567-9", 77))
    assert not q.starts
    q.told()
    assert q.starts == ["a"]
    [told] = [e for e in q.story if e.event == "stray_ended"]
    assert told.detail == {"token": "01234567-9", "pid": 77}


def test_tokens_and_their_numbers() -> None:
    """A number that is read wrongly lets a token be used again."""
    run_id = "0123-4567-89ab"
    assert [start_number(run_id, token_of(run_id, n)) for n in (1, 255, 70000)] == [1, 255, 70000]
    assert start_number(run_id, token_of("fedcba98", 5)) == 0
    for other in ("", "x", "0123-456", "0123-456-zz", "0123-456-"):
        assert start_number(run_id, other) == 0
