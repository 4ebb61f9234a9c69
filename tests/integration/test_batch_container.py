"""What runs inside an attempt's Batch job, container by container, against S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import batch_task
import pytest
from batch_account import BatchAccount
from batch_attempt import RUN, Attempt, Attempts
from batch_server import Delays, KeptLogs, Processes, Settings
from s3_endpoint import Endpoint
from world import World

from runner.batch.container import stage
from runner.batch.container.commands import bootstrap_command, store_bundle
from runner.batch.records import EndKind, EntryRun, OutputsOf, StoredInput, StoredResult, Writer
from runner.bundle.archives import make_tar_gz
from runner.bundle.wheels import make_wheel
from runner.results.manifest import Manifest

WAIT = 30.0
INSTANT = Delays(submitted=(0, 1), runnable=(0, 2), starting=(0, 1), ended=(0, 1))


@pytest.fixture
def queue(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Attempts]:
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    made = Attempts(endpoint, tmp_path)
    yield made
    made.close()


@pytest.fixture
def batch(endpoint: Endpoint) -> Iterator[BatchAccount]:
    """A second of Batch's is 10 ms here."""
    made = BatchAccount(Processes(KeptLogs()), Settings(delays=INSTANT, rates={}))
    yield made
    made.close()


@pytest.mark.long
def test_a_submission_runs_as_a_batch_job(
    batch: BatchAccount, queue: Attempts, endpoint: Endpoint
) -> None:
    """The definition's commands would not find each other's work."""
    definition = batch_task.register(batch, "any", "python", endpoint.env)
    attempt = queue.submit("echo hi; echo r > r.txt", result_paths=(StoredResult("*.txt"),))
    job = batch.wait(batch_task.submit(batch, definition, attempt))
    assert job["status"] == "SUCCEEDED", job
    assert attempt.claim is not None and attempt.claim.batch_job_id == job["jobId"]
    assert attempt.stored is not None and attempt.stored.ok
    assert attempt.log() == b"hi\n" and queue.read("jobs/job/r.txt") == b"r\n"
    again = batch.wait(batch_task.submit(batch, definition, attempt))
    assert again["status"] == "FAILED"
    ends = again["ecsProperties"]["taskProperties"][0]["containers"]
    assert {each["name"]: each.get("exitCode") for each in ends}["stage"] == stage.TAKEN


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def attended(attempt: Attempt) -> tuple[threading.Thread, list[int]]:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(attempt.attend()), daemon=True)
    thread.start()
    return thread, codes


def test_an_attempt_is_claimed_run_and_stored(queue: Attempts, tmp_path: Path) -> None:
    """Nothing of a job would be stored, or its driver would not know how it ended."""
    outside = tmp_path / "outside" / "deep"
    command = (
        'echo "$JOB_ID $JOB_ATTEMPT $QUEUE_ID $VALUE $home"; echo oops >&2; echo w > "w x.bin";'
        f"mkdir -p {outside}/a; echo o > {outside}/a/o.txt; echo n > {outside}/n.txt; exit 0"
    )
    attempt = queue.submit(
        command,
        env={"VALUE": "it's\n$HOME `x`", "home": "h", "IFS": "o", "BASH_ENV": "/none"},
        result_paths=(
            StoredResult("*.bin"),
            StoredResult(f"{outside}/**"),
            StoredResult("none", True),
        ),
        output_paths=(StoredResult(f"{tmp_path}/outside/*/n.txt"),),
    )
    assert attempt.run() == 0
    text = (attempt.volume.main / "environment").read_text()
    assert f"RUNNER_EXCHANGE={queue.url}/work/{RUN}/job/\n" in text
    assert attempt.claim is not None and attempt.claim.by is Writer.CONTAINER
    assert attempt.claim.batch_job_id == attempt.environment["AWS_BATCH_JOB_ID"]
    end, stored = attempt.end, attempt.stored
    assert end is not None and (end.kind, end.code) == (EndKind.EXIT, 0)
    assert end.duration is not None and 0 <= end.duration < WAIT
    assert stored is not None and stored.ok and not stored.missing and not stored.only_volume
    assert attempt.log() == b"job 1 q it's\n$HOME `x` h\n"
    assert attempt.log("stderr") == b"oops\n"
    manifest = queue.manifest()
    assert manifest.completed and not manifest.problems
    assert {file.name: file.source for file in manifest.files if "log" not in file.name} == {
        "w x.bin": str(attempt.volume.work / "w x.bin"),
        "a/o.txt": f"{outside}/a/o.txt",
        "n.txt": f"{outside}/n.txt",
    }
    written = (outside / "n.txt").stat()
    (file,) = (file for file in manifest.files if file.name == "n.txt")
    assert file.looks_like(written)


