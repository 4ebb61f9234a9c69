"""Getting results back: all of them, as they were stored, and nothing anywhere else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from s3_endpoint import Endpoint, env_for
from test_terminal import COLOUR, Terminal
from world import RUNNER, World

from runner.errors import StateError
from runner.results.download.output_folder import OutputFolder
from runner.results.download.queue_download import AWAY_AFTER, DownloadReport, fetch
from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.manifest import parse_manifest
from runner.results.s3.store import S3Store
from runner.results.store import ResultStore, StoreError
from runner.results.stored_queue import read_queue
from runner.results.upload.job_upload import JobUpload, upload_job

LAYOUT = Layout()


class Stock:
    """A store, with jobs in it as a run of ours has uploaded them."""

    def __init__(self, store: ResultStore, top: Path) -> None:
        self.store = store
        self.top = top
        self.jobs: dict[str, dict[str, Any]] = {}
        self.put_state()

    def put_state(self, status: str = "completed", **more: Any) -> None:
        state = {"schema_version": 1, "queue_id": "q", "queue_name": "q", "run_id": "run-1"}
        view = {**state, "status": status, "jobs": list(self.jobs.values()), **more}
        self.store.put_bytes(LAYOUT.state_key, json.dumps(view).encode())
        self.store.put_bytes(LAYOUT.document_key, b"{}\n")

    def job(self, job_id: str, status: str = "completed", attempt: int = 1, **more: Any) -> None:
        """A job of the state, with nothing stored of it yet."""
        self.jobs[job_id] = {"job_id": job_id, "status": status, "attempt": attempt, **more}
        self.put_state()

    def upload(self, job_id: str, files: dict[str, bytes], **changes: Any) -> None:
        """What the engine stores of a job that has completed; its logs name job and attempt."""
        work = self.top / "work" / job_id
        for name, data in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(data)
        attempt = changes.get("attempt", 1)
        logs = self.top / "logs" / f"{job_id}-{attempt}"
        logs.mkdir(parents=True)
        for stream in ("stdout", "stderr"):
            (logs / stream).write_text(f"{job_id} {attempt} {stream}\n")
        spec = JobUpload(
            job_id=job_id,
            run_id="run-1",
            epoch=1,
            attempt=attempt,
            completed=True,
            patterns=("**/*",) if files else (),
            working_directory=str(work),
            stdout=logs / "stdout",
            stderr=logs / "stderr",
        )
        outcome = upload_job(self.store, LAYOUT, dataclasses.replace(spec, **changes))
        assert outcome.ok and not outcome.problems, outcome
        self.job(job_id, attempt=attempt, logs_uploaded=True)

    def part(self, job_id: str, offset: int, data: bytes, attempt: int = 1) -> None:
        """A part of a log of an attempt that runs."""
        self.store.put_bytes(LAYOUT.log_part_key(job_id, attempt, "stdout", offset), data)

    def change_manifest(self, job_id: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Somebody else has had the manifest in hand."""
        key = LAYOUT.manifest_key(job_id)
        data = self.store.get_bytes(key)
        assert data is not None
        document = json.loads(data)
        change(document)
        self.store.put_bytes(key, json.dumps(document).encode())

    def fetch(self, output: Path, store: Any = None, **options: Any) -> DownloadReport:
        """Fetch all in this process."""
        store = store or self.store
        queue = read_queue(store, LAYOUT)
        folder = OutputFolder(output, store.local_folder)
        return fetch(store, queue, folder, queue.jobs.values(), **options)


class Counting:
    """A store that counts what is fetched from it; ``before`` is called ahead of each file."""

    def __init__(self, store: ResultStore, before: Callable[[str], object] = len) -> None:
        self._store = store
        self._before = before
        self.fetched: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get_file(self, key: str, target: int, size: int | None = None) -> bool:
        self.fetched.append(key)
        self._before(key)
        return self._store.get_file(key, target, size)


@pytest.fixture
def stock(tmp_path: Path) -> Stock:
    return Stock(FolderStore(tmp_path / "store"), tmp_path)


@pytest.fixture(params=["folder", "s3"])
def either(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stock]:
    """The same in a folder and in S3."""
    if request.param == "folder":
        yield Stock(FolderStore(tmp_path / "store"), tmp_path)
        return
    endpoint: Endpoint = request.getfixturevalue("endpoint")
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    store = S3Store(endpoint.bucket(), "queues/q")
    yield Stock(store, tmp_path)
    store.close()


