"""What an installed runner does on a machine that was launched for a queue: the last of its boot.

Called once by ``first_boot/boot.py``, as root, when the service is installed and not yet started:
``python -m runner.targets.ec2.boot.provision FOLDER``. It writes the settings, lays out the work
folder, starts the service and submits the queue. May be called again after it was cut.
"""

from __future__ import annotations

import json
import math
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from runner.core.machine_lifetime import Moment
from runner.errors import RunnerError
from runner.files import replace_file, sync_folder
from runner.host.machine_file import this_moment
from runner.model.document import dump_document, parse_stored
from runner.model.records import Name, WallTime, parse
from runner.model.settings import load_settings
from runner.service.job_user import JobUser, check_folders, job_user
from runner.store.paths import StatePaths, make_owned, prepare_folders
from runner.targets.ec2.launch.firing_document import of_firing
from runner.targets.ec2.launch.workdir import unpack

SETTINGS = Path("/etc/runner/runner.toml")
_EXPIRES = Path("/run/runner-boot/expires")
"""Seconds of /proc/uptime at which the machine's time is over; see first_boot/boot.sh."""

_RUNNER = "/opt/runner/bin/runner"
_JOURNAL = ("journalctl", "--no-pager", "--quiet")
_UNITS = ("runner.service", "runner-lifetime.timer")


def main(words: list[str]) -> int:
    folder = Path(words[0])
    try:
        provision_machine(
            parse(Provision, (folder / "boot.json").read_bytes(), "boot.json"), folder
        )
    except (RunnerError, OSError) as error:
        print(f"runner provision: {error}", file=sys.stderr)
        return 1
    return 0


@dataclass(frozen=True, slots=True)
class Provision:
    """What this needs of ``user_data.BootConfig``, as it is on the machine."""

    queue_id: Name
    settings: Mapping[str, str]
    expires: WallTime
    workdir: Mapping[str, str] | None
    again: tuple[str, ...] = ()
    firing: Mapping[str, Any] | None = None


def provision_machine(boot: Provision, folder: Path) -> None:
    """All of it; ``folder`` has what was fetched. Raises RunnerError."""
    left = math.ceil(_expires(boot.expires, this_moment()))
    write_settings(SETTINGS, {**boot.settings, "max_lifetime": f"{max(1, left)}s"})
    settings = load_settings(os.environ, root=True, home=Path.home())
    # What the service would refuse to start for, in words: it would only have failed to start.
    user = job_user(settings)
    check_folders(settings, user)
    if boot.workdir is not None:
        lay_out(boot.queue_id, folder / "workdir", StatePaths(settings.state_dir), user)
    _call("systemctl", "enable", "--quiet", *_UNITS)
    _call("systemctl", "restart", *_UNITS)
    if boot.firing:
        name_firing(folder / "document", boot.queue_id)
    _call(_RUNNER, "submit", str(folder / "document"), *boot.again)


def name_firing(document: Path, queue_id: str) -> None:
    """Make a schedule's document that of one firing. Twice is the same. Raises UsageError."""
    queue = parse_stored(document.read_bytes())
    if queue.queue_id != queue_id:
        replace_file(document, [dump_document(of_firing(queue, queue_id)).encode()])


def _expires(expires: float, now: Moment) -> float:
    """Seconds from this boot's begin, from which the daemon counts, to the launch's end.

    The boot has read the wall clock when it began; one that was set since counts no more.
    """
    try:
        at = float(_EXPIRES.read_text())
    except (OSError, ValueError):
        return expires - (now.wall - now.uptime)
    return at - time.clock_gettime(time.CLOCK_BOOTTIME) + now.uptime


def write_settings(path: Path, settings: Mapping[str, str]) -> None:
    """Put these in the place of those of the same name; the installer's, and an image's, stay."""
    import tomllib

    try:
        there = tomllib.loads(path.read_text())
    except FileNotFoundError:
        there = {}
    except ValueError as error:
        raise RunnerError(f"{path}: is not TOML: {error}") from None
    lines = [f"{key} = {_toml(value)}\n" for key, value in {**there, **settings}.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "# Of the launch, and of the installer.\n"
    replace_file(path, [(head + "".join(lines)).encode()])


def _toml(value: object) -> str:
    """JSON's texts and numbers are TOML's too, but for DEL (TOML 1.0, "String"); tables are not."""
    if isinstance(value, dict):
        pairs = (f"{_toml(key)} = {_toml(each)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value).replace("\x7f", "\\u007f")


def lay_out(queue_id: str, archive: Path, paths: StatePaths, user: JobUser) -> None:
    """Unpack the user's code to where the queue takes it up, as the jobs' user's.

    A child does it, and gives its rights up for good: an archive can't reach what a job couldn't.
    Raises RunnerError.
    """
    prepare_folders(paths)
    work = paths.staged_work(queue_id)
    if work.exists():
        shutil.rmtree(work)
    make_owned(work, user.account.pw_uid, user.account.pw_gid)
    with open(archive, "rb") as file:
        child = os.fork()
        if child == 0:
            os._exit(_as_user(user.account, file, work))
        _, status = os.waitpid(child, 0)
    if status != 0:
        raise RunnerError("the work folder can't be laid out")
    sync_folder(paths.queues)


def _as_user(account: pwd.struct_passwd, archive: IO[bytes], work: Path) -> int:
    """What the child does; its exit status."""
    try:
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.umask(0o022)
        unpack(archive, work)
    except BaseException as error:
        print(f"runner provision: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _call(*words: str) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        why = ""
        if words[0] == "systemctl":
            # Why it doesn't start, into the log of the bootstrap.
            subprocess.run([*_JOURNAL, "-n", "20", "-u", "runner"], stdin=subprocess.DEVNULL)
            why = _last_words()
        raise RunnerError(f"`{' '.join(words)}` failed with exit status {done.returncode}{why}")


def _last_words() -> str:
    """What the service itself has said last, and not systemd of it."""
    own = [*_JOURNAL, "--output=cat", "-n", "2", "_SYSTEMD_UNIT=runner.service"]
    try:
        done = subprocess.run(own, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError:
        return ""
    lines = done.stdout.strip().splitlines() if done.returncode == 0 else []
    return "".join(f": {line.strip()}" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
