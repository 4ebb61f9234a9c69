"""The place an engine runs in: what a job's process is given of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runner.core.actions import StartAttempt
from runner.core.scheduler import Scheduler
from runner.engine.backend import AttemptBackend, Post
from runner.engine.courier import Courier
from runner.model.document import JobSpec, QueueSpec
from runner.model.elements import split_name
from runner.process.cgroup import Group
from runner.process.forker_client import ForkerHolder
from runner.process.shim_protocol import User
from runner.process.tree import TOKEN_VARIABLE
from runner.results.store import ResultStore
from runner.rights import Rights
from runner.store.paths import SPOT_NOTICE, LogPaths, QueuePaths


@dataclass(frozen=True, slots=True)
class EngineContext:
    """What an engine needs to know of the place it runs in.

    ``environment`` is the base of every job's, ``work_dir`` the working folder of a job that
    names none, ``rights`` those of its commands and of what touches its files (None: our own);
    ``jobs_unit`` is the folder of the unit that their control groups are made in, if there is one;
    ``heartbeat`` is how often the store's lease is renewed (None: there is none), ``instance``
    tells which machine this is, once it is known; ``folder_id`` names the state folder; ``own``
    are the files and folders of runner's, as real paths: no job's patterns mean them;
    ``backend`` makes what attempts run in (None: processes of this machine);
    ``journal``: a step is acted upon only once its records are in the store, for the state folder
    may be lost; ``reuse``: what an earlier run has made may stand for what this one would;
    ``journal_after`` is the number of the part that is gone on from, None where this
    state folder has stored the newest itself;
    ``courier`` sends notices (None: nobody does); ``forkers``: see ForkerHolder;
    ``disk_reserve`` is in bytes; all times are in seconds, as in Settings.
    """

    paths: QueuePaths
    logs: LogPaths
    queue_id: str
    work_dir: str
    environment: dict[str, str]
    rights: Rights | None = None
    jobs_unit: str | None = None
    projection_interval: float = 1.0
    disk_reserve: int = 0
    results: ResultStore | None = None
    upload_wait: float = 60.0
    upload_timeout: float = 600.0
    live_log_interval: float = 30.0
    heartbeat: float | None = None
    instance: Callable[[], str | None] = lambda: None
    own: frozenset[str] = frozenset()
    folder_id: bytes = b""
    backend: MakeBackend | None = None
    reuse: bool = True
    journal: bool = False
    journal_after: int | None = None
    courier: Courier | None = None
    forkers: ForkerHolder | None = None

    def holder(self, run_id: str) -> str:
        """How a result store names who works on the queue here."""
        from runner.results import claim

        return claim.holder(run_id, self.folder_id)

    @property
    def user(self) -> User | None:
        """The same, for whoever starts commands."""
        return None if self.rights is None else User(*self.rights)

    def group(self, token: str) -> Group | None:
        """The control group of an attempt, where attempts have one."""
        return Group(self.jobs_unit, token) if self.jobs_unit else None

    def working_directory(self, document: QueueSpec, job: JobSpec) -> str:
        """Where the job runs; a relative one is below the folder of a job that names none."""
        named = job.working_directory or document.working_directory
        return os.path.join(self.work_dir, named) if named else self.work_dir

    def variables(
        self, job: JobSpec, action: StartAttempt, cwd: str, secrets: Mapping[str, str]
    ) -> dict[str, str]:
        """What an attempt has on top of the queue's own environment."""
        job_id, index = split_name(job.job_id)
        return {
            **job.env,
            **secrets,
            **({} if index is None else {ARRAY_INDEX: str(index)}),
            "JOB_ID": job_id,
            "JOB_ATTEMPT": str(action.attempt),
            "QUEUE_ID": self.queue_id,
            "RUNNER_WORK_DIR": cwd,
            "RUNNER_SPOT_NOTICE": f"{self.paths.root}/{SPOT_NOTICE}",
            TOKEN_VARIABLE: action.token,
        }


ARRAY_INDEX = "RUNNER_ARRAY_INDEX"
"""The variable that tells an array's element which it is."""

MakeBackend = Callable[[EngineContext, Scheduler, Post, Callable[[], bool]], AttemptBackend]
"""Makes the backend of a session. The last argument tells whether the disk is short of space."""