def tree(top: Path) -> dict[str, bytes]:
    """Every file below a folder, temporaries too."""
    paths = (path for path in top.rglob("*") if path.is_file() or path.is_symlink())
    return {str(path.relative_to(top)): path.read_bytes() for path in paths}


def call(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, with what the S3 fixture has set meanwhile."""
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return world.call(*arguments, env=aws)


# -- as a user has it --------------------------------------------------------------------------


def test_what_a_run_has_stored_comes_back_as_it_was(world: World) -> None:
    """Results would be lost on the way, renamed, or no longer be executable."""
    make = (
        "mkdir -p out/sub; echo data > out/sub/a.txt; printf '#!' > out/tool; chmod 750 out/tool;"
        " touch -d 2020-01-02T03:04:05.678Z out/tool; echo x > out/$'odd\\xff\\n%41'; echo said"
    )
    one = {"job_id": "one", "command": make, "timeout": "1m", "result_paths": ["out/**/*"]}
    twice = "echo $JOB_ATTEMPT; [ $JOB_ATTEMPT = 2 ]"
    retry = {"max_attempts": 2, "base_delay": "1ms"}
    two = {"job_id": "two", "command": twice, "timeout": "1m", "retry": retry}
    assert world.call("run", world.document(one, two), "--results", "stored").returncode == 0

    done = world.call("results", "--output", "got")
    assert (done.returncode, done.stderr) == (0, "")
    got = tree(world.home / "got")
    own = len(got["queue.json"]) + len(got["queue-state.json"])
    size = sum(map(len, got.values())) - own
    assert done.stdout == f"9 files, {size:,} bytes in got (0 already there)\n"
    assert got["one/sub/a.txt"] == b"data\n" and got[os.fsdecode(b"one/odd\xff\n%41")] == b"x\n"
    assert got["one/stdout.log"] == b"said\n" and got["one/stderr.log"] == b""
    assert (got["two/stdout.log"], got["two/attempts/1/stdout.log"]) == (b"2\n", b"1\n")
    assert json.loads(got["queue-state.json"])["queue_id"] == "q"
    assert json.loads(got["queue.json"])["jobs"][0]["job_id"] == "one"
    tool = (world.home / "got/one/tool").stat()
    assert (tool.st_mode & 0o777, tool.st_mtime) == (0o750, 1577934245.678)
    for way in ("q", "./stored", "stored", str(world.home / "stored")):
        again = world.data("results", way, "--output", "got")
        assert (again["fetched"], again["present"], again["problems"]) == (0, 9, []), way


def test_a_later_run_in_the_same_folder_hides_nothing(world: World) -> None:
    """Of two queues that share a results folder one would be shown as the other."""
    job = {"job_id": "j", "command": "echo $QUEUE_ID", "timeout": "1m"}
    for name in ("first", "second"):
        assert world.call("run", world.document(job, name=name), "--results", "stored").stdout
    assert world.call("results", "first", "--output", "a").returncode == 0
    assert world.call("results", "--output", "b").returncode == 0
    assert (world.home / "a/j/stdout.log").read_text() == "first\n"
    assert (world.home / "b/j/stdout.log").read_text() == "second\n"
    mixed = world.call("results", "second", "--output", "a")
    assert mixed.returncode == 0 and "has files of another run too" in mixed.stderr


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("results", 102, "there is no queue in"),
        ("results nope", 102, 'there is no queue "nope"'),
        ("results ./nope", 102, "there is no queue-state.json in"),
        ("results stored/q --queue q", 2, "not both"),
        ("results ../store --output ../store/x", 2, "is where the results are stored"),
        ("results ../store --output file", 2, "is not a folder"),
        ("results ../store --job oen", 2, 'did you mean "one"?'),
        ("results ../store --logs-only --no-logs", 2, "not allowed with argument"),
        ("results s3:///x", 2, "the bucket must not be empty"),
        ("results --queue ../q", 2, "can't be the id of a queue"),
        ("results ../store --output=", 2, "--output is empty"),
        ("logs one --from ../store -f", 2, "not with --follow"),
        ("logs one --from ../store --queue q", 2, "not with --queue"),
        ("logs one --from s3://", 2, "the bucket must not be empty"),
        ("logs oen --from ../store", 102, 'did you mean "one"?'),
        ("logs one --from ../store --attempt 2", 102, "has no attempt 2"),
        ("logs never --from ../store", 102, "has not started: it is skipped (why)"),
        ("logs one --from ../nope", 102, "there is no queue-state.json in"),
    ],
)
def test_wrong_usage_is_told_and_fetches_nothing(
    world: World, stock: Stock, command: str, code: int, told: str
) -> None:
    """A typing error would be taken for "there are no results"."""
    stock.upload("one", {"a": b"1"})
    stock.job("never", "skipped", 0, reason="why")
    (world.home / "file").touch()
    done = world.call(*command.split())
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert tree(world.home) == {"file": b""}


def test_a_queue_without_a_store_says_what_to_do(world: World) -> None:
    """Somebody would look for results that were never kept."""
    world.call("run", world.document({"job_id": "j", "command": "true", "timeout": "1m"}))
    done = world.call("results")
    assert done.returncode == 102 and "was run without --results" in done.stderr


def test_results_and_logs_come_from_a_folder_and_from_s3(world: World, either: Stock) -> None:
    """One kind of store would give other files, or none."""
    large = os.urandom(9_000_000)
    either.upload("one", {"a/b": b"1", "c": b"", "large": large})
    either.upload("two", {}, attempt=2)
    where = either.store.describe()
    done = call(world, "results", where)
    assert (done.returncode, done.stderr) == (0, "")
    got = tree(world.home / "results")
    assert got.pop("one/large") == large
    del got["queue-state.json"]
    assert got == {
        "one/a/b": b"1",
        "one/c": b"",
        "one/stdout.log": b"one 1 stdout\n",
        "one/stderr.log": b"one 1 stderr\n",
        "two/stdout.log": b"two 2 stdout\n",
        "two/stderr.log": b"two 2 stderr\n",
        "queue.json": b"{}\n",
    }
    assert "(7 already there)" in call(world, "results", where).stdout
    both = call(world, "logs", "two", "--from", where)
    assert (both.stdout, both.stderr) == ("two 2 stdout\n", "two 2 stderr\n")
    assert call(world, "logs", "two", "--from", where, "-n", "1", "--stdout").stdout == both.stdout
    assert call(world, "logs", "two", "--from", where, "-n", "0").stdout == ""
    assert (
        call(world, "logs", "two", "--from", where, "--stderr", "--bytes", "5").stdout == "derr\n"
    )
    told = json.loads(call(world, "logs", "two", "--from", where, "--json").stdout)
    assert told["text"] == "two 2 stdout\n" and (told["attempt"], told["running"]) == (2, False)


def test_jobs_and_kinds_of_files_can_be_chosen(world: World, stock: Stock) -> None:
    """To see one log somebody would have to fetch all checkpoints."""
    for name in ("one", "two", "three"):
        stock.upload(name, {"a": b"1"})

    def fetched(*flags: str) -> set[str]:
        assert world.call("results", "../store", "--output", flags[-1], *flags[:-1]).returncode == 0
        return set(tree(world.home / flags[-1])) - {"queue.json", "queue-state.json"}

    logs = {"one/stdout.log", "one/stderr.log", "two/stdout.log", "two/stderr.log"}
    some = ("--job", "one", "--job", "two", "--job", "one")
    assert fetched(*some, "x") == logs | {"one/a", "two/a"}
    assert fetched(*some, "--logs-only", "y") == logs
    assert fetched("--no-logs", "z") == {"one/a", "two/a", "three/a"}


def test_json_has_what_a_program_needs(world: World, stock: Stock) -> None:
    """A program would have to read sentences."""
    stock.upload("one", {"a": b"1"})
    stock.job("two", "failed")
    told = world.data("results", "../store", "--output", "got")
    assert told == {
        "output": str(world.home / "got"),
        "queue_id": "q",
        "run_id": "run-1",
        "files": 3,
        "bytes": 1 + 2 * len("one 1 stdout\n"),
        "fetched": 3,
        "present": 0,
        "problems": ["job two: results were not uploaded"],
        "notes": [],
    }


def test_verify_changes_nothing_and_tells_all(world: World, stock: Stock) -> None:
    """A copy that has rotted would be taken for the results."""
    stock.upload("one", {"a": b"1", "b": b"2", "c": b"3", "d": b"4"})
    verify = ("results", "../store", "--output", "got", "--verify")
    assert world.call(*verify).returncode == 105 and not (world.home / "got").exists()
    assert world.call(*verify[:-1]).returncode == 0
    whole = world.call(*verify)
    assert (whole.returncode, whole.stderr) == (0, "") and "as they were stored" in whole.stdout
    one = world.home / "got/one"
    (one / "a").write_text("x")
    (one / "b").write_text("longer")
    (one / "c").unlink()
    (one / "d").unlink()
    (one / "d").symlink_to("a")
    (one / "extra").touch()
    before = tree(world.home)
    done = world.call(*verify)
    assert done.returncode == 105 and tree(world.home) == before
    for told in (
        "'a' differs: the same size, but other bytes",
        "'b' differs: 6 bytes, not 1",
        "'c' is missing",
        "'d' is a link",
    ):
        assert told in done.stderr
    assert "extra" not in done.stderr and len(done.stderr.splitlines()) == 4
    assert world.call(*verify[:-1]).returncode == 0 and world.call(*verify).returncode == 0
    assert (one / "extra").exists() and not (one / "d").is_symlink()


def test_ones_own_document_is_not_written_over(world: World, stock: Stock) -> None:
    """Who fetches into the folder of his queue.json would lose it."""
    stock.upload("one", {})
    (world.home / "queue.json").write_text("mine")
    for _ in range(2):
        done = world.call("results", "../store", "--output", ".")
        assert done.returncode == 0 and "queue.json is there and differs" in done.stderr
        assert (world.home / "queue.json").read_text() == "mine"


# -- what isn't all there ----------------------------------------------------------------------


def test_another_runs_manifest_is_as_good_as_none(stock: Stock, tmp_path: Path) -> None:
    """Results of two runs would be mixed, and nobody could tell."""
    stock.upload("old", {"a": b"1"}, run_id="run-0")
    stock.upload("new", {"a": b"2"})
    report = stock.fetch(tmp_path / "got")
    assert set(tree(tmp_path / "got")) == {"new/a", "new/stdout.log", "new/stderr.log"}
    assert report.problems == ["job old: results were not uploaded"]


def test_what_is_not_stored_yet_is_a_problem_only_at_the_end(stock: Stock, tmp_path: Path) -> None:
    """A script would wait for ever, or believe that it has everything."""
    stock.job("ended", "failed")
    stock.job("skipped", "skipped", 0)
    stock.job("runs", "running")
    stock.put_state("running")
    report = stock.fetch(tmp_path / "got")
    assert (report.problems, report.notes) == ([], ["job ended: results were not uploaded yet"])
    stock.put_state("failed")
    assert stock.fetch(tmp_path / "got").problems == ["job ended: results were not uploaded"]
    stock.upload("lost", {})
    stock.job("lost", results_uploaded=False)
    assert "job lost: results were not uploaded" in stock.fetch(tmp_path / "got").problems


def test_what_was_left_out_when_storing_is_told_again(stock: Stock, tmp_path: Path) -> None:
    """Who only has the fetched files would not know that one was never stored."""
    stock.upload("one", {})
    stock.change_manifest("one", lambda manifest: manifest.update(problems=["'x': left out"]))
    assert stock.fetch(tmp_path / "got").notes == ["job one: when stored: 'x': left out"]


def test_a_file_that_is_gone_or_other_bytes_stops_no_other(either: Stock, tmp_path: Path) -> None:
    """One bad object would cost all, or come as if it was the result."""
    either.upload("one", {"gone": b"1", "other": b"22", "short": b"333", "well": b"4"})
    either.store.delete("jobs/one/gone")
    either.store.put_bytes("jobs/one/other", b"2x")
    either.store.put_bytes("jobs/one/short", b"3")
    (tmp_path / "got/one").mkdir(parents=True)
    (tmp_path / "got/one/other").write_text("mine")
    report = either.fetch(tmp_path / "got")
    assert sorted(problem[: len("job one: 'gone' is named")] for problem in report.problems) == [
        "job one: 'gone' is named",
        "job one: 'other' is not ",
        "job one: 'short' is not ",
    ]
    assert (report.files, report.fetched) == (3, 3)
    got = tree(tmp_path / "got")
    assert set(got) == {"one/other", "one/well", "one/stdout.log", "one/stderr.log"}
    assert got["one/other"] == b"mine"


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"jobs": [{}]}', b"[" * 100_000])
def test_a_state_that_is_none_is_told(stock: Stock, tmp_path: Path, raw: bytes) -> None:
    """It would end in a traceback, or as "nothing to fetch"."""
    stock.store.put_bytes(LAYOUT.state_key, raw)
    with pytest.raises(StateError, match="is no queue's state"):
        stock.fetch(tmp_path / "got")


def test_a_job_that_is_stored_anew_meanwhile_is_fetched_anew(either: Stock, tmp_path: Path) -> None:
    """Fetching from a running queue would give two attempts' files mixed, or complain."""
    either.upload("one", {"a": b"1"}, completed=False)
    either.put_state("running")
    again = iter([lambda: either.upload("one", {"a": b"new"}, attempt=2)])

    def before(key: str) -> None:
        if step := next(again, None):
            step()

    counting = Counting(either.store, before)
    counting.parallel = 1  # type: ignore[attr-defined]
    queue = read_queue(either.store, LAYOUT)
    output = OutputFolder(tmp_path / "got", either.store.local_folder)
    report = fetch(counting, queue, output, queue.jobs.values())  # type: ignore[arg-type]
    assert report.problems == [] and report.files == 3
    assert tree(tmp_path / "got") == {
        "one/a": b"new",
        "one/stdout.log": b"one 2 stdout\n",
        "one/stderr.log": b"one 2 stderr\n",
    }


# -- what would lead elsewhere -----------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../x", "../../x", "/x", "a/../../../x", "a//x", ".", "..", "", "a/.", "%2E%2E/x", "%2E%2E",
        "%2Fx", "a%2F..%2F..%2Fx", "a\0b", "a%00b", "\ud800", "attempts/../../../x/stdout.log", 7,
    ],
)  # fmt: skip
def test_no_name_in_a_manifest_leads_out_of_the_folder(
    stock: Stock, tmp_path: Path, name: Any
) -> None:
    """Who fetches results of others could have any file of his own replaced."""
    stock.upload("one", {"a": b"1"})
    stock.upload("two", {"a": b"2"})

    def change(manifest: dict[str, Any]) -> None:
        file = next(each for each in manifest["files"] if each["name"] == "a")
        file["name"], file["key"] = name, f"jobs/one/{name}"

    stock.change_manifest("one", change)
    (tmp_path / "x").write_text("mine")
    before = tree(tmp_path)
    report = stock.fetch(tmp_path / "got")
    refused = ("job one: the manifest names", "job one: jobs/one/manifest.json: files[")
    assert report.problems[0].startswith(refused), report.problems
    after = tree(tmp_path)
    new = {path for path, data in after.items() if before.get(path) != data}
    assert new == {"got/two/a", "got/two/stdout.log", "got/two/stderr.log"}


