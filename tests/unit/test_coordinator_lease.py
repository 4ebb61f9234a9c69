"""Whether a coordinator may begin: by the lease of the queue's store, and by what Batch knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from runner.errors import ConflictError
from runner.results.store import Versioned
from runner.service.coordinator import CoordinatorRequest, wait_for_lease
from runner.service.session import RunContext


class Store:
    """``leases``: what each look at it finds, the last one for good."""

    def __init__(self, *leases: dict[str, Any] | None) -> None:
        self._leases = list(leases)
        self.looks = 0

    def describe(self) -> str:
        return "s3://bucket/queue"

    def get_versioned(self, key: str) -> Versioned | None:
        found = self._leases[min(self.looks, len(self._leases) - 1)]
        self.looks += 1
        if found is None:
            return None
        data = json.dumps({"run_id": "r", "epoch": 1, "holder": "h", **found}).encode()
        return Versioned(data, json.dumps(found))


def lease(job: str | None = "other", n: int = 0, **more: Any) -> dict[str, Any]:
    told = {"instance_id": job, "valid_for_seconds": 120.0, "renewed_at": f"{n}"}
    return {**told, **more}


def wait(store: Store, ended: Callable[[str], bool] = lambda job: False) -> float:
    """How many seconds it has waited."""
    passed = [0.0]

    def sleep(seconds: float) -> None:
        passed[0] += seconds

    request = CoordinatorRequest("s3://b/q", RunContext({}, None), own_job="own", has_ended=ended)
    wait_for_lease(store, request, lambda line: None, lambda: passed[0], sleep)  # type: ignore[arg-type]
    return passed[0]


@pytest.mark.parametrize("found", [None, lease(released=True), lease("own"), {"epoch": "rubbish"}])
def test_nobody_is_waited_for_who_is_gone(found: dict[str, Any] | None) -> None:
    """Each start of a lost coordinator would cost two minutes more."""
    assert wait(Store(found)) == 0.0


def test_a_coordinator_that_batch_knows_to_have_ended_is_not_waited_for() -> None:
    """`resume` would wait for a job that is over."""
    assert wait(Store(lease("gone")), lambda job: job == "gone") == 0.0


def test_a_lease_that_nobody_renews_runs_out() -> None:
    """A queue whose driver is lost would never go on, or be driven by two."""
    assert 120.0 <= wait(Store(lease())) <= 125.0


def test_a_lease_that_is_renewed_is_another_drivers() -> None:
    """Two coordinators would fight for one queue."""
    with pytest.raises(ConflictError, match="other drives the queue in s3://bucket/queue"):
        wait(Store(lease(n=1), lease(n=1), lease(n=2)))


def test_a_lease_that_ends_meanwhile_is_waited_for_no_longer() -> None:
    """A driver that says goodbye would be waited for all the same."""
    store = Store(lease(n=1), lease(n=1), lease(n=2, released=True))
    assert 0.0 < wait(store) <= 10.0
