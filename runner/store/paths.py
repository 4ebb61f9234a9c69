"""Every local path, by name. Nothing else joins file names to the state and log folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.errors import disk_error
from runner.model.elements import path_of

SPOT_NOTICE = "spot-notice"
"""The file in a queue's folder that tells jobs that the machine is about to be taken away."""


@dataclass(frozen=True, slots=True)
class StatePaths:
    """The state folder: queues, their locks, and the link to the current queue's state.

    ``durable``: what is written survives a power cut. False where the folder is of no use then.
    """

    root: Path
    durable: bool = True

    @property
    def queues(self) -> Path:
        return self.root / "queues"

    @property
    def daemon_lock(self) -> Path:
        return self.root / "daemon.lock"

    @property
    def current_state(self) -> Path:
        return self.root / "queue-state.json"

    @property
    def machine(self) -> Path:
        """What is to become of the machine, and when."""
        return self.root / "machine.json"

    @property
    def folder_id(self) -> Path:
        """The state folder's own name among all that there are."""
        return self.root / "folder-id"

    @property
    def ages(self) -> Path:
        """How long ended queues have been kept."""
        return self.root / "ages.json"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def own(self) -> tuple[Path, ...]:
        """What is ours alone, the folder itself among it."""
        return (self.root, self.queues, self.locks, self.machine, self.daemon_lock, self.folder_id)

    def queue_lock(self, queue_id: str) -> Path:
        """Beside the queues and not inside: ``--fresh`` moves the queue's folder away."""
        return self.locks / f"{queue_id}.lock"

    def staged_work(self, queue_id: str) -> Path:
        """A work folder that was laid out before its queue is there; the queue's first session
        takes it. Its name is no queue's: those begin with a letter or digit."""
        return self.queues / f".work-{queue_id}"

    def database_of(self, name: str) -> str:
        """A str and not a Path: every kept queue's is looked at again and again."""
        return f"{self.root}/queues/{name}/state.db"

    def queue(self, name: str) -> QueuePaths:
        return QueuePaths(self.queues / name, self.durable)


@dataclass(frozen=True, slots=True)
class QueuePaths:
    """One queue's folder in the state folder. ``durable``: see StatePaths."""

    root: Path
    durable: bool = True

    @property
    def database(self) -> Path:
        return self.root / "state.db"

    @property
    def shim_records(self) -> Path:
        return self.root / "attempts"

    @property
    def last_event(self) -> Path:
        """Which line of the story was durable last: tells when the database has lost some."""
        return self.root / "last-event"

    @property
    def projection(self) -> Path:
        return self.root / "queue-state.json"

    @property
    def document(self) -> Path:
        """For people, like the projection: what runs, where it was given in short."""
        return self.root / "queue.json"

    @property
    def given(self) -> Path:
        """The same as it was given."""
        return self.root / "queue.given.json"

    @property
    def socket(self) -> Path:
        return self.root / "control.sock"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def spool(self) -> Path:
        """Copies of results whose upload takes too long for those who wait for it."""
        return self.root / "spool"

    @property
    def payloads(self) -> Path:
        """Calls of functions, and their results, of a queue that an Executor has made."""
        return self.root / "payloads"

    def upload_record(self, job_id: str) -> Path:
        """What of a job is stored already, while its upload isn't done."""
        return self.root / "uploads" / f"{job_id}.jsonl"

    def checkpoint_record(self, job_id: str) -> Path:
        """The same of its checkpoint."""
        return self.root / "uploads" / "checkpoints" / f"{job_id}.jsonl"

    def inputs(self, job_id: str) -> Path:
        """What is known of the inputs that were fetched for a job."""
        return self.root / "inputs" / f"{job_id}.json"

    def fingerprint(self, job_id: str) -> Path:
        """What a job that runs depended on when it was about to start."""
        return self.root / "fingerprints" / f"{job_id}.json.gz"

    @property
    def hashes(self) -> Path:
        """Of all queues: what files held when they were hashed."""
        return self.root.parent.parent / "fingerprints" / "hashes.db"

    def completed_runs(self, queue_id: str) -> Path:
        """What the last completed runs depended on, of a queue without a result store. Not in the
        queue's folder, for it outlives a run."""
        return self.root.parent.parent / "fingerprints" / "queues" / queue_id

    @property
    def own(self) -> tuple[Path, ...]:
        """What is ours alone, the folder itself among it, which the work folder is in."""
        database = [self.database.with_name(f"state.db{more}") for more in ("", "-wal", "-shm")]
        noted = (self.root / "inputs", self.root / "fingerprints")
        others = (self.shim_records, self.projection, self.socket, self.spool, *noted)
        shown = (self.document, self.given)
        return (self.root, *database, *others, *shown, self.spot_notice)

    @property
    def spot_notice(self) -> Path:
        return self.root / SPOT_NOTICE