@pytest.mark.parametrize("key", ["queue.json", "jobs/two/a", "../secret", "/etc/passwd"])
def test_no_key_in_a_manifest_is_read_that_is_not_the_jobs(
    stock: Stock, tmp_path: Path, key: str
) -> None:
    """A manifest could have any file of this machine copied to where results are passed on."""
    stock.upload("one", {"a": b"1"})
    stock.change_manifest("one", lambda manifest: manifest["files"][0].update(key=key))
    report = stock.fetch(tmp_path / "got")
    assert report.files == 0 and "the manifest names" in report.problems[0]


@pytest.mark.parametrize("job_id", ["..", ".", "", "a/b", "/x", "queue-state.json", "-x", 7, None])
def test_no_job_of_a_state_leads_out_of_the_folder(
    stock: Stock, tmp_path: Path, job_id: Any
) -> None:
    """The same by the name of a job."""
    stock.job(job_id)
    with pytest.raises(StateError, match="is no queue's state"):
        stock.fetch(tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_links_in_the_folder_are_not_followed(stock: Stock, tmp_path: Path) -> None:
    """A link that lies in the folder would have files replaced wherever it leads."""
    stock.upload("one", {"a": b"1", "deep/er/b": b"2"})
    stock.upload("two", {"a": b"3"})
    outside, got = tmp_path / "outside", tmp_path / "got"
    outside.mkdir()
    (outside / "a").write_text("mine")
    (got / "one").mkdir(parents=True)
    (got / "one/deep").symlink_to(outside)
    (got / "one/a").symlink_to(outside / "a")
    (got / "two").symlink_to(outside)
    report = stock.fetch(got)
    assert tree(outside) == {"a": b"mine"}
    assert (got / "one/a").read_bytes() == b"1" and not (got / "one/a").is_symlink()
    assert len(report.problems) == 4 and all("a link on the way" in p for p in report.problems)


def test_a_folder_that_is_itself_a_link_is_used(stock: Stock, tmp_path: Path) -> None:
    """Who has his results folder on another disk could not fetch into it."""
    stock.upload("one", {"a": b"1"})
    (tmp_path / "disk").mkdir()
    (tmp_path / "got").symlink_to(tmp_path / "disk")
    assert stock.fetch(tmp_path / "got").problems == []
    assert (tmp_path / "disk/one/a").exists()


def test_the_store_itself_is_never_written(stock: Stock, tmp_path: Path) -> None:
    """Fetching next to the store would write over what is stored, by a job of that name."""
    stock.upload("store", {"jobs/store/a": b"1", "b": b"2"})
    before = tree(tmp_path / "store")
    report = stock.fetch(tmp_path)
    assert tree(tmp_path / "store") == before
    assert report.problems and all("where the results are stored" in p for p in report.problems)


def test_bits_that_give_power_are_not_restored(stock: Stock, tmp_path: Path) -> None:
    """A fetched file could run as whoever fetched it."""
    stock.upload("one", {"a": b"1"})
    stock.change_manifest("one", lambda m: [file.update(mode="6755") for file in m["files"]])
    stock.fetch(tmp_path / "got")
    assert (tmp_path / "got/one/a").stat().st_mode & 0o7777 == 0o755


# -- cut in the middle -------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_results import Counting, Stock, read_queue, LAYOUT, OutputFolder, fetch, FolderStore
class Killed(Counting):
    def get_file(self, key, target, size=None):
        if key.endswith(sys.argv[4]):
            os.write(target, b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().get_file(key, target, size)
store = Killed(FolderStore(Path(sys.argv[2])))
queue = read_queue(store, LAYOUT)
fetch(store, queue, OutputFolder(Path(sys.argv[3]), None), queue.jobs.values())
"""


def test_after_a_kill_it_goes_on_where_it_was(stock: Stock, tmp_path: Path) -> None:
    """A half file would be taken for a result, or a day's download begin anew."""
    stock.upload("one", {f"f{n}": f"content {n}".encode() for n in range(9)})
    got = tmp_path / "got"
    command = [sys.executable, "-c", _KILLED, str(Path(__file__).parent), str(tmp_path / "store")]
    path = os.pathsep.join(sys.path)
    killed = subprocess.run(
        [*command, str(got), "f5"], env={**os.environ, "PYTHONPATH": path}, check=False
    )
    assert killed.returncode == -9
    there = {name for name in tree(got) if "/.runner-tmp-" not in name}
    assert there == {f"one/f{n}" for n in range(5)} and len(tree(got)) == 6
    counting = Counting(stock.store)
    report = stock.fetch(got, counting)
    assert (report.present, report.fetched, report.problems) == (5, 6, [])
    assert {f"jobs/{name}" for name in there}.isdisjoint(counting.fetched)
    assert not [name for name in tree(got) if "/.runner-tmp-" in name]
    assert tree(got)["one/f5"] == b"content 5"


def test_a_passing_error_costs_nothing(stock: Stock, tmp_path: Path) -> None:
    """One byte lost on the way would make the results incomplete."""
    stock.upload("one", {"a": b"1"})

    class Flaky(Counting):
        def get_file(self, key: str, target: int, size: int | None = None) -> bool:
            if super().get_file(key, target, size) and self.fetched.count(key) == 1:
                os.pwrite(target, b"?", 0)
            return True

    flaky = Flaky(stock.store)
    report = stock.fetch(tmp_path / "got", flaky)
    assert report.problems == [] and len(flaky.fetched) == 6
    assert tree(tmp_path / "got")["one/a"] == b"1"


def test_what_can_not_be_had_is_told_and_the_rest_comes(stock: Stock, tmp_path: Path) -> None:
    """For one object that a store doesn't give, nobody could fetch the other thousand, nor see why
    the job failed."""
    stock.upload("one", {"a": b"1", "bad": b"2", "c": b"3"})
    stock.upload("two", {"d": b"4"})
    stock.upload("three", {"e": b"5"})

    def refuse(key: str) -> None:
        if key.endswith("/bad"):
            raise StoreError("nobody gives it")

    class Torn(Counting):
        def get_bytes(self, key: str) -> bytes | None:
            if key == LAYOUT.manifest_key("two"):
                raise StoreError("nobody tells")
            return self._store.get_bytes(key)

    torn = Torn(stock.store, refuse)
    report = stock.fetch(tmp_path / "got", torn)
    assert report.problems == ["job one: 'bad' can't be fetched: nobody gives it",
                               "job two: nobody tells"]  # fmt: skip
    assert set(tree(tmp_path / "got")) == {
        "one/a", "one/c", "one/stdout.log", "one/stderr.log",
        "three/e", "three/stdout.log", "three/stderr.log",
    }  # fmt: skip


def test_a_store_that_is_away_is_not_asked_for_every_file(stock: Stock, tmp_path: Path) -> None:
    """A hundred thousand files would each be waited for, minute after minute."""
    stock.upload("one", {f"f{n:03}": b"1" for n in range(300)})

    def refuse(key: str) -> None:
        raise StoreError("it doesn't answer")

    away = Counting(stock.store, refuse)
    with pytest.raises(StoreError, match="it doesn't answer"):
        stock.fetch(tmp_path / "got", away)
    assert len(away.fetched) <= 2 * (AWAY_AFTER + stock.store.parallel)


def test_only_the_leavings_of_the_dead_are_removed(stock: Stock, tmp_path: Path) -> None:
    """Two fetches into one folder would take each other's files away."""
    stock.upload("one", {"a": b"1"})
    one = tmp_path / "got/one"
    one.mkdir(parents=True)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, check=True).stdout.decode().strip()  # fmt: skip
    for pid in (ended, "1"):
        (one / f".runner-tmp-{pid}-0").touch()
    output = OutputFolder(tmp_path / "got", None)
    stock.fetch(tmp_path / "got")
    assert {path.name for path in one.glob(".runner*")} == {".runner-tmp-1-0"}
    (one / f".runner-tmp-{os.getpid()}-7").touch()
    output.check(output.path("one/a"))
    output.clean_up()
    assert {path.name for path in one.glob(".runner*")} == {".runner-tmp-1-0"}


class Stalled(ThreadingHTTPServer):
    """S3 as far as it is needed; of a file called ``large`` it sends only the first half."""

    def __init__(self, stock: Stock) -> None:
        self.over = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer()

            def do_GET(self) -> None:
                data = self.answer()
                stalls = self.path.endswith("/large")
                self.wfile.write(data[: len(data) // 2] if stalls else data)
                if stalls:
                    server.over.wait()

            def answer(self) -> bytes:
                key = self.path.partition("?")[0].removeprefix("/bucket/")
                data = stock.store.get_bytes(key)
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.send_header("ETag", '"e"')
                self.end_headers()
                return data or b""

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        server = self
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def close(self) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}])
def test_ctrl_c_ends_it_at_once_and_leaves_nothing_unfinished(
    world: World, stock: Stock, env: dict[str, str]
) -> None:
    """Who sees that it takes too long would wait for its end all the same, or clean up by hand."""
    stock.upload("one", {"a": b"1", "large": b"x" * 4_000_000})
    server = Stalled(stock)
    aws = env_for(f"http://127.0.0.1:{server.server_port}")
    terminal = Terminal(world, "results", "s3://bucket", "--output", "got", **aws, **env)
    try:
        terminal.until(r"━.*/4\.0 MB")
        world.until(lambda: any(size > 1e6 for size in sizes(world.home / "got")))
        terminal.type(b"\x03")
        assert terminal.end() == 130 and terminal.is_sane
        assert bool(COLOUR.search(terminal.shown)) == (not env)
        assert set(tree(world.home / "got")) <= {"one/a", "one/stdout.log", "one/stderr.log"}
    finally:
        terminal.close()
        server.close()


