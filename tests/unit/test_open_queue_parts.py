"""The small parts of an open queue on a daemon: messages, marks, files, options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from core_driver import drive, job

from runner.api.daemon_options import RECONNECT_TIMEOUT, check_options
from runner.api.daemon_sender import BATCH, batches
from runner.cli.show.text import headline, openness
from runner.control.protocol import (
    HEAD,
    MAX_ADD_LINE,
    MAX_LINE,
    decode_answer,
    encode_error,
    encode_request,
    line_limit,
)
from runner.core import events as ev
from runner.errors import ConflictError, DiskFullError, LockedError, RunnerError, UsageError
from runner.service.call_files import CallFiles
from runner.service.open_queue import MOST_KEY, OPEN_KEY, Opener, is_open_queue, most_of, was_opened


def test_only_jobs_that_are_added_may_be_long() -> None:
    """A few long lines of rubbish would hold up every queue for seconds."""
    line = encode_request("add_jobs", jobs="x" * 200_000, queue="q", session="s")
    assert line_limit(line[:HEAD], may_act=True) == MAX_ADD_LINE
    assert line_limit(line[:HEAD], may_act=False) == MAX_LINE
    for request in ("store_call", "end_jobs", "changes"):
        with pytest.raises(UsageError, match="at most 64 KiB"):
            encode_request(request, jobs="x" * 200_000)
    with pytest.raises(UsageError, match="MiB"):
        encode_request("add_jobs", jobs="x" * (MAX_ADD_LINE + 1))


@pytest.mark.parametrize("error", [LockedError("a"), ConflictError("b"), UsageError("c")])
def test_an_error_comes_as_what_it_was(error: RunnerError) -> None:
    """A program could not tell a name that is in use from one that is wrong."""
    with pytest.raises(RunnerError) as caught:
        decode_answer(encode_error(error))
    assert type(caught.value) is type(error) and caught.value.exit_code == error.exit_code
    assert str(caught.value) == str(error)


def test_a_session_that_has_finished_is_not_opened_again() -> None:
    """The state would say both that the queue has ended and that it takes jobs."""
    q = drive(job("a"))
    q.ok("a")
    assert q.core.finished
    q.send(ev.IntakeChanged(q.now(), True))
    assert (q.status, q.core.queue.accepts_jobs) == ("completed", False)


def test_an_opener_is_there_as_long_as_its_process() -> None:
    """A name would stay in use by a process that has gone, or by another with its pid."""
    assert Opener.of("token", os.getpid()).alive
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert not Opener.of("token", pid).alive and not Opener.of("token", 0).alive
    assert not Opener("token", os.getpid(), 1).alive


def test_what_is_noted_of_a_queue_is_read_with_care() -> None:
    """A damaged word would end the daemon, or start a million jobs at once."""
    assert is_open_queue({OPEN_KEY: "executor"}) and was_opened({"owner": "executor"})
    assert not is_open_queue({"owner": "executor"}) and not was_opened({"owner": "daemon"})
    assert [most_of({MOST_KEY: each}) for each in ("4", "", "-1", "x", "9" * 9)] == [
        4, None, None, None, None,
    ]  # fmt: skip


def test_an_open_queue_is_told_of_in_words() -> None:
    """People would wait for the end of a queue that waits for them."""
    queue: dict[str, Any] = {"queue_id": "q", "status": "running", "accepts_jobs": True}
    assert openness({**queue, "counts": {"completed": 3}}) == "open: waits for jobs"
    assert openness({**queue, "counts": {"pending": 1}}) == "open: takes jobs"
    assert openness({"queue_id": "q", "status": "running"}) is None
    told = headline({**queue, "counts": {"completed": 3}, "paused": True})
    assert told == "q running, open: waits for jobs, paused"


def test_nothing_that_a_job_left_is_followed(tmp_path: Path) -> None:
    """A job could have the daemon read, or write, files that it may not."""
    folder = tmp_path / "payloads"
    files = CallFiles(folder, None)
    files.prepare()
    files.prepare()
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (folder / ".a.call.part").symlink_to(secret)
    with pytest.raises(RunnerError, match=r"\.call"):
        files.store("a", b"x", 0, last=True)
    (folder / "b.result.1").symlink_to(secret)
    with pytest.raises(RunnerError, match=r"b\.result\.1"):
        files.read("b", 1, 0)
    os.mkfifo(folder / "c.result.1")
    with pytest.raises(RunnerError, match="is not a file"):
        files.read("c", 1, 0)
    assert secret.read_text() == "mine"
    (folder / "d.result.2.refused").write_text("why")
    assert files.read("d", 2, 1) == ("refused", b"hy", 3) and files.read("d", 1, 0) is None
    files.store("e", b"x", 0, last=True)
    files.forget(["e", "f"])
    assert not (folder / "e.call").exists()


def test_calls_leave_the_reserve_alone(tmp_path: Path) -> None:
    """A program that submits large arguments would take the room that running jobs need."""
    files = CallFiles(tmp_path / "payloads", None, lambda: "disk full: 0 KiB free")
    files.prepare()
    with pytest.raises(DiskFullError, match="disk full"):
        files.store("a", b"x", 0, last=True)
    assert list((tmp_path / "payloads").iterdir()) == []


def test_ids_go_in_parts_that_fit() -> None:
    """A request with thousands of ids would be refused, and their jobs go on."""
    ids = [f"{'x' * 100}-{number}" for number in range(3_000)]
    parts = list(batches(ids))
    assert [each for part in parts for each in part] == ids and len(parts) > 5
    assert all(sum(len(each) + 3 for each in part) <= BATCH for part in parts)
    assert list(batches([])) == [] and list(batches(["y" * 2 * BATCH])) == [["y" * 2 * BATCH]]


def test_options_are_checked_before_a_daemon_is_asked() -> None:
    """A typing error would be an error of the connection, or be found by the tenth job."""
    assert check_options({})["reconnect_timeout"] == RECONNECT_TIMEOUT
    assert check_options({"reconnect_timeout": "1m"})["reconnect_timeout"] == 60
    assert check_options({"reconnect_timeout": 0, "socket": "x"})["socket"] == Path("x").absolute()
    for wrong in ({"max_workers": 0}, {"reconnect_timeout": -1}, {"reconnect_timeout": "1d"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            check_options(wrong)
    for odd in ({"max_workers": "4"}, {"max_workers": True}, {"socket": 3}, {"state_dir": b"x"[0]}):
        with pytest.raises(TypeError, match=next(iter(odd))):
            check_options(odd)
