"""`runner-fleet up` against the lab: a laptop, an account that says no, and machines that boot.

EC2, S3 and IAM are moto's, the fleet's database is a real PostgreSQL, its queue is moto's SQS (the
shipped policies are enforced there, too), the tests' own, or none. Each machine boots from exactly
what RunInstances was given.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cloud import REGION, CloudMachine
from journey import Journey
from postgres_server import PostgresServer
from sqs_server import SqsServer

from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.records import FleetJob, FleetTask

FLEET = [sys.executable, "-c", "from runner.fleet.cli.main import main; main()"]
PATIENCE = 150.0

# A task that runs on until its machine has the file, and says where it ran.
WAITS = (
    "touch /var/tmp/began.$I_ID; until [ -e /var/tmp/go ]; do sleep 0.1; done; "
    "cat /etc/machine-id > where"
)


_LOGS = "find /var/log/runner/queues -type f -path '*jobs*' -exec tail -n 30 {} +"


class FleetLab:
    """A job ``j`` of the fleet, its tasks, and the machines that `up` launches for it."""

    def __init__(
        self, journey: Journey, postgres: PostgresServer, stack: ExitStack, queue: str
    ) -> None:
        self.journey = journey
        self.ports = [postgres.port]
        self.url = postgres.database()
        self.sqs: SqsServer | None = None
        self.variables: dict[str, str] = {}
        if queue == "own":
            self.sqs = SqsServer()
            stack.callback(self.sqs.close)
            self.variables["AWS_ENDPOINT_URL_SQS"] = self.sqs.url
            self.ports.append(int(self.sqs.url.rpartition(":")[2]))
        self.env = {**journey.env, **self.variables, "RUNNER_FLEET": self.url}
        self.database: FleetDatabase = open_database(self.url)
        stack.callback(self.database.close)
        self.call("migrate")
        where = f"s3://{journey.cloud.bucket}/queues/j"
        region = ("--no-sqs",) if queue == "none" else ("--region", REGION)
        self.call(
            "jobs", "create", "--name", "j", "--command", WAITS, "--results", where, *region
        )  # fmt: skip
        self.job: FleetJob = self.database.job("j")

    def call(self, *words: str, code: int = 0) -> str:
        """Run a command of the fleet on the laptop; what it printed."""
        done = subprocess.run(
            [*FLEET, *words], cwd=self.journey.home, env=self.env, text=True, timeout=PATIENCE,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        print(f"$ runner-fleet {' '.join(words)} -> {done.returncode}\n{done.stdout}{done.stderr}")
        assert done.returncode == code, done.stderr
        return done.stdout

    def enqueue(self, *keys: str) -> None:
        """Tasks W/KEY."""
        volumes = [word for key in keys for word in ("--volume", f"W,{key}")]
        self.call("queue", "enqueue", "--job-name", "j", *volumes)

    def up(self, workers: int, *words: str, spot: bool = False) -> list[CloudMachine]:
        """The machines of `up`, in the order of their names, booting."""
        flags = ("--instance-type", "t3.medium", "--bundle", str(self.journey.bundle))
        kind = ("--spot",) if spot else ()
        told = json.loads(
            self.call(
                "up",
                "--job",
                "j",
                "--workers",
                str(workers),
                *flags,
                *kind,
                "--visibility-timeout",
                "40",
                "--shutdown-after-empty",
                "1",
                "--region",
                REGION,
                *words,
                "--json",
            )
        )
        launched = sorted(told["launched"], key=lambda each: str(each["queue_id"]))
        assert len(launched) == workers
        machines = [
            self.journey.machine(str(each["instance_id"]), spot=spot, **self.variables)
            for each in launched
        ]
        # What AWS's own endpoints are to a job there.
        known = {"AWS_ENDPOINT_URL": self.journey.cloud.endpoint.url, **self.variables}
        for there in machines:
            for port in self.ports:
                there.machine.forward(port)
            lines = "".join(f"{name}={value}\n" for name, value in known.items())
            there.machine.write("/etc/runner/environment", lines)
            there.machine.boot(wait=False)
        return machines

    def task(self, key: str) -> FleetTask:
        """As the database has it now."""
        found = self.database.tasks.named(self.job.id, f"W/{key}")
        assert found is not None
        return found

    def begun(self, there: CloudMachine, *keys: str) -> str:
        """Which of these tasks has begun on a machine; it is waited for."""

        def look() -> str | None:
            return next(
                (key for key in keys if there.machine.exists(f"/var/tmp/began.{key}")), None
            )

        try:
            return there.machine.wait_for(look, "a task on the machine", PATIENCE)
        except AssertionError:
            print(self.why(there))
            raise

    def why(self, there: CloudMachine) -> str:
        """What a machine tells of itself, for who has to find out why."""
        log = "/var/log/runner-bootstrap.log"
        told = there.machine.read(log) if there.machine.exists(log) else "(no log)"
        logs = there.machine.run("sh", "-c", _LOGS, check=False)
        return f"{told}\n{logs.stdout}{logs.stderr}\n{there.machine.last_words()}"

    def marker(self, key: str) -> Any:
        """The marker of a task in the job's store."""
        return json.loads(self.journey.cloud.get(f"queues/j/W/{key}/success.json") or b"null")

    def where(self, key: str) -> str:
        """The id of the machine on which the run that counts was made."""
        return self.result(key, "where").strip()

    def result(self, key: str, name: str) -> str:
        """A file of the run of a task that counts."""
        run = self.marker(key)["run"]
        told = self.journey.cloud.get(f"queues/j/W/{key}/{run}/jobs/task/{name}") or b""
        return told.decode()

    def said(self, there: CloudMachine) -> str:
        """What the worker of a machine has printed so far."""
        return there.machine.run("sh", "-c", _LOGS, check=False).stdout

    def stored_status(self, there: CloudMachine) -> str:
        """What is stored of the queue of a machine."""
        told = self.journey.cloud.admin("ec2").describe_instances(InstanceIds=[there.instance_id])
        tags = told["Reservations"][0]["Instances"][0]["Tags"]
        name = next(tag["Value"] for tag in tags if tag["Key"] == "runner:queue")
        state = json.loads(self.journey.cloud.get(f"queues/{name}/queue-state.json") or b"{}")
        return str(state.get("status"))


def machine_id(there: CloudMachine) -> str:
    """As its tasks write it down."""
    return there.machine.read("/etc/machine-id").strip()


def laboratory(
    root: Path, bundle: Path, home: Path, postgres: PostgresServer, queue: str, stack: ExitStack
) -> FleetLab:
    """For a fixture. ``queue``: "moto", "own" or "none"."""
    return FleetLab(Journey(root, bundle, home, stack), postgres, stack, queue)
