"""The Executor on AWS Batch in several regions: one that is away, and what stands in for it."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from batch_account import BatchAccount
from batch_server import Fault, MotoServices, Processes, Settings
from executor_on_batch import environment_of, options_of
from executor_targets import until
from on_batch import LOGS, instant
from region_front import RegionFront
from s3_endpoint import Endpoint

from runner import Executor, TargetAwayError
from runner.api import failover_places, shared_regions
from runner.aws.errors import AwsError
from runner.batch import submission
from runner.batch.circuit_breaker import CircuitBreaker
from runner.engine import backoff
from runner.engine.batch import region as batch_region
from runner.engine.batch import survivors

PATIENCE = 90.0
US, EU = "us-east-1", "eu-west-1"
pytestmark = pytest.mark.share


class Regions:
    """Two regions with a Batch each, behind one address; one bucket."""

    def __init__(self, endpoint: Endpoint) -> None:
        services = MotoServices(endpoint.url)
        self.accounts = {
            name: BatchAccount(
                Processes(LOGS),
                Settings(region=name, second_s=1.0, delays=instant(1.0), rates={}),
                services,
            )
            for name in (US, EU)
        }
        self.front = RegionFront({k: each.server.url for k, each in self.accounts.items()})
        self.bucket = endpoint.bucket()

    def make(self, **more: Any) -> Executor:
        options = options_of(self.bucket, **{"staging": "in-image", **more})
        if "regions" in more:
            del options["region"]
        return Executor(**options)

    def count(self, region: str) -> int:
        return len(self.accounts[region].server.jobs())

    def close(self) -> None:
        self.front.close()
        for account in self.accounts.values():
            account.close()


@pytest.fixture
def world(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Regions]:
    made = Regions(endpoint)
    for name, value in environment_of(endpoint, made.accounts[US]).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", made.front.url)
    quick = lambda: CircuitBreaker(2, 0.1, 1.0, 2.0)  # noqa: E731
    monkeypatch.setattr(batch_region, "CircuitBreaker", quick)
    monkeypatch.setattr(submission, "AGAIN_AFTER", 0.5)
    monkeypatch.setattr(survivors, "SEARCH_AGAIN", 0.1)
    monkeypatch.setattr(survivors, "PATIENCE", 5.0)
    monkeypatch.setattr(backoff, "LAST_RETRY", 1.0)
    monkeypatch.setattr(failover_places, "TRIAL", 0.5)
    monkeypatch.setattr(failover_places, "FIRST_PAUSE", 0.3)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield made
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    made.close()
    assert not shared_regions._regions


def note(path: Path, word: str) -> str:
    """Leave a line, so that it is known how often this ran."""
    with open(path, "a") as file:
        file.write(f"{word}\n")
    return word


def noted(path: Path) -> Counter[str]:
    return Counter(path.read_text().split() if path.exists() else ())


def away(world: Regions, ex: Executor, path: Path) -> list[Any]:
    """Have the first region go away with some jobs given to it, and wait until that is noticed.

    It takes two jobs at once: of these it isn't known whether they were submitted.
    """
    world.front.away.add(US)
    target: Any = ex._session.targets[0]
    health = target._board.places[0].target._region.region.health
    made = [ex.submit(note, path, f"early-{each}") for each in range(4)]
    until(lambda: health.away() is not None, PATIENCE)
    return made


def test_regions_share_the_work(world: Regions, tmp_path: Path) -> None:
    """A second region would be there in vain, or jobs run in one that they are not for."""
    proof = tmp_path / "ran"
    with world.make(regions=[US, EU]) as ex:
        calls = [ex.submit(note, proof, str(each)) for each in range(4)]
        there = ex.options(region=EU).submit(note, proof, "eu")
        command = ex.options(region=US).submit_command("echo $((6*7))")
        assert [each.result(PATIENCE) for each in calls] == list("0123")
        assert there.result(PATIENCE) == "eu" and command.result(PATIENCE).stdout == "42\n"
        assert (there.region, command.region) == (EU, US)
        assert {each.region for each in calls} == {US, EU}
        with pytest.raises(ValueError, match="ap-south-1"):
            ex.options(region="ap-south-1").submit(int)
    assert (world.count(US), world.count(EU)) == (3, 3)


@pytest.mark.parametrize("fallback", [EU, "local"])
def test_another_place_takes_what_a_region_that_is_away_would_have(
    world: Regions, tmp_path: Path, fallback: str
) -> None:
    """Nothing would run until the region is back; or what it may have got, run twice."""
    proof = tmp_path / "ran"
    with world.make(fallback=fallback, max_workers=2) as ex:
        assert ex.submit(note, proof, "before").result(PATIENCE) == "before"
        early = away(world, ex, proof)
        late = [ex.submit(note, proof, f"late-{each}") for each in range(2)]
        assert [each.result(PATIENCE) for each in late] == ["late-0", "late-1"]
        where = EU if fallback == EU else None
        assert {each.region for each in late} == {where}
        moved = [each.result(PATIENCE) for each in early[2:]]  # they waited there
        assert not any(each.done() for each in early[:2]), "in doubt, so they stay"
        world.front.away.clear()
        assert not wait(early, PATIENCE).not_done and moved == ["early-2", "early-3"]
        with pytest.raises(ValueError, match="region"):
            ex.options(region="ap-south-1").submit(int)
    assert set(noted(proof).values()) == {1} and len(noted(proof)) == 7


def test_a_spool_keeps_jobs_until_the_region_is_back(world: Regions, tmp_path: Path) -> None:
    """Jobs of an outage would be lost, or be sent twice when it is over."""
    proof, state = tmp_path / "ran", tmp_path / "state"
    with world.make(fallback="spool", state_dir=state, max_workers=2) as ex:
        early = away(world, ex, proof)
        begun = time.monotonic()
        with ThreadPoolExecutor(50) as pool:
            late = list(pool.map(lambda n: ex.submit(note, proof, f"late-{n}"), range(50)))
        took = time.monotonic() - begun
        print(f"50 submissions at once, with the region away: {took:.2f} s")
        assert took < PATIENCE / 10
        assert late[0].status() == "pending" and all(each.cancel() for each in late[6:])
        assert not wait(late[:6], 0.5).done and world.count(US) == 0
        world.front.away.clear()
        assert not wait([*early, *late], PATIENCE).not_done
    assert set(noted(proof).values()) == {1} and len(noted(proof)) == 10


def test_a_program_begins_while_its_region_is_away(world: Regions, tmp_path: Path) -> None:
    """It could not be started at all, or would lose what it submits."""
    proof = tmp_path / "ran"
    world.front.away.add(US)
    with pytest.raises(AwsError):
        world.make()
    with world.make(fallback="spool") as ex:
        call = ex.submit(note, proof, "x")
        assert call.status() == "pending" and call.region is None
        world.front.away.clear()
        assert call.result(PATIENCE) == "x" and call.region == US


def test_without_a_fallback_an_error_says_so(world: Regions, tmp_path: Path) -> None:
    """A program would wait for a region, and not know it."""
    proof = tmp_path / "ran"
    with world.make(regions=[US], max_workers=2) as ex:
        early = away(world, ex, proof)
        with pytest.raises(TargetAwayError, match="us-east-1: no answer"):
            while True:
                ex.submit(note, proof, "refused")
        world.front.away.clear()
        assert not wait(early, PATIENCE).not_done


def test_a_submission_in_doubt_is_never_made_elsewhere(world: Regions, tmp_path: Path) -> None:
    """Its work would be done twice: there, and where it was taken to."""
    proof = tmp_path / "ran"
    with world.make(fallback=EU, max_workers=2) as ex:
        world.accounts[US].server.faults.add("SubmitJob", Fault.LOST_ANSWER, 2)
        calls = [ex.submit(note, proof, str(each)) for each in range(5)]
        until(lambda: world.count(US) == 2, PATIENCE)
        world.front.away.add(US)
        until(lambda: sum(each.done() for each in calls) >= 3, PATIENCE)
        elsewhere = [each for each in calls if each.done()]
        assert {each.region for each in elsewhere} == {EU} and len(elsewhere) == 3
        world.front.away.clear()
        assert sorted(each.result(PATIENCE) for each in calls) == list("01234")
        assert world.count(US) == 2
    assert set(noted(proof).values()) == {1}


def test_a_region_that_throttles_is_not_away(world: Regions, tmp_path: Path) -> None:
    """Jobs would leave a region that is only busy."""
    proof = tmp_path / "ran"
    with world.make(fallback="local") as ex:
        world.accounts[US].server.faults.add("SubmitJob", Fault.THROTTLED, 6)
        calls = [ex.submit(note, proof, str(each)) for each in range(3)]
        assert [each.result(PATIENCE) for each in calls] == list("012")
        assert {each.region for each in calls} == {US}


def test_two_executors_share_a_regions_rate(world: Regions) -> None:
    """Two of them would make twice as many calls as a region allows."""
    with world.make(name="one") as one, world.make(name="two") as two:
        regions = [each._session.targets[0]._region.region for each in (one, two)]  # type: ignore[attr-defined]
        assert regions[0] is regions[1] and len(shared_regions._regions) == 1
    assert not shared_regions._regions
