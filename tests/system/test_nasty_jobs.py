"""Jobs that do what jobs should not, run by the real command: the programs are in ``nasty/``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness import Bench, Document, eventually, queue

from runner.process.identity import SHIM_MARK

NASTY = Path(__file__).parent / "nasty"

TIMEOUT = "2s"
"""Of jobs that are not to end by themselves: by then they do what they should not."""

AMPLE = "20s"
"""Of grace. What dies of its SIGTERM needs a processor for it, which others have for a while."""

STRAY_SECONDS = f"1000.{os.getpid()}"
"""The argument of a process that can be known by nothing else."""


def program(name: str, *arguments: object) -> str:
    """The command that runs one of the programs."""
    interpreter = sys.executable if name.endswith(".py") else "/bin/bash"
    return " ".join([interpreter, str(NASTY / name), *map(str, arguments)])


def nasty_queue(root: Path) -> Document:
    """Everything that needs no look at it while it runs, side by side."""
    gone = root / "gone"
    gone.mkdir()
    here = {"working_directory": str(root)}
    unkept = root / "unkept.sock"
    long_command = f"echo {'x' * 120 * 1024} | wc -c"
    jobs: list[Document] = [
        {"job_id": "ignores-term", "command": program("ignores_term.sh"), "timeout": TIMEOUT},
        {"job_id": "daemonises", "command": program("daemonises.py")},
        {
            "job_id": "daemonises-and-stays",
            "command": program("daemonises.py", "stay"),
            "timeout": TIMEOUT,
            "term_grace": AMPLE,
        },
        {
            "job_id": "leaves-group",
            "command": program("leaves_group.py") + "; exit 3",
            "timeout": TIMEOUT,
            "term_grace": AMPLE,
        },
        {"job_id": "closes-stdout", "command": program("closes_stdout.py", 3)},
        {"job_id": "binary", "command": program("binary.py")},
        {
            "job_id": "stops-itself",
            "command": program("stops_itself.sh"),
            "timeout": TIMEOUT,
            "term_grace": AMPLE,
        },
        {"job_id": "kills-parent", "command": program("kills_parent.sh", STRAY_SECONDS)},
        {"job_id": "stops-parent", "command": program("stops_parent.sh"), "timeout": TIMEOUT},
        {
            "job_id": "removes-folder",
            "command": program("removes_folder.sh"),
            "working_directory": str(gone),
        },
        {
            "job_id": "after-removal",
            "command": "true",
            "working_directory": str(gone),
            "depends_on": ["removes-folder"],
            "retry": {"max_attempts": 3, "backoff": "fixed", "base_delay": "10ms"},
        },
        {"job_id": "exits-255", "command": "exit 255"},
        {"job_id": "long-command", "command": long_command},
        {"job_id": "thousand-children", "command": program("thousand_children.sh")},
        {
            "job_id": "saves-and-exits",
            "command": program("saves_and_exits.py"),
            "timeout": TIMEOUT,
            "term_grace": AMPLE,
        },
        {"job_id": "exits-137", "command": "exit 137"},
        {"job_id": "kills-itself", "command": "kill -9 $$"},
        {"job_id": "tees", "command": program("tees.sh", root / "tee.log"), **here},
        {"job_id": "unkept-server", "command": program("serve.py", unkept)},
        {
            "job_id": "unkept-client",
            "command": program("ask.py", unkept),
            "depends_on": ["unkept-server"],
        },
    ]
    # In pairs that must come one after the other, but else all at once.
    return queue(*jobs, max_parallel_jobs=6)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The queue of nasty jobs, run to its end."""
    with Bench(tmp_path_factory.mktemp("nasty")) as bench:
        assert bench.run(nasty_queue(bench.root)) == 100
        yield bench


def told(bench: Bench, job_id: str) -> dict[str, Any]:
    """What the state says of a job, less times and what goes without saying."""
    unsaid = {
        "job_id",
        "first_started_at",
        "started_at",
        "completed_at",
        "duration_seconds",
        "results_uploaded",
    }
    unsaid |= {"logs_uploaded", "cpu_seconds", "max_rss_bytes"}
    return {name: value for name, value in bench.job(job_id).items() if name not in unsaid}


def timed_out(**more: Any) -> dict[str, Any]:
    return failed(f"command timed out after {TIMEOUT}", timed_out=True, **more)


def failed(message: str, **more: Any) -> dict[str, Any]:
    return {"status": "failed", "attempt": 1, "error_message": message, **more}


