"""The journal of a queue in its result store: what is stored is what is read, once."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest

from runner.core.events import Now
from runner.core.states import JobState, JobStatus, Live, QueueState, QueueStatus
from runner.errors import StateError
from runner.results import journal
from runner.results.claim import SucceededError
from runner.results.journal import JournalPart, JournalState, put_part, read_journal
from runner.results.layout import Layout
from runner.results.store import ChangedError, Entry

RUN = "0123456789abcdef"
DIGEST = journal.digest_of("{}")
QUEUE = QueueState(RUN, QueueStatus.RUNNING, mono=-3.5, starts=2)
LIVE = JobState(JobStatus.RUNNING, attempt=1, live=Live("01234567-1", 0, 1, since=-70.25))
DONE = JobState(JobStatus.COMPLETED, attempt=1, exit_code=0)


class Store:
    """Objects in memory."""

    parallel = 4

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def describe(self) -> str:
        return "s3://bucket/queue"

    def get_bytes(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def swap_bytes(self, key: str, data: bytes, expected: str | None) -> str:
        if (key in self.objects) is not (expected is not None):
            raise ChangedError(key)
        self.objects[key] = data
        return key

    def list(self, prefix: str) -> Iterator[Entry]:
        return iter([Entry(key, 1) for key in self.objects if key.startswith(prefix)])

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)


@pytest.fixture
def store() -> Store:
    return Store()


def put(
    store: Store,
    seq: int,
    jobs: dict[int, JobState],
    requests: dict[str, float] | None = None,
    *,
    whole: bool = False,
) -> JournalPart:
    moment = Now(1000.0 + seq, float(seq))
    document = DIGEST if whole else None
    part = JournalPart("writer", moment, QUEUE, jobs, requests or {}, document)
    put_part(store, Layout(), RUN, seq, part)  # type: ignore[arg-type]
    return part


def state_of(store: Store) -> JournalState | None:
    return read_journal(store, Layout(), RUN)  # type: ignore[arg-type]


def test_records_are_read_as_they_were_stored(store: Store) -> None:
    """A driver would go on from another state than the one that was acted upon."""
    put(store, 1, {0: LIVE}, whole=True, requests={"a": 5.0})
    put(store, 2, {1: DONE})
    put(store, 3, {0: DONE, 2: LIVE}, requests={"b": 6.0})
    found = state_of(store)
    assert found is not None
    assert (found.last, found.moment, found.queue) == (3, Now(1003.0, 3.0), QUEUE)
    assert found.jobs == {0: DONE, 1: DONE, 2: LIVE}
    assert found.requests == {"a": 5.0, "b": 6.0}


def test_a_whole_part_stands_for_all_before_it(store: Store) -> None:
    """A job that begins anew would be what it was before, and reading take as long as the run."""
    put(store, 1, {0: LIVE, 1: DONE}, whole=True)
    put(store, 2, {0: DONE})
    for seq in range(3, 40):
        put(store, seq, {2: LIVE}, whole=seq == 30)
    found = state_of(store)
    assert found is not None and found.jobs == {2: LIVE}
    for seq in range(1, 30):
        del store.objects[Layout().journal_key(RUN, seq)]
    assert state_of(store) == found


def test_a_part_that_another_driver_has_stored_is_not_replaced(store: Store) -> None:
    """Two drivers would both start the same jobs."""
    put(store, 1, {}, whole=True)
    other = JournalPart("other", Now(1.0, 1.0), QUEUE, {0: DONE})
    with pytest.raises(SucceededError):
        put_part(store, Layout(), RUN, 1, other)  # type: ignore[arg-type]
    assert state_of(store) == JournalState(1, Now(1001.0, 1.0), QUEUE, {}, {}, DIGEST)


def test_the_same_part_again_is_no_other_driver(store: Store) -> None:
    """A driver whose answer was lost would take itself for its successor."""
    part = put(store, 1, {0: DONE}, whole=True)
    put_part(store, Layout(), RUN, 1, part)  # type: ignore[arg-type]


def test_a_missing_or_damaged_part_is_told(store: Store) -> None:
    """A driver would go on without what had happened, and start jobs twice."""
    put(store, 1, {}, whole=True)
    put(store, 2, {0: DONE})
    put(store, 3, {1: DONE})
    del store.objects[Layout().journal_key(RUN, 2)]
    with pytest.raises(StateError, match=r"0002\.json\.gz in s3://bucket/queue is missing"):
        state_of(store)
    for bad, why in (
        (b"{}", "is not gzip"),
        (gzip.compress(b"{}")[:-4], "is cut off"),
        (gzip.compress(b"[]"), "must be an object"),
        (gzip.compress(b'{"version": 2}'), "required"),
    ):
        store.objects[Layout().journal_key(RUN, 2)] = bad
        with pytest.raises(StateError, match=why):
            state_of(store)


def test_deeper_keys_are_no_parts(store: Store) -> None:
    """A job that may write below any jobs/ could make its queue's journal look incomplete."""
    put(store, 1, {0: LIVE})
    store.objects[f"{Layout().journal_prefix(RUN)}jobs/000000000009.json.gz"] = b""
    assert journal.last_part(store, Layout(), RUN) == 1  # type: ignore[arg-type]


def test_a_job_that_the_document_has_not_is_told(store: Store) -> None:
    """Records of one document would be taken for those of another."""
    put(store, 1, {7: DONE}, whole=True)
    found = state_of(store)
    assert found is not None
    found.check(8)
    with pytest.raises(StateError, match="not in its document"):
        found.check(7)


def test_a_journal_without_its_beginning_is_told(store: Store) -> None:
    """A driver would take all jobs for new that nothing has changed since."""
    put(store, 1, {0: DONE})
    with pytest.raises(StateError, match="of which document"):
        state_of(store)


def test_old_parts_go_and_the_newest_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of weeks would leave a million objects, or a part that is needed would be gone."""
    monkeypatch.setattr(journal, "KEPT", 10)
    for seq in range(1, 31):
        put(store, seq, {0: DONE}, whole=seq in (1, 30))
    journal.remove_old_parts(store, Layout(), RUN, 30)  # type: ignore[arg-type]
    assert sorted(store.objects)[0] == Layout().journal_key(RUN, 21)
    assert state_of(store) is not None
