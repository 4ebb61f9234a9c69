"""A queue that the result store knows and this state folder doesn't; ids that nobody has twice."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from s3_endpoint import Endpoint
from world import RUNNER, World

from runner.model.document import parse_document
from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.service.known_elsewhere import reserve

OK = {"job_id": "ok", "command": "echo x >> ran", "timeout": "1m"}
BAD = {"job_id": "bad", "command": "exit 3", "timeout": "1m"}


def elsewhere(world: World, name: str) -> list[str]:
    """The flags of another state folder."""
    return ["--state-dir", str(world.home / name), "--log-dir", str(world.home / f"{name}-logs")]


@pytest.mark.parametrize(("job", "code"), [(OK, 0), (BAD, 100)])
def test_a_queue_that_ended_elsewhere_is_told_and_not_run_again(
    world: World, job: dict[str, Any], code: int
) -> None:
    """A night's work would be done again without a word, and its results taken over."""
    document = world.document({**job, "command": f"echo >> ran; {job['command']}"})
    command = ["run", document, "--results", "store"]
    assert world.call(*command).returncode == code
    state = (world.home / "store" / Layout.state_key).read_bytes()
    done = world.call(*command, *elsewhere(world, "b"), "--json")
    assert done.returncode == code
    for word in ("nothing was started", "--retry-failed", "--fresh", "runner results"):
        assert word in done.stderr
    assert json.loads(done.stdout) == json.loads(state)
    assert not (world.home / "b").exists()
    assert (world.home / "store" / Layout.state_key).read_bytes() == state
    before = (world.home / "ran").read_text().count("\n")
    fresh = world.call(*command, *elsewhere(world, "b"), "--fresh")
    assert fresh.returncode == code
    assert (world.home / "ran").read_text().count("\n") > before
    # Begun here: from now on it is this folder's own.
    again = world.call(*command, *elsewhere(world, "b"))
    assert again.returncode == code and "elsewhere" not in again.stderr


def test_another_document_of_an_id_that_ended_elsewhere_is_no_way_round(world: World) -> None:
    """A typo in a queue_id would set another queue's results aside."""
    assert world.call("run", world.document(OK), "--results", "store").returncode == 0
    other = world.document({**OK, "job_id": "other"})
    done = world.call("run", other, "--results", "store", *elsewhere(world, "b"))
    assert done.returncode == 0 and "nothing was started" in done.stderr
    renamed = world.document(OK, name="another")
    assert world.call("run", renamed, "--results", "store", *elsewhere(world, "c")).returncode == 0
    assert (world.home / "ran").read_text() == "x\nx\n"


def test_a_submitted_queue_that_ended_elsewhere_is_told(world: World, endpoint: Endpoint) -> None:
    """`submit` would say "submitted", and the service do the work of another machine again."""
    bucket = endpoint.bucket()
    world.env.update(endpoint.env)
    document = world.document(OK, working_directory=str(world.home), result_s3_bucket=bucket)
    bad = world.document(BAD, name="bad", result_s3_bucket=bucket)
    assert world.call("run", document, *elsewhere(world, "a")).returncode == 0
    assert world.call("run", bad, *elsewhere(world, "a")).returncode == 100
    world.daemon()
    for name, code in ((document, 0), (bad, 100)):
        done = world.call("submit", name)
        assert done.returncode == code and "nothing was started" in done.stderr, done
        assert done.stdout == ""
    assert world.call("status", "--queue", "q").returncode == 102
    assert world.call("submit", document, "--fresh").returncode == 0
    assert world.call("wait", "--queue", "q").returncode == 0
    assert (world.home / "ran").read_text() == "x\nx\n"


def test_documents_without_an_id_never_share_one(world: World) -> None:
    """Of six that start in the same second five would be refused, and their work not be done."""
    documents = [
        world.document({**OK, "command": f"echo {n} > out{n}"}, name=f"n{n}", queue_id=None)
        for n in range(6)
    ]
    time.sleep(1.02 - time.time() % 1)  # reason: all of them in one second
    started = [
        subprocess.Popen(
            [*RUNNER, "run", document],
            cwd=world.home,
            env=world.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for document in documents
    ]
    told = [each.communicate()[1] for each in started]
    assert [each.returncode for each in started] == [0] * 6, told
    assert all((world.home / f"out{n}").read_text() == f"{n}\n" for n in range(6))
    ids = [queue["queue_id"] for queue in world.data("queues")]
    assert len(set(ids)) == 6 and all(re.fullmatch(r"queue-\d{8}-\d{6}", name) for name in ids)


def test_the_same_document_without_an_id_resumes_its_queue(world: World) -> None:
    """Each call of the same command would begin another queue."""
    document = world.document(
        {**OK, "command": "test -e go || { touch began; kill -TERM $PPID; sleep 9; }"},
        queue_id=None,
    )
    run = world.start("run", document)
    world.until_file("began")
    run.terminate()
    assert run.wait(20) == 104
    (world.home / "go").touch()
    assert world.call("run", document).returncode == 0
    assert len(world.data("queues")) == 1


def test_an_id_that_came_to_nothing_leaves_nothing(world: World) -> None:
    """A refused command would leave files behind, and use up ids."""
    (world.home / "file").write_text("")
    document = world.document(OK, queue_id=None)
    assert world.call("run", document, "--results", "file").returncode == 2
    assert not list(world.state.rglob("*.lock"))


def test_an_id_is_reserved_in_its_store(tmp_path: Path) -> None:
    """Two machines that begin in the same second would write to one prefix."""
    base = {"queue_name": "n", "global_timeout": "1h", "on_failure": "stop", "jobs": [OK]}
    first, second = (
        parse_document(json.dumps({**base, "queue_id": "q", "queue_name": name}).encode())
        for name in "ab"
    )
    store = FolderStore(tmp_path)
    assert reserve(store, first)
    assert not reserve(store, second)
    assert reserve(None, second)


def test_two_machines_get_two_ids_of_one_store(world: World, endpoint: Endpoint) -> None:
    """Of two queues that begin in one second the results of one would be lost."""
    bucket = endpoint.bucket()
    world.env.update(endpoint.env)
    document = world.document(OK, queue_id=None, result_s3_bucket=bucket)
    time.sleep(1.02 - time.time() % 1)  # reason: both of them in one second
    started = [
        subprocess.Popen(
            [*RUNNER, "run", document, *elsewhere(world, name)],
            cwd=world.home,
            env=world.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in "ab"
    ]
    assert [each.wait(60) for each in started] == [0, 0]
    keys = endpoint.keys(bucket, "queues/")
    assert len({key.split("/")[1] for key in keys if key.endswith("queue-state.json")}) == 2
