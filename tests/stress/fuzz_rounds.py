"""One round of the launch fuzz: played, and looked at.

The same seed makes the same round again, however busy the machine is: see fuzz_draw.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from fuzz_agent import Agents
from fuzz_cloud import FuzzCloud
from fuzz_draw import Drawing
from fuzz_people import LAUNCHES, Command, Done, Launcher, People
from fuzz_truth import Identity, Machine, Truth
from s3_endpoint import Endpoint

from runner.timestamps import rfc3339_seconds

AFTER = 2500.0
"""Seconds after the noise until the same commands are given again: all is to be seen by then,
and no clock is so wrong."""


class Round:
    """Play it; what was wrong is in ``truth.wrongs``."""

    def __init__(
        self, seed: int, cloud: FuzzCloud, endpoint: Endpoint, launcher: Launcher, folder: Path
    ) -> None:
        self._cloud = cloud
        self._endpoint = endpoint
        cloud.clock.restart()
        self.truth = Truth(seed, cloud.now, lagging=True)
        self._agents = Agents(endpoint)
        self._people = People(launcher, cloud, folder)
        mark = f"r{uuid.uuid4().hex[:8]}"
        cloud.begin(self.truth, self._agents, f"s3://{mark}-*")
        buckets = [f"{mark}-{name}" for name in ("one", "two")]
        for bucket in buckets:
            endpoint.client().create_bucket(Bucket=bucket)
        one, two = buckets
        queues = [
            Identity(f"s3://{one}/queues/nightly", "nightly"),
            Identity(f"s3://{two}/queues/nightly", "nightly"),
            Identity(f"s3://{one}/queues/other", "other"),
        ]
        self._laptops = [self._people.laptop("ann", 0.0), self._people.laptop("bob", 0.0)]
        self._draw = Drawing(
            seed, self.truth, self._people, self._laptops, queues, self._agents.booted
        )
        self._laptops[1].skew = self._draw.random.choice((0.0, 0.0, 900.0, -900.0))

    # -- what is played ----------------------------------------------------------------------

    def play(self) -> None:
        """Noise, then quiet, then the same commands again."""
        self.truth.note(f"clocks: {[(each.name, each.skew) for each in self._laptops]}")
        for _ in range(self._draw.random.randint(2, 5)):
            self._type(None, nested=False)
            self._pass()
            if self.truth.wrongs:
                return
        self.truth.note("  the noise has ended")
        self.truth.lagging = False
        self._cloud.clock.sleep(0, AFTER)
        for machine in self.truth.alive():
            self._boot(machine)
        self._settle()

    def _type(self, contended: Command | None, *, nested: bool) -> None:
        command = self._draw.command(contended)
        plan = self._draw.plan(command, None if nested else self._others)
        pages = self._draw.random.choice((0, 0, 1, 2))
        self._look(self._people.call(command, plan, pages))

    def _others(self, contended: Command | None, seed: int) -> None:
        """What others type while a laptop sleeps."""
        with self._draw.apart(seed):
            for _ in range(self._draw.random.choice((1, 1, 2))):
                self._type(contended, nested=True)

    def _pass(self) -> None:
        """Time passes, and machines go on."""
        draw = self._draw.random
        self._cloud.clock.sleep(0, draw.choice((0.0, 1.0, 30.0, 200.0, 4000.0)))
        for machine in self.truth.alive():
            match draw.choices(("none", "boots", "completes", "stops"), (3, 5, 1, 1))[0]:
                case "boots":
                    self._boot(machine)
                case "completes" if machine.instance_id in self._agents.booted:
                    self._complete(machine)
                case "stops" if machine.instance_id in self._agents.booted:
                    self._stop(machine)

    def _boot(self, machine: Machine) -> None:
        if machine.state != "running":
            return
        self._agents.booted.add(machine.instance_id)
        for queue in sorted(machine.queues):
            self._store(queue, "running")

    def _complete(self, machine: Machine) -> None:
        """All its queues are done, and it ends itself."""
        for queue in sorted(machine.queues):
            self._store(queue, "completed")
        machine.queues.clear()
        self._ec2("terminate_instances", machine)
        self.truth.ended(machine.instance_id, "itself, its queues being done")

    def _stop(self, machine: Machine) -> None:
        self._ec2("stop_instances", machine)
        self.truth.stopped(machine.instance_id)

    def _ec2(self, operation: str, machine: Machine) -> None:
        import boto3

        client = boto3.client(
            "ec2",
            endpoint_url=self._endpoint.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        getattr(client, operation)(InstanceIds=[machine.instance_id])
        client.close()

    def _store(self, queue: Identity, status: str) -> None:
        """What a machine stores of its queue."""
        bucket, _, prefix = queue.store.removeprefix("s3://").partition("/")
        path = self._people.document(self._laptops[0], queue)
        job = {"job_id": "a", "status": status, "attempt": 1}
        state = {
            "queue_id": queue.queue_id,
            "run_id": "r",
            "status": status,
            "updated_at": rfc3339_seconds(self.truth.now()),
            "jobs": [job],
        }
        for name, body in (
            ("queue.json", path.read_bytes()),
            ("queue-state.json", json.dumps(state).encode()),
        ):
            self._endpoint.client().put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=body)

    # -- what is looked at -------------------------------------------------------------------

    def _look(self, done: Done) -> None:
        """What a command said, against what there is."""
        command = done.command
        for name in done.named & set(self.truth.machines) if command.verb != "ls" else ():
            self.truth.machines[name].told = True
        if command.verb in LAUNCHES and "--instance-id" not in command.argv:
            assert command.queue is not None
            self._draw.again[command.who.name, command.queue] = command
            self._look_at_launch(done)

    def _look_at_launch(self, done: Done) -> None:
        assert done.command.queue is not None
        mine = [each for each in self.truth.machines.values() if each.by == done.call.words]
        alive = [each for each in mine if each.alive]
        text = done.out + done.err
        ended = self._has_ended(done.command.queue)
        if done.code == 0 and not (done.cut or ended or done.named & set(self.truth.machines)):
            self.truth.wrong(f"{done.command} succeeded and named no machine")
        if "nothing was launched" in text or "refuses the launch" in text:
            untold = [each.instance_id for each in alive if not each.told]
            if untold:
                self.truth.wrong(f"{done.command} said that nothing was launched: {untold}")

    def _settle(self) -> None:
        """The same commands again say the truth; then all that lives is known."""
        for command in list(self._draw.again.values()):
            self._look(done := self._people.call(command))
            self._look_at_settled(done)
        self._look_at_all()

    def _look_at_settled(self, done: Done) -> None:
        queue = done.command.queue
        assert queue is not None
        alive = {each.instance_id for each in self.truth.alive(queue)}
        if self._has_ended(queue) and not alive:
            return
        if done.code == 0 and not alive & done.named:
            self.truth.wrong(f"{done.command} succeeded, and named none of {sorted(alive)}")
        elif done.code == 102 and queue not in self.truth.known:
            pass  # it was never begun
        elif "--instance-type: is required" in done.err and not self._was_launched(queue):
            pass  # it was put onto a machine of another bucket, and nothing tells how that was made
        elif done.code != 0 and not alive & done.named:
            self.truth.wrong(f"{done.command} can't go on: nothing has the queue ({sorted(alive)})")

    def _was_launched(self, queue: Identity) -> bool:
        return any(each.owner == queue for each in self.truth.machines.values())

    def _has_ended(self, queue: Identity) -> bool:
        bucket, _, prefix = queue.store.removeprefix("s3://").partition("/")
        key = f"{prefix}/queue-state.json"
        if key not in self._endpoint.keys(bucket, key):
            return False
        return bool(json.loads(self._endpoint.read(bucket, key))["status"] == "completed")

    def _look_at_all(self) -> None:
        done = self._people.call(Command(self._laptops[0], ("ls", "--json")))
        found: Any = json.loads(done.out or "{}").get("found", [])
        listed = {each["id"] for each in found}
        alive = {each.instance_id for each in self.truth.alive()}
        if listed != alive:
            self.truth.wrong(f"ls shows {sorted(listed)}, there are {sorted(alive)}")
        for machine in self.truth.alive():
            if not machine.told:
                self.truth.wrong(f"{machine.instance_id} lives, and nobody was told")

    def close(self) -> None:
        """Nothing of it costs anything any more."""
        for machine in self.truth.alive():
            self._ec2("terminate_instances", machine)
