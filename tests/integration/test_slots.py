"""The record file: what is claimed once is claimed, and what is torn is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.process.identity import Process
from runner.process.shim_records import RECORD_SIZE, AttemptClaim, Exit, ShimRecordFile, Work

CLAIM = AttemptClaim(123, 4567, 89.25, "0b1e7e4c-8f5f-4b0e-9d59-2f3f0a1c7d11.7")
EXIT = Exit("exit", "3", 99.5, 1700000000.25)


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[ShimRecordFile]:
    """An empty record file."""
    file = ShimRecordFile.open(str(tmp_path / "attempts"))
    yield file
    file.close()


def test_what_is_written_is_read(slots: ShimRecordFile) -> None:
    """A restarted daemon would not find what the one before it had started."""
    slots.prepare(3, "t-1")
    assert slots.claim(3, "t-1", CLAIM)
    slots.write_command(3, "t-1", Process(124, 4568))
    slots.write_exit(3, "t-1", EXIT)
    state = slots.read(3)
    assert state.claim == CLAIM and state.command == Process(124, 4568) and state.exit == EXIT
    assert state.claim.shim == Process(123, 4567)
    assert slots.read(2).token == "" and slots.read(400).token == ""


def test_a_record_says_whose_attempt_it_is(slots: ShimRecordFile) -> None:
    """A living attempt of a state that is lost would be nobody's; or its shim couldn't write."""
    slots.prepare(0, "t-1", Work(99_999, 100))
    assert slots.claim(0, "t-1", CLAIM) and not slots.void(0, "t-1")
    slots.write_exit(0, "t-1", EXIT)
    assert (slots.read(0).work, slots.read(0).exit) == (Work(99_999, 100), EXIT)
    slots.prepare(0, "t-2")
    assert slots.read(0).work is None


def test_a_claim_is_taken_once(slots: ShimRecordFile) -> None:
    """Two shims would run one attempt side by side."""
    slots.prepare(0, "t-1")
    assert slots.claim(0, "t-1", CLAIM)
    assert not slots.claim(0, "t-1", CLAIM._replace(pid=9))
    assert not slots.void(0, "t-1")
    assert slots.read(0).claim == CLAIM


def test_a_void_start_cannot_be_claimed(slots: ShimRecordFile) -> None:
    """A late shim would run what a restarted daemon has started anew."""
    slots.prepare(0, "t-1")
    assert slots.void(0, "t-1") and slots.void(0, "t-1")
    assert not slots.claim(0, "t-1", CLAIM)
    assert slots.read(0).voided and slots.read(0).claim is None


def test_one_token_can_do_nothing_to_another(slots: ShimRecordFile) -> None:
    """A shim that comes late would write into the record of the attempt after its own."""
    slots.prepare(0, "t-1")
    slots.prepare(0, "t-2")
    before = os.pread(slots.fd, RECORD_SIZE, 0)
    assert not slots.claim(0, "t-1", CLAIM) and not slots.void(0, "t-1")
    slots.write_command(0, "t-1", Process(1, 2))
    slots.write_exit(0, "t-1", EXIT)
    assert os.pread(slots.fd, RECORD_SIZE, 0) == before


def test_claims_race_between_processes(slots: ShimRecordFile) -> None:
    """A daemon that forbids a start, while its shim claims it, would believe it had."""
    for number in range(200):
        token = f"t-{number}"
        slots.prepare(0, token)
        child = os.fork()
        if child == 0:
            os._exit(0 if slots.claim(0, token, CLAIM) else 1)
        voided = slots.void(0, token)
        claimed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert voided != claimed
        assert slots.read(0).voided == voided and bool(slots.read(0).claim) == claimed


def test_a_torn_record_is_none(slots: ShimRecordFile) -> None:
    """Half a number would be taken for a pid, or half an exit code for a whole one."""
    slots.prepare(0, "t-1")
    slots.claim(0, "t-1", CLAIM)
    slots.write_command(0, "t-1", Process(12345, 67890))
    slots.write_exit(0, "t-1", Exit("exit", "255", 1.5, 2.5))
    whole = os.pread(slots.fd, RECORD_SIZE, 0)
    expected = slots.read(0)
    for start, end in ((64, 192), (192, 256), (256, 512)):
        for cut in range(start, end):
            os.pwrite(slots.fd, whole[:cut] + b" " * (end - cut) + whole[end:], 0)
            state = slots.read(0)
            assert state.claim in (None, expected.claim)
            assert state.command in (None, expected.command)
            assert state.exit in (None, expected.exit)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 100, 192, 200, 256, 300, 511])
def test_a_truncated_file_is_read_as_far_as_it_goes(slots: ShimRecordFile, size: int) -> None:
    """A file that somebody cut would break the daemon, or lie to it."""
    slots.prepare(0, "t-1")
    slots.claim(0, "t-1", CLAIM)
    os.ftruncate(slots.fd, size)
    state = slots.read(0)
    assert state.claim in (None, CLAIM) and state.exit is None
    slots.prepare(0, "t-2")
    assert slots.claim(0, "t-2", CLAIM)


def test_foreign_content_is_nothing(slots: ShimRecordFile) -> None:
    """Another file in its place would name processes to signal."""
    os.pwrite(slots.fd, os.urandom(2 * RECORD_SIZE), 0)
    assert slots.read(0).claim is None and slots.read(0).exit is None
    os.pwrite(slots.fd, b"intent t-1\n".ljust(64) + b"claim t-1 1 x y z\n".ljust(448), 0)
    assert slots.read(0).token == "t-1" and slots.read(0).claim is None


@pytest.mark.parametrize("value", ["ü€𝄞" * 200, "a b\nc", "\udce9", "x" * 4000, ""], ids=range(5))
def test_any_text_is_recorded(slots: ShimRecordFile, value: str) -> None:
    """An end with a long or odd text would be torn, and the attempt lost."""
    slots.prepare(0, "t-1")
    slots.claim(0, "t-1", CLAIM)
    slots.write_exit(0, "t-1", Exit("unrunnable", value, 1.0, 2.0))
    end = slots.read(0).exit
    assert end is not None and end.kind == "unrunnable"
    assert end.value[:2].split() == (value.split() or ["-"])[0][:2].split() or "\\udc" in end.value
    assert os.fstat(slots.fd).st_size % RECORD_SIZE == 0


def test_slots_don_t_touch_their_neighbours(slots: ShimRecordFile) -> None:
    """A long record would run into the next slot."""
    for slot in range(20):
        slots.prepare(slot, f"t-{slot}")
    for slot in range(20):
        slots.claim(slot, f"t-{slot}", CLAIM)
        slots.write_exit(slot, f"t-{slot}", Exit("void", "€" * 300, 1.0, float(slot)))
    for slot in range(20):
        state = slots.read(slot)
        assert state.token == f"t-{slot}" and state.exit is not None
        assert state.exit.wall == float(slot)


def test_a_record_needs_no_new_blocks(slots: ShimRecordFile) -> None:
    """A full disk would swallow a claim, or the end of a job that had run for days."""
    slots.prepare(0, "t-1")
    blocks = os.fstat(slots.fd).st_blocks
    slots.claim(0, "t-1", CLAIM)
    slots.write_command(0, "t-1", Process(1, 2))
    slots.write_exit(0, "t-1", EXIT)
    assert os.fstat(slots.fd).st_blocks == blocks > 0


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """The records would be written to wherever somebody's link leads."""
    (tmp_path / "victim").touch()
    (tmp_path / "attempts").symlink_to("victim")
    with pytest.raises(OSError):
        ShimRecordFile.open(str(tmp_path / "attempts"))
