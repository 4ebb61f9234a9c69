"""What a later call of the same command is told, that a person would not think of."""

from __future__ import annotations

import signal

from world import World

LONG = {
    "job_id": "long",
    "command": "test -e go || { touch began; exec sleep 60; }",
    "timeout": "2m",
}


def test_a_changed_environment_is_told_by_names(world: World) -> None:
    """Half of the jobs would run with one learning rate, half with another, without a word."""
    document = world.document(LONG)
    run = world.start("run", document, env={"RATE": "0.1", "TOKEN": "s3cret", "SAME": "x"})
    world.until_file("began")
    run.send_signal(signal.SIGTERM)
    assert run.wait(20) == 104
    (world.home / "go").touch()
    later = {"RATE": "0.2", "NEW": "y", "SAME": "x", "SHLVL": "7", "TERM": "vt100"}
    done = world.call("run", document, env=later)
    assert done.returncode == 0
    assert "the environment differs from that of the run so far: NEW, RATE, TOKEN;" in done.stderr
    assert "s3cret" not in done.stderr and "0.2" not in done.stderr
    # It has ended: nothing runs any more with another one.
    assert "environment" not in world.call("run", document).stderr
    assert b"s3cret" not in (world.state / "queues/q/state.db").read_bytes()


def test_the_same_environment_is_not_worth_a_word(world: World) -> None:
    """A warning that comes each time is not read."""
    document = world.document(LONG)
    run = world.start("run", document)
    world.until_file("began")
    run.send_signal(signal.SIGTERM)
    assert run.wait(20) == 104
    (world.home / "go").touch()
    done = world.call("run", document)
    assert done.returncode == 0 and "environment" not in done.stderr


def test_a_queue_of_each_night_says_that_nothing_ran(world: World) -> None:
    """From cron it would run once in its life, and exit with 0 each night."""
    document = world.document({**LONG, "command": "echo >> ran"})
    assert world.call("run", document).returncode == 0
    again = world.call("run", document)
    assert again.returncode == 0
    for word in ("nothing was started", "--fresh", "queue_id"):
        assert word in again.stderr
    world.daemon()
    assert (
        world.call("submit", world.document({**LONG, "command": "true"}, name="n")).returncode == 0
    )
    assert world.call("wait", "--queue", "n").returncode == 0
    told = world.call("submit", "n.json")
    assert told.returncode == 0
    assert "nothing was started" in told.stderr and "--fresh" in told.stderr
    assert (world.home / "ran").read_text() == "\n"


def test_submit_says_where_jobs_start_if_that_matters(world: World) -> None:
    """A document that works with `run` would fail with `submit`, all of its jobs, twice each."""
    world.daemon()
    (world.home / "hi.sh").write_text("echo hi")
    job = {**LONG, "command": "bash hi.sh || bash /bin/true.sh -- x; cd .."}
    told = world.call("submit", world.document(job))
    work = world.state / "queues/q/work"
    assert f'jobs start in {work}, and not here: "hi.sh"' in told.stderr
    assert str(world.home) in told.stderr and told.stdout == "q submitted\n"
    here = world.document(job, name="r", working_directory=str(world.home))
    assert world.call("submit", here).stderr == ""
    assert world.call("submit", world.document({**job, "command": "true"}, name="s")).stderr == ""
