"""The real daemon: what is submitted is done, in order, whatever becomes of the service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from world import World, talk

from runner.cli.main import run_command
from runner.store.paths import StatePaths
from runner.targets.here import daemons


def gate(world: World, name: str, **more: Any) -> dict[str, Any]:
    """A job that says `began.<name>` and its pid, and ends with 0 when there is `go.<name>`."""
    began, go = world.home / f"began.{name}", world.home / f"go.{name}"
    command = f"echo $$ >> {began}; until [ -e {go} ]; do sleep 0.02; done; echo end"
    return {"job_id": name, "command": command, "timeout": "5m", **more}


def starts(world: World, name: str) -> int:
    """How often a gate was begun."""
    try:
        return len((world.home / f"began.{name}").read_text().split())
    except FileNotFoundError:
        return 0


def begun(world: World, name: str, times: int = 1) -> None:
    world.until(lambda: starts(world, name) == times)


def release(world: World, name: str) -> None:
    (world.home / f"go.{name}").touch()


def simple(name: str = "ok", command: str = "true", **more: Any) -> dict[str, Any]:
    return {"job_id": name, "command": command, "timeout": "1m", **more}


def submit(world: World, *jobs: dict[str, Any], name: str = "q", **queue: Any) -> str:
    """Write and submit a document; what the command says."""
    flags = queue.pop("flags", [])
    done = world.call("submit", world.document(*jobs, name=name, **queue), *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


def status_of(world: World, queue: str = "q") -> str:
    return str(world.ask("status", queue=queue, limit=0)["queue"]["status"])


def test_a_submitted_queue_is_done_and_twice_is_once(world: World) -> None:
    """A queue would be lost, or done twice because a script asked twice."""
    world.daemon()
    assert submit(world, gate(world, "a")) == "q submitted\n"
    begun(world, "a")
    assert submit(world, gate(world, "a")) == "q there already (running)\n"
    shown = world.call("status").stdout
    assert "Worker:      the daemon (pid " in shown and " of 5m0s" in shown
    release(world, "a")
    assert world.call("wait").returncode == 0
    assert world.data("submit", "q.json") == {
        "queue_id": "q",
        "created": False,
        "status": "completed",
    }
    assert starts(world, "a") == 1 and len(world.data("queues")) == 1
    assert (world.state / "queues/q/work").is_dir()


def test_the_order_of_queues_survives_kill_9(world: World) -> None:
    """After a crash the newest queue could go first, or one be forgotten."""
    daemon = world.daemon()
    for name in "dbca":
        submit(world, gate(world, name), name=name)
    begun(world, "d")
    waiting = world.data("status", "--queue", "c")
    assert waiting["blocked"] == "waits for queue 'd' to end" and "queued" in waiting
    assert "none yet: it waits for the daemon" in world.call("status", "--queue", "c").stdout
    daemon.kill()
    daemon.wait()
    world.daemon()
    for name in "dbca":
        begun(world, name)
        release(world, name)
    assert world.call("wait", "--queue", "a").returncode == 0
    queues = world.data("queues")
    assert [queue["queue_id"] for queue in queues] == list("dbca")
    times = [(queue["started_at"], queue["completed_at"]) for queue in queues]
    assert all(before[1] <= after[0] for before, after in pairwise(times))
    assert starts(world, "d") == 1, "adopted"


def test_sigterm_leaves_the_jobs_to_the_next_start(world: World) -> None:
    """A restart or an upgrade of the service would cost the work of hours."""
    daemon = world.daemon()
    submit(world, gate(world, "a"))
    begun(world, "a")
    daemon.terminate()
    assert daemon.wait(20) == 0
    assert "jobs go on, and the next start adopts them; `runner stop` ends them" in world.stderr
    os.kill(int((world.home / "began.a").read_text()), 0)
    world.daemon()
    world.until(lambda: "attempt_adopted" in world.stderr)
    release(world, "a")
    assert world.call("wait").returncode == 0
    assert starts(world, "a") == 1 and world.jobs()["a"]["attempt"] == 1


def test_stop_interrupts_the_jobs_and_the_next_start_resumes(world: World) -> None:
    """`runner stop` would leave jobs behind, or cost a job its retries."""
    daemon = world.daemon()
    submit(world, gate(world, "a"))
    begun(world, "a")
    told = world.data("stop")
    assert told["pid"] == daemon.pid
    assert daemon.poll() == 0, "it has ended when stop says so"
    assert world.jobs()["a"]["status"] == "interrupted"
    assert world.call("wait").returncode == 104
    assert world.call("stop").returncode == 106
    world.daemon()
    begun(world, "a", 2)
    assert world.call("status", "--exit-code").returncode == 101
    release(world, "a")
    assert world.call("wait").returncode == 0
    assert world.jobs()["a"]["attempt"] == 2 and world.jobs()["a"]["interruptions"] == 1


def test_who_waits_or_follows_is_not_cut_off_by_a_restart(world: World) -> None:
    """A script would end at the first upgrade of the service."""
    daemon = world.daemon()
    submit(world, gate(world, "a"))
    begun(world, "a")
    pipes = {"stdout": subprocess.PIPE}
    wait = world.start("wait", **pipes)
    logs = world.start("logs", "-f", "a", **pipes)
    watch = world.start("status", "--watch", "--exit-code", **pipes)
    assert watch.stdout is not None and wait.stdout is not None and logs.stdout is not None
    assert watch.stdout.readline() == b"q running (1 running)\n"
    for client in (wait, logs):
        world.until(lambda client=client: waits_for_an_answer(client.pid))
    daemon.kill()
    daemon.wait()
    world.until(lambda: "no process works on q any more" in world.stderr)
    world.daemon()
    release(world, "a")
    assert (wait.wait(20), logs.wait(20), watch.wait(20)) == (0, 0, 0)
    assert wait.stdout.read() == b"q completed\n"
    assert logs.stdout.read() == b"end\n"
    assert watch.stdout.read().endswith(b"q completed (1 completed)\n")


def waits_for_an_answer(pid: int) -> bool:
    """Whether a client has asked, and does nothing any more but wait."""
    before = switches(pid)
    time.sleep(0.2)  # reason: doing nothing needs a span
    return sockets(pid) > 0 and switches(pid) == before


def switches(pid: int) -> list[str]:
    """How often a process has got and lost the processor (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [line for line in status if "ctxt_switches" in line]


def sockets(pid: int) -> int:
    """How many sockets a process has open (proc(5))."""
    found = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            pass
    return found


def test_fresh_ends_what_runs_and_begins_anew(world: World) -> None:
    """Two runs of one queue would mix."""
    world.daemon()
    submit(world, gate(world, "a"))
    begun(world, "a")
    first = world.data("status")["run_id"]
    pid = int((world.home / "began.a").read_text())
    assert submit(world, gate(world, "a"), flags=["--fresh"]) == "q submitted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    begun(world, "a", 2)
    assert world.data("status")["run_id"] != first
    aside = [queue["kept_as"] for queue in world.data("queues") if "kept_as" in queue]
    assert len(aside) == 1 and aside[0].startswith("q.2")
    assert world.data("status", "--queue", aside[0])["run_id"] == first
    assert world.call("retry", "--queue", aside[0]).returncode == 2
    release(world, "a")
    assert world.call("wait").returncode == 0
    submit(world, simple("b"), flags=["--fresh"])
    assert world.call("wait").returncode == 0
    assert len(world.data("queues")) == 3


def test_retry_failed_runs_what_failed_again(world: World) -> None:
    """A user would have to run a whole night again for one job."""
    flag = world.home / "fixed"
    world.daemon()
    jobs = [
        gate(world, "a"),
        simple("bad", f"[ -e {flag} ]"),
        simple("c", depends_on=["bad"]),
    ]
    submit(world, *jobs)
    release(world, "a")
    assert world.call("wait").returncode == 100
    assert world.jobs()["c"]["status"] == "skipped"
    flag.touch()
    assert submit(world, *jobs) == "q there already (failed)\n"
    assert status_of(world) == "failed", "a finished queue is left alone"
    submit(world, *jobs, flags=["--retry-failed"])
    assert world.call("wait").returncode == 0
    assert starts(world, "a") == 1
    assert [job["attempt"] for job in world.jobs().values()] == [1, 2, 1]
    again = world.call("retry")
    assert again.returncode == 2 and "has nothing to retry: it is completed" in again.stderr


def test_retry_failed_on_a_running_queue_takes_what_has_failed_so_far(world: World) -> None:
    """A user would have to wait for the end to repeat a job."""
    flag = world.home / "fixed"
    world.daemon()
    jobs = [simple("bad", f"[ -e {flag} ]"), gate(world, "a")]
    submit(world, *jobs, on_failure="continue")
    begun(world, "a")
    flag.touch()
    submit(world, *jobs, on_failure="continue", flags=["--retry-failed"])
    release(world, "a")
    assert world.call("wait").returncode == 0
    assert starts(world, "a") == 1 and world.jobs()["bad"]["attempt"] == 2


def test_update_takes_what_has_not_started_and_nothing_else(world: World) -> None:
    """A running job's command would change under it, or no queue could be added to."""
    world.daemon()
    submit(world, gate(world, "a"), simple("b", "exit 3", depends_on=["a"]))
    begun(world, "a")
    world.document(gate(world, "a"), simple("b", depends_on=["a"]), simple("c"))
    refused = world.call("submit", "q.json")
    assert refused.returncode == 2 and "jobs[1].command differs" in refused.stderr
    updated = world.call("submit", "q.json", "--update")
    assert updated.stdout == "q there already (running)\n"
    world.document(gate(world, "a", term_grace="1s"), simple("b"), simple("c"))
    changed = world.call("submit", "q.json", "--update")
    assert changed.returncode == 2
    assert 'jobs[0] "a" is running, so it can\'t change (term_grace' in changed.stderr
    release(world, "a")
    assert world.call("wait").returncode == 0
    assert starts(world, "a") == 1, "it was adopted by the changed queue"
    assert {name: job["status"] for name, job in world.jobs().items()} == dict.fromkeys(
        "abc", "completed"
    )
    world.document(gate(world, "a"), simple("b", depends_on=["a"]), simple("c"), simple("d"))
    assert world.call("submit", "q.json", "--update").returncode == 0
    assert world.call("wait").returncode == 0
    assert world.jobs()["d"]["status"] == "completed"


def test_a_document_with_errors_is_refused_by_both_ends(world: World) -> None:
    """The daemon would trust whoever speaks to it."""
    world.daemon()
    (world.home / "q.json").write_text('{"queue_name": "x", "jobs": []}')
    done = world.call("submit", "q.json")
    assert done.returncode == 2 and "global_timeout" in done.stderr
    told = world.ask("submit", document='{"queue_name": "x", "jobs": []}')
    assert told["error"]["exit_code"] == 2 and "global_timeout" in told["error"]["message"]
    assert not list((world.state / "queues").glob("*")) if (world.state / "queues").exists() else 1


def test_a_queue_without_an_id_is_its_own_until_it_has_ended(world: World) -> None:
    """A second submit of the same file would run it beside the first."""
    world.daemon()
    first = submit(world, gate(world, "a"), queue_id=None).split()[0]
    begun(world, "a")
    assert first.startswith("queue-2")
    assert submit(world, gate(world, "a"), queue_id=None) == f"{first} there already (running)\n"
    release(world, "a")
    assert world.call("wait", "--queue", first).returncode == 0
    second = submit(world, gate(world, "a"), queue_id=None)
    assert second.endswith(" submitted\n") and second.split()[0] != first
    assert world.call("wait", "--queue", second.split()[0]).returncode == 0


def test_what_acts_reaches_a_queue_wherever_it_is(world: World) -> None:
    """A queue in the line could not be cancelled before it begins."""
    world.daemon()
    submit(world, gate(world, "a"), simple("b", depends_on=["a"]))
    submit(world, simple(), simple("other"), name="next")
    begun(world, "a")
    assert world.data("pause", "--queue", "next")["paused"] is True
    assert world.data("cancel", "other", "--queue", "next")["counts"]["cancelled"] == 1
    assert world.data("pause")["paused"] is True
    release(world, "a")
    world.until(lambda: world.ask("job", job="a")["job"]["status"] == "completed")
    assert world.ask("job", job="b")["job"]["status"] == "pending"
    assert "running, paused" in world.call("pause").stdout
    assert world.call("unpause").returncode == 0
    assert world.call("wait", "--queue", "q").returncode == 0
    begun_next = world.call("wait", "--queue", "next", "--timeout", "300ms")
    assert begun_next.returncode == 101, "it is paused"
    world.call("unpause", "--queue", "next")
    assert world.call("wait", "--queue", "next").returncode == 103
    statuses = {name: job["status"] for name, job in world.jobs("next").items()}
    assert statuses == {"ok": "completed", "other": "cancelled"}


def test_a_second_daemon_is_refused_by_name(world: World) -> None:
    """Two services would do one queue at once."""
    daemon = world.daemon()
    second = world.call("daemon")
    assert second.returncode == 1 and f"in use by runner daemon (pid {daemon.pid})" in second.stderr
    elsewhere = world.call("daemon", "--state-dir", str(world.home / "other"))
    assert elsewhere.returncode == 1
    assert f"runner.sock is in use by process {daemon.pid}" in elsewhere.stderr
    assert world.ask("ping")["pid"] == daemon.pid
    beside = world.start(
        "daemon", "--state-dir", str(world.home / "other"), "--run-dir", str(world.home / "r")
    )
    world.until((world.home / "r/runner.sock").exists)
    other = talk(world.home / "r/runner.sock", {"request": "ping"})
    assert other["pid"] == beside.pid


def test_a_run_and_the_daemon_respect_each_other(world: World) -> None:
    """A queue would be worked on twice at the same time."""
    daemon = world.daemon()
    submit(world, gate(world, "a"))
    begun(world, "a")
    refused = world.call("run", "q.json")
    assert refused.returncode == 1 and f"runner daemon (pid {daemon.pid})" in refused.stderr
    world.document(gate(world, "b"), name="mine")
    run = world.start("run", "mine.json")
    begun(world, "b")
    refused = world.call("submit", "mine.json")
    assert refused.returncode == 1 and f"in use by runner run (pid {run.pid})" in refused.stderr
    shown = world.call("status", "--queue", "mine").stdout
    assert f"Worker:      runner run (pid {run.pid})" in shown
    assert "Worker:      the daemon" in world.call("status", "--queue", "q").stdout
    stopped = world.call("stop", "--queue", "mine")
    assert stopped.stdout == f"stopped runner run (pid {run.pid})\n" and run.wait(20) == 104
    assert world.call("stop", "--queue", "mine").returncode == 106
    release(world, "a")
    assert world.call("wait", "--queue", "q").returncode == 0
    asked = world.call("wait", "--queue", "mine")
    assert asked.returncode == 104 and "no process works on mine" in asked.stderr


def test_a_queue_that_can_not_be_read_stops_no_other(world: World) -> None:
    """One damaged file would stop all the work of a machine."""
    world.daemon()
    submit(world, simple(), name="broken")
    assert world.call("wait", "--queue", "broken").returncode == 0
    assert world.call("stop").returncode == 0
    database = world.state / "queues/broken/state.db"
    rubbish = b"not a database at all" * 1000
    database.write_bytes(rubbish)
    for left in database.parent.glob("state.db-*"):
        left.unlink()
    world.daemon()
    submit(world, simple(), name="fine")
    assert world.call("wait", "--queue", "fine").returncode == 0
    world.until(lambda: "event=queue_unreadable queue=broken" in world.stderr)
    shown = world.call("status", "--queue", "broken")
    assert shown.returncode == 1 and "--fresh" in shown.stderr and str(database) in shown.stderr
    assert "unreadable" in world.call("queues").stdout
    refused = world.call("submit", "broken.json")
    assert refused.returncode == 1 and database.read_bytes() == rubbish
    assert submit(world, simple(), name="broken", flags=["--fresh"]) == "broken submitted\n"
    assert world.call("wait", "--queue", "broken").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to say as whom jobs run")
def test_root_has_to_say_as_whom_jobs_run(world: World) -> None:
    """Everybody's jobs would run as root by chance."""
    world.config.write_text(world.config.read_text().replace('job_user = "root"', ""))
    refused = world.call("daemon")
    assert refused.returncode == 2 and "job_user" in refused.stderr
    assert str(world.config) in refused.stderr and not world.state.exists()


def test_finished_queues_are_kept_thirty_days(world: World) -> None:
    """The disk would fill, or a queue of yesterday be gone."""
    world.daemon()
    submit(world, simple(), name="old")
    assert world.call("wait", "--queue", "old").returncode == 0
    submit(world, gate(world, "a"))
    begun(world, "a")
    assert world.call("prune").stdout == "nothing to remove\n"
    assert world.data("prune", "--older-than", "1ms", "--dry-run") == ["old"]
    assert world.call("status", "--queue", "old").returncode == 0
    assert world.data("prune", "--older-than", "1ms", "--queue", "q") == []
    assert world.call("prune", "--older-than", "1ms").stdout == "removed old\n"
    assert world.call("status", "--queue", "old").returncode == 102
    assert not (world.logs / "queues/old").exists() and starts(world, "a") == 1
    release(world, "a")
    assert world.call("wait").returncode == 0
    assert world.call("stop").returncode == 0
    world.config.write_text(world.config.read_text() + 'queue_retention = "1ms"\n')
    world.daemon()
    world.until(lambda: "event=queue_pruned queue=q" in world.stderr)
    assert world.data("queues") == []


def test_a_service_that_hangs_is_told_from_one_that_is_not_there(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`status` would hang with it, or `cancel` act behind its back."""
    daemon = world.daemon()
    submit(world, gate(world, "a"))
    begun(world, "a")
    monkeypatch.setattr(daemons, "ANSWER_WITHIN", 0.3)
    monkeypatch.setenv("RUNNER_CONFIG", str(world.config))
    daemon.send_signal(signal.SIGSTOP)
    try:
        assert run_command(["status", "--json"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["status"] == "running" and "this is from the disk" in err
        assert run_command(["cancel", "--all"]) == 106
        assert "no answer from" in capsys.readouterr().err
        assert run_command(["stop"]) == 106
    finally:
        daemon.send_signal(signal.SIGCONT)
    assert status_of(world) == "running"


def test_a_run_folder_of_any_depth_will_do(world: World) -> None:
    """A socket's name has room for 108 bytes, a user's home has not."""
    deep = world.home / ("d" * 90) / ("e" * 90)
    world.config.write_text(world.config.read_text().replace(str(world.run_dir), str(deep)))
    world.run_dir = deep
    world.daemon()
    submit(world, simple())
    assert world.call("wait").returncode == 0


def test_a_log_that_nobody_reads_disturbs_no_queue(world: World) -> None:
    """`runner daemon 2>&1 | head` would stop all work at its first line."""
    read, write = os.pipe()
    os.close(read)
    world.daemon(stderr=write)
    os.close(write)
    submit(world, simple(), simple("b"))
    assert world.call("wait").returncode == 0
    assert world.call("stop").returncode == 0


def test_a_work_folder_laid_out_before_is_the_queues(world: World) -> None:
    """The code that a launch has shipped would not be where its jobs look for it."""
    staged = StatePaths(world.state).staged_work("q")
    staged.mkdir(parents=True)
    (staged / "code").write_text("shipped\n")
    world.daemon()
    submit(world, simple(command="cat code"))
    assert world.call("wait").returncode == 0
    assert world.call("logs", "ok").stdout == "shipped\n"
    assert not staged.exists()
