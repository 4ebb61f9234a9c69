"""Whose a result store is: two state folders never believe both that it is theirs."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from runner.errors import DiskError
from runner.results import claim
from runner.results.claim import StoreClaim, SucceededError, holder
from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.store import ChangedError
from runner.store.folder_id import folder_id

STATE = b'{"run_id": "r", "status": "running"}'


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def mine(store: FolderStore, name: str = "h", epoch: int = 0, run: str = "r") -> StoreClaim:
    return StoreClaim(store, Layout(), run, epoch, name)


def stored(store: FolderStore) -> dict[str, object]:
    data = store.get_bytes("queue-state.json")
    assert data is not None
    found: dict[str, object] = json.loads(data)
    return found


def test_two_state_folders_of_one_machine_are_two_holders(store: FolderStore) -> None:
    """Containers of one image would mix their results, and neither be told."""
    first, second = mine(store, "a"), mine(store, "b")
    first.put_state(STATE)
    second.put_state(STATE)
    assert (first.epoch, second.epoch, stored(store)["holder"]) == (1, 2, "b")
    with pytest.raises(SucceededError, match="epoch 2, ours is 1"):
        first.put_state(STATE)
    with pytest.raises(SucceededError):
        first.check()
    second.put_state(STATE)


def test_a_copy_of_the_whole_machine_is_noticed_by_the_one_that_was_there(
    store: FolderStore,
) -> None:
    """Two machines made of one disk would both store, in turn, over each other."""
    first = mine(store)
    first.put_state(STATE)
    first.put_state(STATE)
    copy = mine(store, epoch=1)
    copy.put_state(STATE)
    with pytest.raises(SucceededError, match="a copy of its disk"):
        first.put_state(STATE)
    with pytest.raises(SucceededError, match="a copy of its disk"):
        first.check()
    copy.put_state(STATE)
    assert copy.epoch == 1


def test_the_next_process_goes_on_with_the_claim(store: FolderStore) -> None:
    """A restart would be taken for another machine, and give its own queue up."""
    for _ in range(3):
        after = mine(store, epoch=1)
        after.check()
        after.put_state(STATE)
        after.put_state(STATE)
        assert after.epoch == 1


def test_a_late_write_of_the_process_before_is_no_copy(store: FolderStore) -> None:
    """A thread that was left behind would have the queue given up by who goes on with it."""
    before, after = mine(store), mine(store)
    before.put_state(STATE)
    after.check()
    before.put_state(b'{"run_id": "r", "status": "late"}')
    after.put_state(STATE)
    assert stored(store)["status"] == "running"
    with pytest.raises(SucceededError):
        before.put_state(STATE)
    assert stored(store)["status"] == "running"


def test_an_answer_that_was_lost_is_our_own(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken connection would look like a copy of the machine."""
    ours = mine(store)
    ours.put_state(STATE)
    swap, lost = store.swap_bytes, [True]

    def losing(key: str, data: bytes, seen: str | None) -> str:
        version = swap(key, data, seen)
        if lost.pop() if lost else False:
            raise ChangedError("it has changed")
        return version

    monkeypatch.setattr(store, "swap_bytes", losing)
    ours.put_state(STATE)
    assert ours.epoch == 1


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"run_id": "z", "epoch": 1e999}', b'{"run_id": 7}', b"[" * 100_000]
)
def test_what_is_no_state_is_nobodys(store: FolderStore, data: bytes) -> None:
    """A damaged object would end all uploads of the queue."""
    ours = mine(store)
    ours.put_state(STATE)
    store.put_bytes("queue-state.json", data)
    ours.put_state(STATE)
    assert stored(store)["epoch"] == 1


def test_a_holder_is_a_folder_on_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copied disk, or a second folder, would be taken for the first one."""
    told = {claim._MACHINE_ID: b"m", claim._ASSET: b""}
    monkeypatch.setattr(claim, "_read", lambda path: told[path])
    one = holder("r", b"f")
    others = [holder("r", b"g"), holder("s", b"f")]
    told[claim._MACHINE_ID] = b"n"
    others.append(holder("r", b"f"))
    told[claim._ASSET] = b"i-1"
    others.append(holder("r", b"f"))
    assert len({one, *others}) == 5
    assert one not in (b"m", b"f")


def test_a_folder_has_one_id_whoever_makes_it(tmp_path: Path) -> None:
    """Two processes that start at once would be two holders of one state."""
    path = tmp_path / "folder-id"
    begin, found = threading.Barrier(4), []

    def make() -> None:
        begin.wait()
        found.append(folder_id(path))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found[0]) == 32
    assert folder_id(path) == found[0] and path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["folder-id"]
    assert folder_id(tmp_path / "other") not in found


def test_an_empty_id_is_made_anew_and_any_other_stays(tmp_path: Path) -> None:
    """A power cut would leave all machines it met with one and the same id."""
    path = tmp_path / "folder-id"
    path.touch()
    assert len(folder_id(path)) == 32
    path.write_bytes(b"mine")
    assert folder_id(path) == b"mine"
    with pytest.raises(DiskError):
        folder_id(tmp_path / "no/such")