@pytest.mark.parametrize(
    ("command", "kind", "code", "signal", "exit_code"),
    [
        ("exit 3", EndKind.EXIT, 3, None, 3),
        ("exit 137", EndKind.EXIT, 137, None, 137),
        ("kill -9 $$", EndKind.SIGNAL, None, "SIGKILL", 137),
        ("kill -SEGV $$", EndKind.SIGNAL, None, "SIGSEGV", 139),
    ],
)
def test_an_exit_is_told_from_a_signal(
    queue: Attempts, command: str, kind: EndKind, code: int, signal: str, exit_code: int
) -> None:
    """`retry_on_codes` would go by a code that no command gave."""
    attempt = queue.submit(command)
    assert attempt.run() == exit_code
    assert attempt.end is not None
    assert (attempt.end.kind, attempt.end.code, attempt.end.signal) == (kind, code, signal)


def test_a_timeout_is_ours_whatever_the_exit_code(queue: Attempts) -> None:
    """A trainer that saves and exits 0 would count as completed."""
    attempt = queue.submit(
        "trap 'echo saved > ckpt; exit 0' TERM; echo up; while :; do sleep 0.05; done",
        timeout=0.4,
        checkpoint_paths=("ckpt",),
        result_paths=(StoredResult("*"),),
    )
    assert attempt.run() == 124
    assert attempt.end is not None and attempt.stored is not None
    assert (attempt.end.kind, attempt.end.code) == (EndKind.TIMED_OUT, 0)
    assert attempt.stored.checkpoint_files == 1
    assert not queue.manifest().completed
    # The next attempt goes on from it, and the log of this one keeps its place.
    second = queue.submit("cat ckpt", attempt=2, checkpoint_paths=("ckpt",))
    assert second.run() == 0
    assert second.log() == b"saved\n"
    assert second.stored is not None and second.stored.checkpoint_restored == 1
    prefix = queue.layout.job_prefix("job")
    assert queue.read(f"{prefix}attempts/1/stdout.log") == b"up\n"
    names = [file.name for file in queue.manifest().files]
    assert names == [
        "stdout.log", "stderr.log", "attempts/1/stdout.log", "attempts/1/stderr.log"
    ]  # fmt: skip


def test_only_one_of_two_batch_jobs_runs_the_command(queue: Attempts, tmp_path: Path) -> None:
    """A submission that was sent twice would run twice."""
    proof = tmp_path / "proof"
    first = queue.submit(f"echo ran >> {proof}")
    second = first.again("second")
    assert first.stage() == stage.READY
    assert second.run() == stage.TAKEN
    assert first.run() == 0, "a restarted container goes on with its own claim"
    assert first.again("third").run() == stage.TAKEN
    # And all of it once more in the same volume.
    assert first.stage() == stage.READY
    main = first.start_main()
    assert main.wait() == 1
    assert first.attend() == 0
    assert proof.read_text() == "ran\n"


def test_a_submission_of_an_earlier_driver_is_not_begun(queue: Attempts) -> None:
    """Two drivers would each have the job run."""
    attempt = queue.submit("true")
    attempt.hold_lease(2)
    assert attempt.run() == stage.SUPERSEDED
    assert attempt.claim is None
    attempt.adopted(2)
    assert attempt.again("second").run() == 0
    assert queue.manifest().epoch == 2


