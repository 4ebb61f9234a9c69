"""A queue that is opened and added to over the daemon's socket, as any program may do it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import World, talk

SESSION = "0123456789abcdef"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all of them: they use queues of their own."""
    made = World(tmp_path_factory.mktemp("world"))
    try:
        made.daemon()
        yield made
    finally:
        made.close()


def jobs(*some: dict[str, Any]) -> str:
    return json.dumps({"jobs": [{"timeout": "1m", "command": "true", **each} for each in some]})


def opened(world: World, name: str, **more: Any) -> dict[str, Any]:
    answer = world.ask("open_queue", queue=name, session=SESSION, **more)
    assert answer["ok"], answer
    return answer


def add(world: World, name: str, *some: dict[str, Any]) -> dict[str, Any]:
    return world.ask("add_jobs", jobs=jobs(*some), queue=name, session=SESSION)


def fault(answer: dict[str, Any]) -> str:
    assert answer["ok"] is False, answer
    return f"{answer['error'].get('kind', answer['error']['code'])}: {answer['error']['message']}"


def test_jobs_are_added_once_and_told_of(world: World) -> None:
    """A request whose answer was lost would run its jobs twice, or be refused."""
    first = opened(world, "once", most=2)
    assert first["created"] and first["jobs_total"] == 0
    assert not opened(world, "once")["created"]
    some: list[dict[str, Any]] = [
        {"job_id": "a", "command": "echo {{x}} $((6*7))"},
        {"job_id": "b", "depends_on": ["a"]},
    ]
    assert add(world, "once", *some)["added"] == 2
    assert add(world, "once", *some)["added"] == 0
    assert add(world, "once", {"job_id": "c"}, *some)["added"] == 1
    another = fault(add(world, "once", {"job_id": "d"}, {"job_id": "b", "command": "false"}))
    assert another == "conflict: the queue has another job 'b' already"
    ended: dict[str, Any] = {}
    after = first["after"]
    while ended.keys() != {"a", "b", "c"}:
        told = world.ask("changes", queue="once", after=after, timeout=10)
        after = told["after"]
        ended |= {j["job_id"]: j for j in told["changes"] if j["status"] == "completed"}
    assert ended["a"]["exit_code"] == 0 and told["run_id"] == first["run_id"]
    assert (world.logs / "queues/once/jobs/a-stdout.log").read_text() == "{{x}} 42\n"
    assert world.ask("close", queue="once")["ok"]
    world.ask("wait", queue="once", timeout=20)
    stored = world.ask("changes", queue="once", after=0)
    assert {each["job_id"] for each in stored["changes"]} == {"a", "b", "c"}
    assert stored["after"] >= after and stored["status"] == "completed"
    one = world.ask("changes", queue="once", jobs=["b", "nothing"])["changes"]
    assert [(each["job_id"], each["status"]) for each in one] == [("b", "completed")]
    assert world.ask("result_files", queue="once", job="a")["files"] == []


def test_an_open_queue_is_shown_and_closed(world: World) -> None:
    """Nobody would know why a queue without work doesn't end, nor how to end it."""
    opened(world, "left")
    world.until(lambda: world.ask("status", queue="left", limit=0)["queue"].get("worker"))
    assert "Status:      running (open: waits for jobs)" in said(world, "status", "left")
    assert said(world, "queues", "left").rstrip().endswith("open: waits for jobs")
    assert said(world, "close", "left").startswith("left ")
    ended = world.ask("wait", queue="left", timeout=20)["queue"]
    assert (ended["status"], "accepts_jobs" in ended) == ("completed", False)
    assert world.ask("close", queue="left")["ok"], "it is closed already"
    assert "is closed: it takes no more jobs" in fault(add(world, "left", {"job_id": "a"}))
    assert opened(world, "left")["created"] is False
    assert add(world, "left", {"job_id": "a"})["added"] == 1