COMPLETED = {"status": "completed", "attempt": 1, "exit_code": 0}


def test_one_that_ignores_sigterm_is_killed(ended: Bench) -> None:
    """A job that ignores SIGTERM would run for ever."""
    assert told(ended, "ignores-term") == timed_out(signal="SIGKILL")
    # Its timeout and 300 ms of grace.
    assert 2.3 <= ended.job("ignores-term")["duration_seconds"] < 20


def test_a_daemonised_grandchild_costs_the_job_nothing(ended: Bench) -> None:
    """What a command leaves behind would change its result, or hold the queue up for long."""
    assert told(ended, "daemonises") == COMPLETED
    # Its daemon ignores SIGTERM: it is killed three seconds after the command's end.
    assert ended.job("daemonises")["duration_seconds"] < 3


def test_a_daemonised_grandchild_goes_with_a_timeout(ended: Bench) -> None:
    """The timeout of a job that has a daemon would not be told, or not as what it is."""
    assert told(ended, "daemonises-and-stays") == timed_out(signal="SIGTERM")


def test_one_that_leaves_its_process_group_is_ended(ended: Bench) -> None:
    """A signal to the group would miss the job, which is in another by now."""
    assert told(ended, "leaves-group") == timed_out(signal="SIGTERM")


def test_closing_all_descriptors_is_no_end(ended: Bench) -> None:
    """The end of its output would be taken for the end of the job."""
    message = "command execution failed: exit status 3"
    assert told(ended, "closes-stdout") == failed(message, exit_code=3)
    assert ended.log("closes-stdout") == b"last words\n"


def test_output_is_kept_byte_by_byte(ended: Bench) -> None:
    """Output that is no UTF-8 would be changed, or break somebody."""
    assert told(ended, "binary") == COMPLETED
    assert ended.log("binary") == bytes(range(256)) * 8 + b"\xff\xfe\xed\xa0\x80\xc3"
    assert ended.log("binary", "stderr") == b"\x1b[31m\x80\x00" + b"\r\n" * 3 + b"\xf8"


def test_a_stopped_job_is_ended_by_its_timeout(ended: Bench) -> None:
    """SIGTERM would wait for ever in front of a stopped process."""
    assert told(ended, "stops-itself") == timed_out(signal="SIGTERM")


def test_one_that_kills_its_shim_is_given_up_after_five_times(ended: Bench) -> None:
    """A job that nobody can tell the end of would be run again for ever."""
    message = "interrupted 5 times in a row without notice: its supervising process was killed"
    expected = failed(message) | {"attempt": 5, "interruptions": 5, "unannounced": 5}
    assert told(ended, "kills-parent") == expected


def test_nothing_of_a_killed_shim_stays(ended: Bench) -> None:
    """A process that hides would survive five attempts of its job, five times."""
    assert not [line for line in all_commands() if STRAY_SECONDS in line]


def test_one_that_stops_its_shim_is_ended_by_its_timeout(ended: Bench) -> None:
    """A job could hold its slot for ever by stopping who watches it."""
    assert told(ended, "stops-parent") == timed_out(exit_code=0)


def test_one_may_remove_its_folder(ended: Bench) -> None:
    """The shim would be stuck in a folder that is no more."""
    assert told(ended, "removes-folder") == COMPLETED


def test_a_missing_folder_is_told_and_not_retried(ended: Bench) -> None:
    """A working directory that isn't there would be retried, or told as something else."""
    message = f"working directory {ended.root / 'gone'} does not exist"
    assert told(ended, "after-removal") == failed(message)


def test_exit_code_255(ended: Bench) -> None:
    """255 would be taken for -1 or for a signal."""
    expected = failed("command execution failed: exit status 255", exit_code=255)
    assert told(ended, "exits-255") == expected


def test_a_command_of_120_kib(ended: Bench) -> None:
    """A long command would be cut on its way to its shim."""
    assert told(ended, "long-command") == COMPLETED
    assert ended.log("long-command") == b"122881\n"


def test_a_thousand_children_end_with_their_job(ended: Bench) -> None:
    """A crowd of leftovers would take too long to end, or change the result."""
    assert told(ended, "thousand-children") == COMPLETED
    assert ended.log("thousand-children") == b"started\n"


def test_exit_0_after_our_sigterm_is_no_success(ended: Bench) -> None:
    """A trainer that was cut off in the middle would count as completed."""
    assert told(ended, "saves-and-exits") == timed_out(exit_code=0)
    assert ended.log("saves-and-exits") == b"training\nsaved\n"