def test_what_it_needs_is_there_before_the_command(queue: Attempts, tmp_path: Path) -> None:
    """A job would begin without its inputs, or without what the jobs before it have made."""
    place = tmp_path / "data"
    made = queue.submit(
        f"mkdir -p {place} out; echo 1 > {place}/a.csv; echo 2 > out/b;"
        f"touch -d @1000 {place}/a.csv",
        "make",
        result_paths=(StoredResult(f"{place}/*.csv"),),
        output_paths=(StoredResult("out/*"),),
    )
    assert made.run() == 0
    (place / "a.csv").unlink()
    queue.endpoint.client().put_object(Bucket=queue.bucket, Key="in/q/x", Body=b"input")
    patterns = (f"{place}/*.csv", "out/*")
    needs = queue.submit(
        f"cat {place}/a.csv out/b fetched/x {tmp_path}/elsewhere/x; stat -c %Y {place}/a.csv",
        "needs",
        restore=(OutputsOf("make", patterns),),
        input_paths=(
            StoredInput(f"s3://{queue.bucket}/in/{{queue_id}}/", "fetched/"),
            StoredInput(f"s3://{queue.bucket}/in/q/x", f"{tmp_path}/elsewhere/x"),
        ),
    )
    assert needs.run() == 0
    assert needs.log() == b"1\n2\ninputinput1000\n"
    assert needs.stored is not None and needs.stored.restored == 2


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"working_directory": "/not/there"}, "working directory /not/there does not exist"),
        ({"restore": (OutputsOf("other", ("*",)),)}, "what other has left for it"),
        ({"input_paths": (StoredInput("s3://BUCKET/none", "x"),)}, "there is no such key"),
    ],
)
def test_what_cannot_be_run_is_told(queue: Attempts, fields: dict[str, object], told: str) -> None:
    """The job would wait for ever, or fail without a word."""
    if "input_paths" in fields:
        fields = {"input_paths": (StoredInput(f"s3://{queue.bucket}/none", "x"),)}
    attempt = queue.submit("echo never", **fields)
    assert attempt.run() in (1, stage.NOT_RUNNABLE)
    assert attempt.end is not None and attempt.stored is not None
    assert told in (attempt.end.message or "")
    unstaged = "input_paths" in fields  # as on one machine that is no attempt, and has no logs
    assert attempt.end.kind is (EndKind.UNSTAGED if unstaged else EndKind.NOT_RUNNABLE)
    assert unstaged or attempt.log() == b""


def test_a_container_that_is_killed_is_told_by_the_other(queue: Attempts) -> None:
    """The job would stay RUNNING until its timeout, and nobody would see its logs."""
    attempt = queue.submit("echo so far; echo c > ckpt; sleep 60", checkpoint_paths=("ckpt",))
    assert attempt.stage() == stage.READY
    attempt.start_main()
    thread, codes = attended(attempt)
    until(lambda: (attempt.volume.work / "ckpt").exists(), "it has not begun")
    attempt.end_main()
    thread.join(WAIT)
    assert codes == [137]
    assert attempt.end is not None and attempt.stored is not None
    assert attempt.end.kind is EndKind.KILLED
    assert attempt.stored.only_volume and attempt.stored.checkpoint_files == 1
    assert attempt.log() == b"so far\n"


def test_batch_asks_it_to_end(queue: Attempts) -> None:
    """A spot interruption would lose what the job has saved."""
    attempt = queue.submit(
        "trap 'cat \"$RUNNER_SPOT_NOTICE\"; echo c > ckpt; exit 0' TERM; echo > up;"
        "while :; do sleep 0.05; done",
        checkpoint_paths=("ckpt",),
    )
    assert attempt.stage() == stage.READY
    main = attempt.start_main()
    thread, codes = attended(attempt)
    until(lambda: (attempt.volume.work / "up").exists(), "it has not begun")
    attempt.stopping.set()
    main.terminate()
    thread.join(WAIT)
    attempt.end_main()
    assert codes == [143]
    assert attempt.end is not None and attempt.stored is not None
    assert attempt.end.kind is EndKind.STOPPED and attempt.stored.checkpoint_files == 1


