"""The contract of QueueConnection, held by every implementation.

The same queue is reached by the socket of its daemon, by its state folder without one, over SSM
from a laptop, by what S3 has of it after its machine is gone, and by what a coordinator on AWS
Batch has stored.
"""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from coordinated import Coordinated
from elsewhere import Elsewhere
from s3_endpoint import Endpoint
from world import World

from runner.core.explain import PlannedJob, Situation, of_job
from runner.errors import ExitCode, NotFoundError, RunnerError, UnreachableError, UsageError
from runner.model.settings import Settings, load_settings
from runner.targets.batch.connection import BatchConnection
from runner.targets.batch.resolve import BatchWord
from runner.targets.ec2.connection import Ec2Connection
from runner.targets.ec2.observe.machine_lookup import Target
from runner.targets.here.connection import LocalConnection
from runner.targets.port import QueueConnection

JOBS: list[dict[str, Any]] = [
    {"job_id": "first", "command": "echo one; echo two; echo three >&2", "timeout": "1m"},
    {"job_id": "second", "command": "echo last words; exit 3", "timeout": "1m"},
    {"job_id": "third", "command": "true", "timeout": "1m", "depends_on": ["second"]},
]
LOGS = {"stdout": 0, "stderr": 0}
ACTING = ("socket", "folder", "ssm")
ALL = (*ACTING, "s3", "batch")


class Rig:
    """A queue that has run to its end, and connections of one kind to it."""

    def __init__(self, kind: str, elsewhere: Elsewhere) -> None:
        self.kind = kind
        self.elsewhere = elsewhere
        self.instance = ""

    def connect(self, queue: str = "q") -> QueueConnection:
        """A new connection; it has asked nothing yet."""
        if self.kind in ("socket", "folder"):
            return LocalConnection(settings_of(self.elsewhere.machine), queue, lambda line: None)
        if self.kind == "batch":
            return BatchConnection(BatchWord(self.elsewhere.store(queue)))
        return Ec2Connection(Target(self.instance), queue)


def settings_of(world: World) -> Settings:
    return load_settings(
        world.env, root=os.geteuid() == 0, home=world.home, config=world.config, overrides={}
    )


def ended(kind: str, folder: Path, endpoint: Endpoint) -> Rig:
    """The queue has run to its end; as the kind has it, its daemon or its machine is gone."""
    elsewhere = Elsewhere(folder, endpoint)
    try:
        made = Rig(kind, elsewhere)
        if kind == "batch":
            coordinate(elsewhere, folder)
            return made
        if kind in ("ssm", "s3"):
            made.instance = elsewhere.launched()
        elsewhere.run(*JOBS, on_failure="continue")
        assert elsewhere.machine.call("wait").returncode == ExitCode.QUEUE_FAILED
        if kind in ("folder", "s3"):
            assert elsewhere.machine.call("stop").returncode == 0
        if kind == "s3":
            elsewhere.ec2().terminate_instances(InstanceIds=[made.instance])
    except BaseException:
        elsewhere.close()
        raise
    return made


def coordinate(elsewhere: Elsewhere, folder: Path) -> None:
    """The same queue, with a coordinator for a daemon."""
    endpoint, bucket = elsewhere.endpoint, elsewhere.bucket
    coordinated = Coordinated(folder / "hosts", endpoint.client(), bucket, endpoint.env)
    name = elsewhere.machine.document(*JOBS, name="q", on_failure="continue")
    coordinator = coordinated.start(coordinated.launch(elsewhere.machine.home / name))
    said, _ = coordinator.communicate(timeout=60)
    assert coordinator.returncode == ExitCode.QUEUE_FAILED, said


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, endpoint: Endpoint, request: pytest.FixtureRequest
) -> Iterator[Rig]:
    """One rig for all tests that change nothing."""
    made = ended(request.param, tmp_path_factory.mktemp(request.param), endpoint)
    yield made
    made.elsewhere.close()