def sizes(top: Path) -> list[int]:
    found = []
    for path in top.rglob("*"):
        try:
            found.append(path.lstat().st_size)
        except FileNotFoundError:
            pass  # it has got its name meanwhile
    return found


# -- logs in parts -----------------------------------------------------------------------------


def test_a_running_attempts_log_is_put_together(world: World, either: Stock) -> None:
    """Of a machine that vanished the last words would be lost, just when they matter."""
    either.upload("j", {}, completed=False)
    either.job("j", "running", 3)
    either.job("quiet", "running", 1)
    either.job("late", "pending", 1)
    either.put_state("running")
    either.part("j", 0, b"second", attempt=2)
    for offset, data in ((0, b"0123"), (4, b"456789"), (8, b"89ab"), (8, b"89ab"), (2, b"23")):
        either.part("j", offset, data, attempt=3)
    either.part("late", 0, b"the state knows nothing of this attempt", attempt=2)
    where = either.store.describe()
    done = call(world, "results", where)
    assert (done.returncode, done.stderr) == (0, "")
    got = tree(world.home / "results")
    assert b"knows nothing" in got["late/stdout.log"]
    assert "knows nothing" in call(world, "logs", "late", "--from", where).stdout
    assert (got["j/stdout.log"], got["j/attempts/2/stdout.log"]) == (b"0123456789ab", b"second")
    assert got["j/attempts/1/stdout.log"] == b"j 1 stdout\n"
    logs = ("logs", "j", "--from", where)
    assert call(world, *logs).stdout == "0123456789ab"
    assert call(world, *logs, "--attempt", "2").stdout == "second"
    assert call(world, *logs, "--attempt", "1", "--stderr").stdout == "j 1 stderr\n"
    assert json.loads(call(world, *logs, "--json").stdout)["running"] is True
    quiet = call(world, "logs", "quiet", "--from", where)
    assert (quiet.returncode, quiet.stdout) == (0, "")
    lost = call(world, *logs, "--attempt", "2", "--stderr")
    assert lost.returncode == 102 and "the stderr of attempt 2 of job 'j' is not in" in lost.stderr


