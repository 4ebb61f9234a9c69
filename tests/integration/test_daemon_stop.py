"""A daemon that is told to go while it is busy with something else than a queue."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from runner.host.notify import Notifier
from runner.model.settings import Settings
from runner.service import daemon
from runner.service.daemon import Daemon
from runner.service.job_user import job_user
from runner.service.queue_repository import QueueRepository


def test_sigterm_during_a_prune_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service stopped just after its start would sleep for a day, until systemd killed it."""
    leaving = threading.Event()

    def prune(repository: QueueRepository, age: float) -> list[str]:
        os.kill(os.getpid(), signal.SIGTERM)
        assert leaving.wait(10)
        return []

    def stopping(notifier: Notifier, *, slowly: bool = False) -> None:
        leaving.set()

    monkeypatch.setattr(daemon, "prune", prune)
    monkeypatch.setattr(Notifier, "stopping", stopping)
    settings = Settings(
        config_file=tmp_path / "runner.toml",
        state_dir=tmp_path / "state",
        log_dir=tmp_path / "log",
        run_dir=tmp_path / "run",
        job_user="root" if os.geteuid() == 0 else None,
    )

    async def lives_and_ends() -> None:
        await asyncio.wait_for(Daemon(settings, job_user(settings)).run(), 10)

    asyncio.run(lives_and_ends())
