"""The targets of an Executor that the tests have, each opened in the same way.

A kind is an opener in OPENERS: a context manager that makes what its Executors need (a daemon, a
Batch server, workers) and gives an ExecutorTarget. tests/stress/test_executor_on_targets.py and
test_executor_ends_on_targets.py run one list of behaviours on every kind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from world import World

from runner import Executor

PREAMBLE = """
import json, os, sys, time
from runner import Executor

def executor(**more):
    return Executor(**{**json.loads(sys.argv[1]), **more})

"""
"""What the programs of ``ExecutorTarget.program`` begin with."""


@dataclass(frozen=True)
class ExecutorTarget:
    """``arguments(workers)``: the keywords of an Executor here, whose jobs run at most ``workers``
    at once; JSON can hold them, so that other processes have them too. ``durable(folder)``: more
    keywords, by which a second Executor, in another process too, goes on with the queue of the
    first; every folder is another queue. ``environment``: what a process needs to reach the target.
    ``patience``: seconds, within which every test's job is over. ``absent``: the names of tests
    that don't apply, each with the reason. ``works_here``: jobs see this machine's files.
    """

    kind: str
    arguments: Callable[[int], dict[str, Any]]
    durable: Callable[[Path], dict[str, Any]]
    environment: Mapping[str, str] = field(default_factory=dict)
    patience: float = 60
    absent: Mapping[str, str] = field(default_factory=dict)
    works_here: bool = True

    def make(self, workers: int = 4, folder: Path | None = None, **more: Any) -> Executor:
        """An Executor with a queue of its own, or, with ``folder``, the durable one of that."""
        kept = self.durable(folder) if folder is not None else {}
        return Executor(**{**self.arguments(workers), **kept, **more})

    def program(
        self, text: str, *arguments: str, workers: int = 4, folder: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a program of its own, which makes its Executors by ``executor(**more)``."""
        kept = self.durable(folder) if folder is not None else {}
        given = json.dumps({**self.arguments(workers), **kept})
        return subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(text), given, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment},
        )

    def run(self, text: str, *arguments: str, workers: int = 4, folder: Path | None = None) -> str:
        """What such a program prints; it must end well and say nothing on stderr."""
        with self.program(text, *arguments, workers=workers, folder=folder) as process:
            try:
                stdout, stderr = process.communicate(timeout=3 * self.patience)
            finally:
                process.kill()
        assert (process.returncode, stderr) == (0, "")
        return stdout

    def skip_if_absent(self, test: str) -> None:
        """Skip a test that doesn't apply to this kind."""
        if reason := self.absent.get(test):
            pytest.skip(f"{self.kind}: {reason}")


Opener = Callable[[Path], AbstractContextManager[ExecutorTarget]]
"""Given an empty folder of its own. Where the kind can't be had, it calls ``pytest.skip``, or in CI
``pytest.fail``."""


@contextmanager
def local_target(folder: Path) -> Iterator[ExecutorTarget]:
    """Processes of this machine, driven by the process that has the Executor."""
    yield ExecutorTarget(
        kind="local",
        arguments=lambda workers: {"max_workers": workers},
        durable=lambda where: {"state_dir": str(where)},
    )


@contextmanager
def batch_target(folder: Path) -> Iterator[ExecutorTarget]:
    """AWS Batch: see executor_on_batch."""
    import executor_on_batch

    with executor_on_batch.batch_target(folder) as target:
        yield target


@contextmanager
def fleet_target(folder: Path) -> Iterator[ExecutorTarget]:
    """An embedded fleet: see executor_on_fleet."""
    import executor_on_fleet

    with executor_on_fleet.fleet_target(folder) as target:
        yield target


@contextmanager
def fleet_sqs_target(folder: Path) -> Iterator[ExecutorTarget]:
    """A fleet of PostgreSQL, SQS and S3: see executor_on_fleet."""
    import executor_on_fleet

    with executor_on_fleet.fleet_sqs_target(folder) as target:
        yield target


@contextmanager
def daemon_target(folder: Path) -> Iterator[ExecutorTarget]:
    """A daemon of its own, reached by its socket."""
    world = World(folder)
    try:
        world.daemon()
        socket = str(world.run_dir / "runner.sock")
        yield ExecutorTarget(
            kind="daemon",
            arguments=lambda workers: {
                "target": "daemon",
                "socket": socket,
                "max_workers": workers,
            },
            durable=lambda where: {"name": where.name},
        )
    finally:
        world.close()


OPENERS: dict[str, Opener] = {
    "local": local_target,
    "daemon": daemon_target,
    "batch": batch_target,
    "fleet": fleet_target,
    "fleet-sqs": fleet_sqs_target,
}


@pytest.fixture(scope="module", params=OPENERS)
def opened_target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExecutorTarget]:
    """Each kind of target, with all that it needs."""
    with (
        OPENERS[request.param](tmp_path_factory.mktemp(request.param)) as target,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in target.environment.items():
            patch.setenv(name, value)
        if not target.works_here:  # there is no module of the tests
            cloudpickle.register_pickle_by_value(request.module)
        yield target
        if not target.works_here:
            cloudpickle.unregister_pickle_by_value(request.module)


@pytest.fixture(scope="module")
def shared_executor(opened_target: ExecutorTarget) -> Iterator[Executor]:
    """One Executor for the tests that only submit."""
    with opened_target.make() as made:
        yield made


@pytest.fixture
def target(opened_target: ExecutorTarget, request: pytest.FixtureRequest) -> ExecutorTarget:
    """The kind, if the test applies to it."""
    opened_target.skip_if_absent(request.node.originalname)
    return opened_target


@pytest.fixture
def ex(target: ExecutorTarget, shared_executor: Executor) -> Executor:
    """See ``shared_executor``."""
    return shared_executor


@pytest.fixture
def patience(target: ExecutorTarget) -> float:
    """Seconds that a job may take here."""
    return target.patience


def until(condition: Callable[[], object], patience: float) -> None:
    """Wait for it."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not come to it in time"
        time.sleep(0.02)
