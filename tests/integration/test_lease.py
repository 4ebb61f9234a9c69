"""The lease of a store: one holder, later epochs win, and a lost answer is nobody's fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_endpoint import Endpoint
from s3_faults import FaultProxy, Match, ResetAnswer

from runner.results.claim import SucceededError
from runner.results.lease import Held, Lease, parse_lease
from runner.results.store import ResultStore, StoreError, Versioned
from runner.results.stores import open_store

KEY = "lease.json"


@pytest.fixture
def proxy(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    made = FaultProxy(endpoint.port)
    for name, value in {**endpoint.env, "AWS_ENDPOINT_URL": made.url}.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


@pytest.fixture(params=["folder", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, endpoint: Endpoint, proxy: FaultProxy
) -> Iterator[ResultStore]:
    where = str(tmp_path) if request.param == "folder" else f"s3://{endpoint.bucket()}/p"
    made = open_store(where)
    yield made
    made.close()


def lease(store: ResultStore, machine: str, run: str = "r") -> Lease:
    """One that another machine, or another run, has."""
    made = Lease(store, run, machine, 120.0)
    made.instance_id = f"i-{machine}"
    return made


def held(store: ResultStore) -> Held:
    found = parse_lease(store.get_versioned(KEY))
    assert found is not None
    return found


def test_a_later_epoch_wins(store: ResultStore) -> None:
    """Two machines would both believe that the queue is theirs."""
    first, second = lease(store, "a"), lease(store, "b")
    first.renew(1)
    first.renew(1)
    assert (held(store).instance_id, held(store).valid_for) == ("i-a", 120.0)
    second.renew(2)
    with pytest.raises(SucceededError, match=r"taken over by i-b \(run r, epoch 2; ours is 1\)"):
        first.renew(1)
    second.renew(2)
    assert held(store).epoch == 2
    second.renew(2, released=True)
    assert held(store).released


def test_a_renewal_in_between_doesnt_keep_the_later_one_out(store: ResultStore) -> None:
    """The machine that EC2 has forgotten would keep its successor from beginning."""
    first, second = lease(store, "a"), lease(store, "b")
    first.renew(1)
    second.check(2)
    first.renew(1)
    second.renew(2)
    assert held(store).instance_id == "i-b"


def test_a_daemon_that_starts_again_has_its_own_lease(store: ResultStore) -> None:
    """A restart would look like another machine."""
    lease(store, "a").renew(5)
    again = lease(store, "a")
    again.check(1)
    again.renew(5)
    with pytest.raises(SucceededError):
        lease(store, "a", run="another").check(4)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"epoch": "x"}', b"\xff", b"null"])
def test_what_is_no_lease_keeps_nobody_out(store: ResultStore, data: bytes) -> None:
    """A damaged object would end all work on the queue."""
    store.put_bytes(KEY, data)
    lease(store, "a").renew(1)
    assert held(store).epoch == 1


def test_a_lost_answer_is_no_other_machine(endpoint: Endpoint, proxy: FaultProxy) -> None:
    """A connection that broke would make a machine give up its own queue."""
    bucket = endpoint.bucket()
    store = open_store(f"s3://{bucket}/p")
    mine = lease(store, "a")
    mine.renew(1)
    proxy.fail(Match("PUT", "p/lease.json"), ResetAnswer(), times=4)
    with pytest.raises(StoreError):
        mine.renew(1)
    mine.renew(1)
    with proxy.closed_door(), pytest.raises(StoreError):
        mine.renew(1)
    mine.renew(1)
    told = json.loads(endpoint.read(bucket, "p/lease.json"))
    assert (told["epoch"], told["instance_id"], told["released"]) == (1, "i-a", False)
    store.close()


def test_old_and_foreign_fields_are_read() -> None:
    """A later version's lease would count as none."""
    told = {"run_id": "r", "epoch": 3, "holder": "h", "more": [1]}
    assert parse_lease(Versioned(json.dumps(told).encode(), "v")) == Held("r", 3, "h")
    assert parse_lease(None) is None
