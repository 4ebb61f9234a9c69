"""Queues on AWS Batch: many submissions, ten thousand in flight, and results brought away.

Batch is the tests' server and S3 is moto's, each a process of Python: what they take is not ours,
and where it would be measured too it is said. The rates are Batch's own (50 submissions a second).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import RUNNER, Lab, Report, until
from s3 import KEEPS_MEMORY, aws_command, timed

sys.path.insert(0, str(Path(__file__).parents[1]))
from batch_account import BatchAccount
from batch_server import Delays, KeptLogs, MotoServices, Processes, Settings
from s3_endpoint import Endpoint

from runner.aws.batch import Batch
from runner.batch.poller import Poller

ROLE = "arn:aws:iam::123456789012:role/jobs"
INSTANT = Delays(submitted=(0, 0), runnable=(0, 0), starting=(0, 0), ended=(0, 0))
MANY, FLEET = 1_000, 10_000
SUBMITS_PER_SECOND = 40.0
"""The driver's own rate, below AWS's 50 (Batch User Guide, "Service quotas")."""

WATCHED_S = 60.0
AGE_S, SPREAD_S, ENDS = 120.0, 60.0, 200
"""How old jobs are before some end, in which time, and how many."""
MIB = 1 << 20
RESULT = 256 * MIB
ROUNDS = 3


class Cloud:
    """A Batch server and an S3 endpoint, and the environment of who uses them."""

    def __init__(self, endpoint: Endpoint, account: BatchAccount) -> None:
        self.endpoint, self.account = endpoint, account
        self.bucket = endpoint.bucket()
        self.env = {
            **os.environ,
            **endpoint.env,
            **account.env,
            "RUNNER_BATCH_JOB_QUEUE": "queue",
            "RUNNER_BATCH_IMAGE": "i",
            "RUNNER_BATCH_JOB_ROLE": ROLE,
        }

    def calls(self, since: int = 0) -> Counter[str]:
        """How often each operation was asked for, from a number of requests on."""
        return Counter(seen.operation for seen in self.account.server.seen[since:])


@contextmanager
def cloud(env: Mapping[str, str] | None = None) -> Iterator[Cloud]:
    """``env``: of the S3 endpoint's process."""
    endpoint = Endpoint(env)
    settings = Settings(delays=INSTANT)
    account = BatchAccount(Processes(KeptLogs()), settings, MotoServices(endpoint.url))
    account.environment.max_vcpus = 1e9
    try:
        yield Cloud(endpoint, account)
    finally:
        account.close()
        endpoint.close()


def many(report: Report, root: Path) -> None:
    """1,000 jobs, each a submission of its own: at the driver's rate, and none is throttled."""
    with cloud() as there:
        there.account.server.set_placing(there.account.environment, False)
        jobs = [{"job_id": f"j{n}", "command": "true", "timeout": "1h"} for n in range(MANY)]
        process = _start(there, Lab(root), jobs)
        seen = there.account.server.seen
        until(lambda: there.calls()["SubmitJob"] > 0, alive=process)
        began, before = time.monotonic(), len(seen)
        until(lambda: there.calls()["SubmitJob"] >= MANY, 120, 0.05, process)
        took = time.monotonic() - began
        throttled = sum(each.error == "TooManyRequestsException" for each in seen[before:])
        _end(process)
        detail = f"{MANY / took:.1f} a second, {throttled} throttled"
        least = MANY / SUBMITS_PER_SECOND
        report.add(
            "batch: 1,000 submissions, of the rate's own time", took / least, 1.15, "×", detail
        )
        report.add("batch: submissions that were throttled", throttled, 0, "calls")


def fleet(report: Report, root: Path) -> None:
    """10,000 in flight, watched for a minute once all of them are submitted."""
    with cloud() as there:
        there.account.server.set_placing(there.account.environment, False)
        array = {"job_id": "x", "command": "true", "timeout": "1h", "array": FLEET}
        process = _start(there, Lab(root), [array])
        until(lambda: len(there.account.server.jobs()) > FLEET, 300, 0.1, process)
        # Each of them was looked at once.
        until(lambda: there.calls()["DescribeJobs"] > 1.2 * FLEET / 100, 300, 0.1, process)
        before, began, busy = len(there.account.server.seen), time.monotonic(), _seconds(process)
        time.sleep(WATCHED_S)
        took = time.monotonic() - began
        looks = there.calls(before)["DescribeJobs"]
        core = 100 * (_seconds(process) - busy) / took
        memory = _peak(process) / MIB
        _end(process)
    report.add("batch: 10,000 in flight, share of a core", core, 5, "%")
    report.add("batch: 10,000 in flight, the driver's memory", memory, 200, "MB")
    report.add("batch: 10,000 in flight, DescribeJobs a second", looks / took, 2.0, "/s")