def test_a_log_with_a_gap_ends_there_and_says_so(world: World, stock: Stock) -> None:
    """Lines that are far apart would be read as if one followed the other."""
    stock.job("j", "interrupted", 1)
    stock.put_state("interrupted")
    stock.part("j", 0, b"0123")
    stock.part("j", 5, b"5678")
    done = world.call("results", "../store", "--output", "got")
    assert done.returncode == 105
    assert "'stdout.log' ends at byte 4: what is stored goes on at 5" in done.stderr
    assert (world.home / "got/j/stdout.log").read_bytes() == b"0123"
    log = world.call("logs", "j", "--from", "../store")
    assert (log.returncode, log.stdout) == (105, "0123") and "ends at byte 4" in log.stderr


def test_the_whole_log_stands_for_its_parts(stock: Stock, tmp_path: Path) -> None:
    """An upload that was cut before it removed the parts would cost the end of the log."""
    stock.upload("j", {})
    stock.part("j", 0, b"part")
    report = stock.fetch(tmp_path / "got")
    assert report.problems == [] and tree(tmp_path / "got")["j/stdout.log"] == b"j 1 stdout\n"


def test_a_log_is_bytes(stock: Stock, world: World) -> None:
    """A log with odd bytes would be changed."""
    data = bytes(range(256)) * 5000
    stock.job("j", "running")
    stock.put_state("running")
    stock.part("j", 0, data)
    shown = subprocess.run(
        [*RUNNER, "logs", "j", "--from", "../store"],
        cwd=world.home, env=world.env, capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert hashlib.sha256(shown).digest() == hashlib.sha256(data).digest()


def test_manifests_of_odd_types_are_told(stock: Stock, tmp_path: Path) -> None:
    """Anything but a sound manifest would end in a traceback."""
    stock.upload("one", {"a": b"1"})
    key = LAYOUT.manifest_key("one")
    good = stock.store.get_bytes(key)
    assert good is not None and parse_manifest(good)
    for change in (
        {"mtime": 7}, {"mtime": "x"}, {"mode": "9"}, {"size": -1}, {"size": "1"}, {"sha256": None},
        {"attempt": True},
    ):  # fmt: skip
        stock.store.put_bytes(key, good)
        stock.change_manifest("one", lambda m, change=change: m["files"][0].update(change))  # type: ignore[misc]
        assert stock.fetch(tmp_path / "got").problems, change
    for raw in (b"", b"[]", b"7", b"{}", b"\xff"):
        stock.store.put_bytes(key, raw)
        assert (
            stock.fetch(tmp_path / "got")
            .problems[0]
            .startswith("job one: jobs/one/manifest.json: ")
        ), raw
    assert tree(tmp_path / "got") == {}