@pytest.fixture
def rig(shared: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """The laptop is this process."""
    take_environment(shared, monkeypatch)
    return shared


@pytest.fixture
def own(
    tmp_path: Path,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Rig]:
    """A rig for a test that changes something."""
    made = ended(request.param, tmp_path, endpoint)
    take_environment(made, monkeypatch)
    yield made
    made.elsewhere.close()


def take_environment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rig.elsewhere.laptop.env.items():
        monkeypatch.setenv(name, value)


def every(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shared", kinds, indirect=True, scope="module")


def each(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("own", kinds, indirect=True)


def text(answer: dict[str, Any], stream: str = "stdout") -> str:
    return base64.b64decode(answer["streams"][stream]["data"]).decode()


# -- queries ---------------------------------------------------------------------------------


@every(*ALL)
def test_a_status_has_the_same_summary_and_jobs(rig: Rig) -> None:
    """A script would see another outcome of the same queue from another place."""
    there = rig.connect()
    there.locate()
    answer = there.query("status")
    queue = answer["queue"]
    assert (queue["queue_id"], queue["status"], queue["jobs_total"]) == ("q", "failed", 3)
    counts = {name: n for name, n in queue["counts"].items() if n}
    assert counts == {"completed": 1, "failed": 1, "skipped": 1}
    assert not queue.get("worker") and not queue.get("queued")
    rows = [(job["job_id"], job["status"], job["attempt"]) for job in answer["jobs"]]
    assert rows == [("first", "completed", 1), ("second", "failed", 1), ("third", "skipped", 0)]
    assert answer["jobs"][1]["exit_code"] == 3
    assert ("source" in queue) == there.traits.elsewhere
    there.close()


@every(*ALL)
def test_a_status_is_read_in_pages(rig: Rig) -> None:
    """A table would lack jobs, or have one twice."""
    there = rig.connect()
    page = there.query("status", limit=2)
    assert [job["job_id"] for job in page["jobs"]] == ["first", "second"]
    rest = there.query("status", after=page["after"], limit=2)
    assert [job["job_id"] for job in rest["jobs"]] == ["third"] and "after" not in rest
    some = there.query("status", status=["failed", "skipped"], brief=True)
    assert [job["job_id"] for job in some["jobs"]] == ["second", "third"]
    assert not there.query("status", limit=0).get("jobs")
    there.close()


@every(*ALL)
def test_why_a_job_stands_as_it_does_is_told_alike(rig: Rig) -> None:
    """`explain` would know nothing of what a job waits for, or only on one machine."""
    there = rig.connect()
    plan = there.query("plan", after=1, limit=1)
    assert [each[0] for each in plan["plan"]] == ["second"] and plan["after"] == 2
    answer, whole = there.query("status"), there.query("plan")["plan"]
    planned = {name: PlannedJob(name, tuple(after), run_if) for name, run_if, *after in whole}
    now = Situation(answer["queue"], answer["jobs"], planned)
    codes = {name: [reason.code for reason in of_job(now, now.by_id[name])] for name in planned}
    assert codes == {"first": [], "second": ["exit_code"], "third": ["dependency_failed"]}
    there.close()


@every(*ALL)
def test_a_job_is_told_alike(rig: Rig) -> None:
    """`status --job` would show another job's fields, or a story of nothing."""
    there = rig.connect()
    answer = there.query("job", job="second")
    assert (answer["job"]["job_id"], answer["job"]["exit_code"]) == ("second", 3)
    if rig.kind == "s3":
        assert answer["story"] == [] and there.diagnosis
    else:
        assert "attempt_started" in [entry["event"] for entry in answer["story"]]
    there.close()


@every(*ALL)
def test_logs_begin_where_they_are_asked_to(rig: Rig) -> None:
    """What is followed would be shown twice, or with gaps."""
    there = rig.connect()
    answer = there.query("logs", job="first", offsets=LOGS)
    assert (text(answer), text(answer, "stderr")) == ("one\ntwo\n", "three\n")
    assert (answer["job"], answer["attempt"], answer["newest"]) == ("first", 1, 1)
    assert (answer["status"], answer["ended"], answer["running"]) == ("completed", True, False)
    piece = answer["streams"]["stdout"]
    assert (piece["offset"], piece["size"]) == (8, 8)
    assert text(there.query("logs", job="first", offsets={"stdout": 4})) == "two\n"
    assert text(there.query("logs", job="first", offsets={"stdout": -2})) == "o\n"
    assert text(there.query("logs", job="first", offsets={"stdout": 0}, lines=1)) == "two\n"
    there.close()


@every(*ALL)
def test_a_wait_for_a_queue_that_has_ended_returns(rig: Rig) -> None:
    """`wait` would hang for a queue that nothing more comes of."""
    there = rig.connect()
    queue = there.query("status", limit=0)["queue"]
    assert there.query("wait", timeout=0.5)["queue"]["status"] == queue["status"] == "failed"
    there.close()


@every(*ALL)
def test_where_results_are_is_told_alike(rig: Rig) -> None:
    """`results` would fetch from another place than the queue stored to."""
    there = rig.connect()
    assert there.results().store == rig.elsewhere.store()
    there.close()


@every(*ALL)
def test_the_stored_copy_is_there_where_the_traits_say_so(rig: Rig) -> None:
    """`status` would wait for a machine that is slow, or show a copy that isn't one."""
    there = rig.connect()
    found = there.stored_status(["failed"])
    assert (found is not None) == there.traits.stored_copy
    if found is not None:
        assert [job["job_id"] for job in found["jobs"]] == ["second"]
        assert found["queue"]["source"]["from"] == "s3"
    there.close()


@every(*ALL)
def test_an_error_about_the_queue_is_never_passed_over(rig: Rig) -> None:
    """`status --watch` would show an old answer for a queue that is no longer there."""
    there = rig.connect()
    there.query("status", limit=0)
    error = NotFoundError("there is no queue 'q'")
    with pytest.raises(NotFoundError) as raised:
        there.status_despite(error)
    assert raised.value is error
    there.close()


# -- what there is not -----------------------------------------------------------------------


@every(*ACTING)
@pytest.mark.parametrize("request_name", ["status", "wait", "job", "logs"])
def test_an_unknown_queue_is_not_found(rig: Rig, request_name: str) -> None:
    """A verb would exit with another code, and would not look for the queue elsewhere."""
    fields: dict[str, dict[str, Any]] = {
        "job": {"job": "first"},
        "logs": {"job": "first", "offsets": LOGS},
        "wait": {"timeout": 0.1},
    }
    there = rig.connect("unknown")
    with pytest.raises(NotFoundError) as raised:
        there.query(request_name, **fields.get(request_name, {}))
    assert 'there is no queue "unknown"' in str(raised.value)
    assert raised.value.exit_code is ExitCode.NOT_FOUND
    there.close()


@every(*ALL)
def test_an_unknown_job_or_attempt_is_not_found(rig: Rig) -> None:
    """A mistyped job would look like one without output."""
    there = rig.connect()
    asked: list[tuple[str, dict[str, Any]]] = [
        ("job", {"job": "frist"}),
        ("logs", {"job": "frist", "offsets": LOGS}),
    ]
    for request, fields in asked:
        with pytest.raises(NotFoundError, match='"frist"'):
            there.query(request, **fields)
    with pytest.raises(NotFoundError):
        there.query("logs", job="first", attempt=7, offsets=LOGS)
    there.close()


# -- actions ---------------------------------------------------------------------------------


@every(*ACTING)
def test_a_refused_action_says_why(rig: Rig) -> None:
    """A refusal would be taken for an outage, and tried again."""
    there = rig.connect()
    with pytest.raises(UsageError, match="job 'first' has ended already: it is completed"):
        there.act("cancel", jobs=["first"])
    with pytest.raises(NotFoundError, match='"frist"'):
        there.act("retry", jobs=["frist"])
    with pytest.raises(UsageError, match="queue 'q' has ended"):
        there.act("pause")
    assert there.query("status", limit=0)["queue"]["status"] == "failed"
    there.close()


@every(*ACTING)
def test_an_action_on_an_unknown_queue_is_not_found(rig: Rig) -> None:
    """It would act on the current queue instead, or look like an outage."""
    there = rig.connect("unknown")
    with pytest.raises(NotFoundError, match='there is no queue "unknown"'):
        there.act("cancel")
    there.close()


@each(*ACTING)
def test_an_action_is_durable_when_it_is_answered(own: Rig) -> None:
    """`retry` would tell of a change that a crash takes back."""
    there = own.connect()
    assert there.act("retry", jobs=["second"])["queue"]["queue_id"] == "q"
    there.close()
    machine = own.elsewhere.machine
    # With a daemon the job runs again; without one it waits for the next start.
    machine.until(lambda: _second(machine) in [("pending", 1), ("failed", 2)])


def _second(machine: World) -> tuple[str, int]:
    job = machine.jobs()["second"]
    return job["status"], job["attempt"]


# -- answers that are lost -------------------------------------------------------------------


class Mute:
    """Listens where a daemon would; it answers a ping, and hangs up on everything else."""

    def __init__(self, path: Path, state: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._state = os.path.realpath(state)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as lines:
                while b'"ping"' in (lines.readline() or b""):
                    answer = f'{{"v": 1, "ok": true, "state_dir": "{self._state}"}}\n'
                    lines.write(answer.encode())
                    lines.flush()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def test_a_lost_answer_to_an_action_here_is_an_outage(world: World) -> None:
    """A cancel that nobody confirmed would be taken for done, or for refused."""
    world.state.mkdir()
    mute = Mute(world.run_dir / "runner.sock", world.state)
    there = LocalConnection(settings_of(world), None, lambda line: None)
    try:
        with pytest.raises(UnreachableError):
            there.act("cancel")
    finally:
        there.close()
        mute.close()


@each("ssm")
def test_a_lost_answer_to_an_action_elsewhere_is_an_outage(own: Rig) -> None:
    """The same over SSM: and it may have been done, which has to be said."""
    own.elsewhere.ssm.garbled = True
    there = own.connect()
    with pytest.raises(UnreachableError, match="it may have been done all the same"):
        there.act("retry", jobs=["second"])
    there.close()


def test_nothing_to_stop_or_to_submit_to_is_an_outage(world: World) -> None:
    """`submit` would exit as if the document were wrong."""
    there = LocalConnection(settings_of(world), None, lambda line: None)
    asked: list[Callable[[], object]] = [
        lambda: there.submit("{}", "resume"),
        lambda: there.stop(detach=False, say=lambda line: None),
    ]
    for ask in asked:
        with pytest.raises(UnreachableError):
            ask()
    there.close()


@every("s3", "batch")
def test_a_machine_that_is_gone_takes_no_action(rig: Rig) -> None:
    """A cancel would seem to work on a queue that nothing drives any more."""
    there = rig.connect()
    with pytest.raises(UnreachableError):
        there.act("retry", jobs=["second"])
    if rig.kind == "s3":
        assert not isinstance(_raised(there), UsageError)
    there.close()


def _raised(there: QueueConnection) -> RunnerError:
    try:
        there.keep(1.0, release=False)
    except RunnerError as error:
        return error
    raise AssertionError("it was held")