class Metadata(BaseHTTPRequestHandler):
    """A task whose main container could not be started."""

    def do_GET(self) -> None:
        told = {"Containers": [{"Name": "main", "KnownStatus": "STOPPED"}]}
        self.send_response(200 if self.path == "/v4/task" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_a_container_that_never_starts_is_not_waited_for(queue: Attempts) -> None:
    """An image that can't be pulled would keep the job RUNNING until Batch's timeout."""
    attempt = queue.submit("true")
    assert attempt.stage() == stage.READY
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v4"
        attempt.environment["ECS_CONTAINER_METADATA_URI_V4"] = url
        assert attempt.attend() == 137
        server.shutdown()
    assert attempt.end is not None and attempt.end.kind is EndKind.KILLED
    assert attempt.end.message == "its container did not start"


def test_a_command_that_ends_before_all_has_begun_ends_its_container(queue: Attempts) -> None:
    """What ends the listener would be lost: the container would go on until its time is over."""
    attempt = queue.submit("true")
    assert attempt.stage() == 0
    script = attempt.volume.main / "main.sh"
    begins = "trap '' TERM\n"
    late = f'{begins}until [ -e "$runner_home/code" ]; do :; done; sleep 0.3\n'
    text = script.read_text()
    assert text.count(begins) == 1
    script.write_text(text.replace(begins, late))
    assert attempt.start_main().wait(30) == 0


def test_an_arrays_children_run_what_the_index_map_says(queue: Attempts) -> None:
    """A retry of some elements would run others, for Batch renumbers a smaller array."""
    parent = queue.submit(
        'echo "$RUNNER_ARRAY_INDEX $AWS_BATCH_JOB_ARRAY_INDEX $JOB_ID" > out-$RUNNER_ARRAY_INDEX',
        "many",
        runs=(EntryRun(2, 7, 3), EntryRun(3, 8, 9)),
        result_paths=(StoredResult("out-{array_index}"),),
    )
    for place, index in enumerate((3, 9)):
        child = parent.child(place)
        assert child.run() == 0
        assert child.end is not None and child.end.kind is EndKind.EXIT
        assert queue.read(f"jobs/many/{index}/out-{index}") == f"{index} {index} many\n".encode()


ODD = (
    'mkdir -p "a b/c" out; echo 1 > "a b/c/é.txt"; echo 2 > out/m.bin; chmod 640 out/m.bin;'
    "ln -s m.bin out/link; ln -s /etc/hostname out/away; mkfifo out/pipe; echo x >&2;"
)


@pytest.mark.long
def test_what_is_stored_is_what_a_run_here_stores(queue: Attempts, world: World) -> None:
    """Results would lie elsewhere, or be fewer, by where the queue ran."""
    paths = ["a b/**", "out/*", "none/*", {"path": "maybe", "optional": True}]
    outputs = ["out/m.bin"]
    job = {
        "job_id": "job", "command": f"{ODD} exit 0", "timeout": "1m",
        "result_paths": paths, "output_paths": outputs,
    }  # fmt: skip
    where = f"s3://{queue.bucket}/here"
    world.call("run", world.document(job), "--results", where)
    here = Attempts.of(queue, "here")
    attempt = queue.submit(
        job["command"],
        result_paths=(
            StoredResult("a b/**"),
            StoredResult("out/*"),
            StoredResult("none/*"),
            StoredResult("maybe", True),
        ),
        output_paths=(StoredResult("out/m.bin"),),
    )
    assert attempt.run() == 0
    assert attempt.stored is not None and attempt.stored.missing

    def told(manifest: Manifest, folder: str) -> object:
        return (
            manifest.completed,
            manifest.attempt,
            [text.replace(folder, "") for text in manifest.problems],
            [each.path.replace(folder, "") for each in manifest.missing],
            [
                (file.name, file.size, file.sha256, file.mode, file.relative, file.attempt)
                for file in manifest.files
            ],
        )

    assert told(queue.manifest(), str(attempt.volume.work)) == told(
        here.manifest(), str(world.home)
    )
    here.close()


def test_runner_comes_to_an_image_that_has_only_python(endpoint: Endpoint, tmp_path: Path) -> None:
    """stage would end with a traceback in every image but ours."""
    bucket = endpoint.bucket()
    name, wheel = make_wheel("hello", "1", {"hello.py": b"import sys; print(sys.argv)"}, {})
    other = name.replace("py3-none-any", "cp39-cp39-manylinux_2_17_x86_64")
    bundle = tmp_path / "bundle.tar.gz"
    files = {f"b/wheels/{name}": wheel, f"b/wheels/{other}": b"none", "b/VERSION": b"1 x86_64\n"}
    bundle.write_bytes(make_tar_gz(files, set(), 0))
    environment = {name: value for name, value in os.environ.items() if name[:4] != "AWS_"}
    environment |= endpoint.env | {"RUNNER_VOLUME": str(tmp_path / "volume")}
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in endpoint.env.items():
            patch.setenv(variable, value)
        environment["RUNNER_BUNDLE"] = store_bundle(f"s3://{bucket}/q", bundle)
    command = bootstrap_command("hello", "a b")
    command[0] = sys.executable
    for _ in range(2):  # a container that is started again finds it there
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0 and done.stdout.endswith("/hello.py', 'a b']\n"), done
    environment["RUNNER_BUNDLE"] = environment["RUNNER_BUNDLE"][:-4] + "0000"
    environment["RUNNER_VOLUME"] = str(tmp_path / "other")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "isn't what was launched" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_an_image_with_python_needs_one_container(queue: Attempts) -> None:
    """`staging: in-image` would store something else, or leave what COMMAND has started."""
    attempt = queue.submit(
        "echo hi; sleep 600 & echo r > r.txt; exit 0", result_paths=(StoredResult("*.txt"),)
    )
    done = subprocess.run(
        [sys.executable, "-m", "runner.batch.container.in_image"],
        env={**os.environ, **attempt.environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    assert attempt.log() == b"hi\n" and queue.read("jobs/job/r.txt") == b"r\n"
    assert attempt.stored is not None and attempt.stored.ok and not attempt.stored.only_volume