def ends(report: Report, root: Path) -> None:
    """How late an end is known: of jobs that have been as they are for two minutes."""
    for count, bound in ((500, 10.0), (FLEET, 60.0)):
        late = sorted(_lateness(count))
        p95 = late[int(len(late) * 0.95)]
        detail = f"p50 {late[len(late) // 2]:.1f} s, of {len(late)} ends"
        report.add(f"batch: an end is known with {count:,} in flight, p95", p95, bound, "s", detail)


def _lateness(count: int) -> list[float]:
    """Seconds from the end of each of ENDS jobs until the poller has told of it."""
    with cloud() as there:
        account = there.account
        account.server.set_placing(account.environment, False)
        account.register()
        array = account.submit("true", arrayProperties={"size": count})
        ids = [f"{array}:{n}" for n in range(count)]
        ended, known = dict[str, float](), dict[str, float]()
        looked = set[str]()

        def told(job: str, detail: Mapping[str, Any] | None) -> None:
            looked.add(job)
            if detail is not None and detail["status"] == "FAILED":
                known.setdefault(job, time.monotonic())

        os.environ.update(account.env)
        poller = Poller(Batch("us-east-1").describe)
        for job in ids:
            poller.watch(job, told)
        until(lambda: len(looked) == count, 300, 0.1)
        time.sleep(AGE_S)
        dice = random.Random(1)
        for job in dice.sample(ids, ENDS):
            time.sleep(dice.uniform(0, 2 * SPREAD_S / ENDS))
            account.client.terminate_job(jobId=job, reason="bench")
            ended[job] = time.monotonic()
        until(lambda: len(known) == ENDS, 300, 0.1)
        poller.close()
        poller.join(5)
        return [known[job] - ended[job] for job in ended]


def staged(report: Report, root: Path) -> None:
    """A result of 256 MiB, from COMMAND's end until all of it is stored, beside `aws s3 cp`."""
    aws = aws_command(Path(".bench/awscli").absolute())
    if aws is None:
        return
    lab = Lab(root)
    file = lab.root / "model.bin"
    with file.open("wb") as made:
        for _ in range(RESULT // MIB):
            made.write(os.urandom(MIB))
    ours, theirs = [], []
    with cloud(KEEPS_MEMORY) as there:
        for number in range(1 + ROUNDS):
            took = _stored_in(there, Lab(root), file)
            copy = [
                *aws,
                "s3",
                "cp",
                "--only-show-errors",
                str(file),
                f"s3://{there.bucket}/theirs",
            ]
            if number:
                ours.append(took)
                theirs.append(timed(copy, there.env)[0])
            there.endpoint.empty(there.bucket)
    detail = f"{min(ours):.2f} s, aws s3 cp {min(theirs):.2f} s"
    report.add("batch: 256 MiB staged, of aws s3 cp", min(ours) / min(theirs), 1 / 0.9, "×", detail)


def _stored_in(there: Cloud, lab: Lab, file: Path) -> float:
    """Seconds from the record of COMMAND's end to the record that its files are stored."""
    command = f"cp {file} . && echo {file.stat().st_size}"
    job = {"job_id": "a", "command": command, "timeout": "1h", "result_paths": [file.name]}
    process = _start(there, lab, [job])
    at: dict[str, float] = {}

    def both() -> bool:
        for key in there.endpoint.keys(there.bucket, "queues/bench/jobs/a/attempts/"):
            for record in ("end", "stored"):
                if key.endswith(f".{record}.json"):
                    at.setdefault(record, time.perf_counter())
        return len(at) == 2

    until(both, 120, 0.02, process)
    assert process.wait(60) == 0, (lab.root / "said").read_text()
    return at["stored"] - at["end"]


def _start(there: Cloud, lab: Lab, jobs: list[dict[str, object]]) -> subprocess.Popen[bytes]:
    document = lab.document(jobs, result_s3_bucket=there.bucket, max_parallel_jobs="fit")
    folders = ["--state-dir", str(lab.state), "--log-dir", str(lab.root / "logs")]
    words = [*RUNNER, "run", str(document), *folders, "--target", "batch", "--bundle", "image"]
    with (lab.root / "said").open("wb") as said:
        return subprocess.Popen(words, env=there.env, stdout=said, stderr=said)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Without its own ending, which would terminate all of them one by one."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def _seconds(process: subprocess.Popen[bytes]) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak(process: subprocess.Popen[bytes]) -> int:
    """The most memory that it has had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [each for each in status.splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


CASES: dict[str, Any] = {
    "batch-many": many,
    "batch-fleet": fleet,
    "batch-ends": ends,
    "batch-staged": staged,
}