def test_exit_137_is_no_signal(ended: Bench) -> None:
    """A shell's 128 + 9 would be taken for a kill."""
    expected = failed("command execution failed: exit status 137", exit_code=137)
    assert told(ended, "exits-137") == expected


def test_sigkill_is_no_exit_code(ended: Bench) -> None:
    """A kill would be told as exit code 137."""
    assert told(ended, "kills-itself") == failed(
        "command killed by signal SIGKILL", signal="SIGKILL"
    )


def test_all_that_went_through_tee_is_in_the_log(ended: Bench) -> None:
    """The last lines of a child that outlives the command would be lost."""
    lines = b"".join(b"line %d\n" % number for number in range(1, 1001))
    assert told(ended, "tees") == COMPLETED
    assert ended.log("tees") == lines
    assert (ended.root / "tee.log").read_bytes() == lines


def test_a_server_ends_with_its_job(ended: Bench) -> None:
    """A forgotten server would be there for the next job, or for ever."""
    assert told(ended, "unkept-server") == COMPLETED
    assert told(ended, "unkept-client") == failed(
        "command execution failed: exit status 1", exit_code=1
    )
    assert b"ConnectionRefusedError" in ended.log("unkept-client", "stderr")


def test_nothing_is_left_of_any_of_them(ended: Bench) -> None:
    """Processes of jobs, shims or the forker would outlive the queue."""
    ended.nothing_left()


def test_no_process_is_named_when_none_runs(ended: Bench) -> None:
    """The state would name the pid of a stranger."""
    assert [job for job in ended.state()["jobs"] if "pid" in job] == []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench of its own."""
    with Bench(tmp_path) as made:
        yield made


def test_a_kept_server_lives_until_the_queue_ends(bench: Bench) -> None:
    """A server that a set-up job starts would be gone before it is needed, or stay for ever."""
    place = bench.root / "kept.sock"
    ask = program("ask.py", place)
    document = queue(
        {"job_id": "server", "command": program("serve.py", place), "keep_background": True},
        {"job_id": "early", "command": ask, "depends_on": ["server"]},
        # By then what isn't kept would have had its second, and its SIGTERM.
        {"job_id": "late", "command": f"sleep 1.3; {ask}", "depends_on": ["early"]},
    )
    assert bench.run(document) == 0
    assert bench.log("early") == b"hello\n" and bench.log("late") == b"hello\n"
    bench.nothing_left()


def test_a_flood_of_output_costs_no_memory(bench: Bench) -> None:
    """A job's output would pass through the daemon, or its shim, and fill their memory."""
    if shutil.disk_usage(bench.root).free < 3 << 30:
        pytest.skip("3 GiB of free disk are needed")
    gate = f"until [ -e {bench.root}/$JOB_ID ]; do sleep 0.02; done"
    document = queue(
        {"job_id": "before", "command": gate},
        {"job_id": "flood", "command": "head -c 1G /dev/zero", "depends_on": ["before"]},
        {"job_id": "after", "command": gate, "depends_on": ["flood"]},
    )
    bench.write(document)
    run = bench.start()
    peaks = []
    for job_id in ("before", "after"):
        eventually(partial(runs, bench, job_id), f"{job_id} to run", 60)
        peaks.append({pid: peak_memory(pid) for pid in runners(bench, run.pid)})
        (bench.root / job_id).touch()
    assert run.wait(10) == 0
    log = bench.log_dir / "jobs" / "flood-stdout.log"
    assert log.stat().st_size == 1 << 30
    log.unlink()
    before, after = peaks
    assert before and before.keys() == after.keys()
    growth = {pid: after[pid] - before[pid] for pid in before}
    assert max(growth.values()) < 3 << 20, growth
    bench.nothing_left()


def runs(bench: Bench, job_id: str) -> bool:
    """Whether the state names a process of the job."""
    return "pid" in bench.job(job_id)


def runners(bench: Bench, run: int) -> list[int]:
    """The run itself, its forker and its shims: all that is no job's."""
    return [run, *(pid for pid, line in bench.living().items() if SHIM_MARK in line)]


def peak_memory(pid: int) -> int:
    """The most that was ever resident of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"{pid} has no memory")


def all_commands() -> list[str]:
    """The command lines of all processes."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.append(Path(f"/proc/{name}/cmdline").read_text(errors="replace"))
            except OSError:
                pass
    return found