def said(world: World, verb: str, queue: str) -> str:
    done = world.call(verb, "--queue", queue)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_wrong_is_refused_and_nothing_is_added(world: World) -> None:
    """Half of a request would be carried out, or rubbish be run."""
    opened(world, "wrong")
    for text, told in {
        "{": "expecting a key",
        '{"jobs": [{"job_id": "a"}]}': "jobs[0].command: is required",
        jobs({"job_id": "a", "comand": "x"}): 'did you mean "command"',
        jobs({"job_id": "a"}, {"job_id": "a"}): "is also the id of jobs[0]",
        jobs({"job_id": "a", "depends_on": ["x"]}): 'there is no job "x"',
        jobs({"job_id": "a", "image": "x"}): "containers are not run on one machine",
        jobs({"job_id": "a", "array": 3}): "can't be added",
        '{"jobs": [], "env": {}}': 'only "jobs"',
    }.items():
        answer = world.ask("add_jobs", jobs=text, queue="wrong", session=SESSION)
        assert told in fault(answer), (text, answer)
    assert "is not an id" in fault(world.ask("open_queue", queue="../x", session=SESSION))
    assert '"session" is' in fault(world.ask("open_queue", queue="x", session="short"))
    assert '"most" is a whole number' in fault(
        world.ask("open_queue", queue="x", session=SESSION, most=0)
    )
    assert "there is no queue" in fault(add(world, "nothing", {"job_id": "a"}))
    assert world.ask("status", queue="wrong")["queue"]["jobs_total"] == 0
    assert not (world.state / "queues/x").exists()


def test_a_queue_of_a_document_takes_no_jobs(world: World) -> None:
    """A document would say one thing, and its queue do another."""
    job = {"job_id": "a", "command": "true", "timeout": "1m"}
    document = (world.home / world.document(job, name="doc")).read_text()
    assert world.ask("submit", document=document)["ok"]
    refused = fault(world.ask("open_queue", queue="doc", session=SESSION))
    assert "conflict: queue 'doc' was made from a document: give the Executor another" in refused
    assert "takes no jobs" in fault(add(world, "doc", {"job_id": "b"}))
    assert "was made from a document" in fault(world.ask("close", queue="doc"))


def test_who_may_only_look_sees_no_results(world: World) -> None:
    """Everybody on the machine could run jobs, or read what functions return."""
    opened(world, "mine")
    looking = world.run_dir / "runner-ro.sock"
    for request, fields in {
        "open_queue": {"session": SESSION},
        "add_jobs": {"jobs": jobs(), "session": SESSION},
        "close": {},
        "end_jobs": {"jobs": ["a"]},
        "store_call": {"job": "a", "data": ""},
        "forget_calls": {"jobs": ["a"]},
        "read_result": {"job": "a"},
        "result_files": {"job": "a"},
        "changes": {},
    }.items():
        answer = talk(looking, {"v": 1, "request": request, "queue": "mine", **fields})
        assert "permission denied" in fault(answer), request


def test_a_call_arrives_in_pieces_and_is_the_jobs_users_alone(world: World) -> None:
    """A payload that was cut off would be called, or anybody could read it."""
    opened(world, "calls")

    def store(data: bytes, offset: int, *, last: bool) -> dict[str, Any]:
        told = base64.b64encode(data).decode()
        return world.ask("store_call", data=told, queue="calls", job="a", offset=offset, last=last)

    call = world.state / "queues/calls/payloads/a.call"
    assert store(b"begin", 0, last=False)["ok"] and not call.exists()
    assert store(b"begin", 0, last=False)["ok"]
    assert "has 5 bytes" in fault(store(b"x", 9, last=True))
    assert store(b"end", 5, last=True)["ok"] and store(b"end", 5, last=True)["ok"]
    assert call.read_bytes() == b"beginend"
    assert (call.stat().st_mode & 0o777, call.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    result = Path(f"{call.with_suffix('')}.result.1")
    assert world.ask("read_result", queue="calls", job="a", attempt=1)["kind"] == "none"
    result.write_bytes(b"x" * 1_500_000)
    piece = world.ask("read_result", queue="calls", job="a", attempt=1, offset=1_048_576)
    assert (piece["kind"], piece["offset"], piece["size"]) == ("result", 1_500_000, 1_500_000)
    result.unlink()
    result.symlink_to("/etc/passwd")
    assert str(result) in fault(world.ask("read_result", queue="calls", job="a"))
    assert world.ask("forget_calls", queue="calls", jobs=["a", "b"])["ok"] and not call.exists()
    assert "is not the id of a job" in fault(
        world.ask("forget_calls", queue="calls", jobs=["../state.db"])
    )


def test_a_queue_belongs_to_one_executor_at_a_time(world: World) -> None:
    """Two programs with one name would end each other's jobs."""
    opened(world, "one")
    other = world.ask("open_queue", queue="one", session=SESSION[::-1])
    assert fault(other).startswith("locked: queue 'one' is in use by an Executor (pid ")
    assert world.ask("close", queue="one", session=SESSION)["ok"]
    assert world.ask("open_queue", queue="one", session=SESSION[::-1])["ok"]