@dataclass(frozen=True, slots=True)
class LogPaths:
    """One queue's logs: the newest attempt's in ``jobs``, earlier ones in ``attempts``.

    Those of an array's elements are in folders of the array's: ``jobs/x/17-stdout.log``.
    """

    log_dir: Path
    name: str

    @property
    def root(self) -> Path:
        return self.log_dir / "queues" / self.name

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def current(self) -> Path:
        """The link that always shows the current queue's logs."""
        return self.log_dir / "jobs"

    @property
    def own(self) -> tuple[Path, ...]:
        """What is ours alone."""
        return (self.log_dir, self.log_dir / "queues", self.root)

    @property
    def owner(self) -> Path:
        """A link to the folder of the state that the logs belong to."""
        return self.root / "state"

    def newest(self, job_id: str, stream: str) -> str:
        """A str and not a Path: this is on the way from one job's end to the next's start."""
        return f"{self.log_dir}/queues/{self.name}/jobs/{path_of(job_id)}-{stream}.log"

    def earlier(self, job_id: str, attempt: int, stream: str) -> str:
        path = path_of(job_id)
        return f"{self.log_dir}/queues/{self.name}/attempts/{path}/{attempt}/{stream}.log"

    def rotate(self, job_id: str, previous: int) -> None:
        """Make way for a new attempt's logs; safe to repeat at any point of a crash."""
        if job_id.endswith("]"):
            folder = os.path.dirname(self.newest(job_id, "stdout"))
            if not os.path.isdir(folder):
                os.makedirs(folder, exist_ok=True)
        for stream in ("stdout", "stderr"):
            newest = self.newest(job_id, stream)
            if not os.path.lexists(newest):
                continue
            target = self.earlier(job_id, previous, stream)
            if previous < 1 or os.path.lexists(target):
                # Of a start that came to nothing: its number is used again.
                target = f"{newest}.{os.stat(newest, follow_symlinks=False).st_mtime_ns}"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(newest, target)

    def of_attempt(self, job_id: str, attempt: int, newest: int, stream: str) -> str:
        """Where an attempt's log is, given the number of the newest attempt.

        A start that came to nothing may have made way already.
        """
        path = self.newest(job_id, stream)
        earlier = self.earlier(job_id, attempt, stream)
        if attempt == newest and (os.path.lexists(path) or not os.path.lexists(earlier)):
            return path
        return earlier

    def leave_empty(self, job_id: str) -> None:
        """The logs of an attempt that ended before it could write any. Raises OSError."""
        for stream in ("stdout", "stderr"):
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(self.newest(job_id, stream), flags, 0o644))


def resolved(*paths: Path) -> frozenset[str]:
    """Their real paths. The folder of several is resolved once: each step of it costs a call."""
    folders: dict[Path, str] = {}

    def real(path: Path) -> str:
        if (folder := folders.get(path.parent)) is None:
            folder = folders[path.parent] = os.path.realpath(path.parent)
        whole = os.path.join(folder, path.name)
        return os.path.realpath(whole) if os.path.islink(whole) else whole

    return frozenset(map(real, paths))


def home_folder(environ: Mapping[str, str]) -> Path | None:
    """The caller's home; None where there is none: a container's user may have neither HOME nor an
    entry in the user database, and cron's and a container's HOME may be empty."""
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        import pwd

        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(home) if home.startswith("/") else None


def prepare_folders(paths: StatePaths) -> None:
    """Make a state folder that jobs pass through to their work folders, and see nothing of.

    One that is there keeps its mode: it may be its owner's for more than this. Raises DiskError.
    """
    try:
        if not paths.root.is_dir():
            paths.root.parent.mkdir(parents=True, exist_ok=True)
            _make(paths.root, 0o711)
        _make(paths.queues, 0o711)
        _make(paths.locks, 0o700)
    except OSError as error:
        raise disk_error(error.filename or paths.root, error) from None


def _make(folder: Path, mode: int) -> None:
    folder.mkdir(exist_ok=True)
    folder.chmod(mode)


def make_owned(folder: Path, uid: int, gid: int) -> None:
    """Make a folder in one of ours and give it away, or give away the one that is there.

    What is in it stays whose it is; its owner can't put anything else in its place. Raises OSError.
    """
    folder.mkdir(mode=0o755, exist_ok=True)
    found = os.lstat(folder)
    if found.st_uid != uid:
        os.lchown(folder, uid, gid)


def replace_link(link: Path, target: Path) -> None:
    """Point ``link`` at ``target``, atomically, by a path relative to the link's folder."""
    relative = os.path.relpath(target, link.parent)
    try:
        if os.readlink(link) == relative:
            return
    except OSError:
        pass
    remove_stale(link)
    temporary = link.parent / f".{link.name}.{os.getpid()}"
    temporary.symlink_to(relative)
    os.replace(temporary, link)


def remove_stale(link: Path) -> None:
    """Remove what a process left that was killed before it could put a file in place.

    Its name is ``.NAME.PID`` beside it.
    """
    for stale in link.parent.glob(f".{link.name}.*"):
        pid = stale.suffix[1:]
        if pid == str(os.getpid()) or not os.path.exists(f"/proc/{pid}"):
            stale.unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder, as far as it can be. Neither way can be led out of it by a link.

    Jobs make what they like: rmtree needs a descriptor and a stack frame for each level.
    """
    import shutil

    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        import subprocess

        subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, check=False)
