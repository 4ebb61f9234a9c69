"""Results up to S3 and down again, beside the AWS command line on the same endpoint.

The endpoint is moto's server, one process of Python: a request takes it milliseconds, so it is the
most of what is measured of small files. Both talk to it in turn, and the best of each counts. It
keeps the memory it once had, and a first round is for that alone: on a virtual machine fresh memory
costs seconds per GiB, and whoever comes second would get what the first one paid for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

from measure import RUNNER, Lab, Report, until

sys.path.insert(0, str(Path(__file__).parents[1]))
from s3_endpoint import Endpoint

SMALL, LARGE = 5_000, 1 << 30
ROUNDS = 3
KEEPS_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(64 << 30),
}
"""mallopt(3): one heap, and nothing of it given back."""


def results(report: Report, root: Path) -> None:
    """5,000 files of 4 KiB and one of 1 GiB, up and down."""
    aws = aws_command(Path(".bench/awscli").absolute())
    endpoint = Endpoint(KEEPS_MEMORY)
    try:
        folder = Lab(root).root / "files"
        _make(folder)
        for name, chosen in (("5,000 files of 4 KiB", "small"), ("one file of 1 GiB", "large")):
            _both_ways(report, root, endpoint, aws, name, folder / chosen)
        _live_log(report, root, endpoint)
    finally:
        endpoint.close()


def _make(folder: Path) -> None:
    for name in ("small", "large"):
        (folder / name).mkdir(parents=True)
    for number in range(SMALL):
        (folder / "small" / f"{number}").write_bytes(os.urandom(4096))
    with open(folder / "large" / "model.pt", "wb") as file:
        for _ in range(LARGE >> 20):
            file.write(os.urandom(1 << 20))


def _both_ways(
    report: Report, root: Path, endpoint: Endpoint, aws: list[str] | None, name: str, files: Path
) -> None:
    env = {**os.environ, **endpoint.env}
    ours_up, ours_down, theirs_up, theirs_down, peaks = [], [], [], [], []
    for number in range(1 + ROUNDS):
        if number == 1:
            for times in (ours_up, ours_down, theirs_up, theirs_down):
                times.clear()
        bucket, lab = endpoint.bucket(), Lab(root)
        job = {"job_id": "a", "command": "true", "timeout": "1h", "result_paths": [f"{files}/**"]}
        document = lab.document([job])
        where = f"s3://{bucket}/q"
        seconds, peak = timed([*lab.run_command(document), "--results", where], env)
        ours_up.append(seconds)
        peaks.append(peak)
        command = [*RUNNER, "results", where, "--output", str(lab.root / "ours"), "--no-logs"]
        seconds, peak = timed(command, env)
        ours_down.append(seconds)
        assert _count(lab.root / "ours/a") == _count(files)
        endpoint.empty(bucket)
        if aws is not None:
            bucket = endpoint.bucket()
            theirs = f"s3://{bucket}/q"
            copy = [*aws, "s3", "cp", "--recursive", "--only-show-errors"]
            theirs_up.append(timed([*copy, str(files), theirs], env)[0])
            theirs_down.append(timed([*copy, theirs, str(lab.root / "theirs")], env)[0])
            assert _count(lab.root / "theirs") == _count(files)
            endpoint.empty(bucket)
        shutil.rmtree(lab.root / "ours")
        shutil.rmtree(lab.root / "theirs", ignore_errors=True)
    for way, ours, theirs_ in (("up", ours_up, theirs_up), ("down", ours_down, theirs_down)):
        if theirs_:
            detail = f"{min(ours):.2f} s, aws s3 cp {min(theirs_):.2f} s"
            title = f"{name} {way}, of aws s3 cp --recursive"
            report.add(title, min(ours) / min(theirs_), 1.0, "×", detail)
    report.add(f"{name} up: peak memory", max(peaks), 150, "MB")


def _count(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def timed(command: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak resident MB of a command that must succeed."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return took, usage.ru_maxrss / 1024


def _live_log(report: Report, root: Path, endpoint: Endpoint) -> None:
    """The bytes that a log of 1 GiB costs while it is written, of its own size."""
    bucket, lab = endpoint.bucket(), Lab(root)
    go = lab.root / "go"
    write = "for i in $(seq 1024); do head -c 1048576 /dev/zero; sleep 0.01; done"
    command = f"{write}; until [ -e {go} ]; do sleep 0.05; done"
    document = lab.document([{"job_id": "a", "command": command, "timeout": "1h"}])
    env = {**os.environ, **endpoint.env, "RUNNER_LIVE_LOG_INTERVAL": "500ms"}
    run = subprocess.Popen(
        [*lab.run_command(document), "--results", f"s3://{bucket}/q"],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    prefix = "q/jobs/a/attempts/1/stdout.log.parts/"

    def parts() -> dict[str, int]:
        return endpoint.keys(bucket, prefix)

    try:
        until(lambda: sum(parts().values()) >= 1 << 30, 300, 0.5, alive=run)
        stored = parts()
        go.touch()
        assert run.wait(120) == 0
    finally:
        if run.poll() is None:
            run.kill()
            run.wait()
    title = "live log of 1 GiB: bytes uploaded while it is written"
    report.add(title, sum(stored.values()) / (1 << 30), 1.01, "×", f"{len(stored)} parts")


def aws_command(place: Path) -> list[str] | None:
    """The AWS command line, in an environment of its own: it pins another botocore than ours."""
    command = place / "bin" / "aws"
    if not command.exists():
        try:
            venv.create(place, with_pip=True)
            install = [place / "bin" / "pip", "install", "--quiet", "awscli"]
            subprocess.run(install, check=True)
        except subprocess.CalledProcessError:
            print("the AWS command line can't be installed here: nothing to compare with")
            return None
    return [str(command)]


CASES: dict[str, Callable[[Report, Path], None]] = {"s3": results}
