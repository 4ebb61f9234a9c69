"""As whom a daemon's jobs run, and what of the machine that user must and must not reach.

Owns the reading of the user database. `run` runs jobs as its caller and needs none of this.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from runner.errors import UsageError
from runner.model.settings import Settings
from runner.rights import Rights, acting_as


@dataclass(frozen=True, slots=True)
class JobUser:
    """``rights`` None: the daemon's own, and nothing has to be changed for a job."""

    account: pwd.struct_passwd
    rights: Rights | None


def job_user(settings: Settings) -> JobUser:
    """The setting's user as the machine knows it now, groups included.

    Raises UsageError unless it has been said as whom jobs run: as root never by chance.
    """
    name, own = settings.job_user, pwd.getpwuid(os.geteuid())
    if os.geteuid() != 0:
        if name in (None, own.pw_name):
            return JobUser(own, None)
        raise UsageError(
            f"job_user = {name}: this daemon is not root, so its jobs run as {own.pw_name}, as it "
            "does; leave the setting out"
        )
    if name is None:
        raise UsageError(
            f"as root, the daemon needs the setting job_user in {settings.config_file}: the user "
            'that jobs run as ("root" must be written out)'
        )
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise UsageError(
            f"job_user = {name}: this machine has no such user; make one "
            f"(useradd --system --create-home {name}), or name one that is there"
        ) from None
    if name == "root":
        return JobUser(account, None)
    if account.pw_uid == 0:
        raise UsageError(f'job_user = {name}: this is root by another name; "root" must be written')
    groups = tuple(os.getgrouplist(name, account.pw_gid))
    return JobUser(account, Rights(account.pw_uid, account.pw_gid, groups))


def check_folders(settings: Settings, user: JobUser) -> None:
    """Raise UsageError for a state or log folder that this user can replace, or not pass through.

    Blocks. A folder that isn't there yet is made later, and nobody else's.
    """
    if user.rights is None:
        return
    for folder in (settings.state_dir, settings.log_dir):
        for part in (folder, *folder.parents):
            _check_owner(folder, part)
    place = settings.state_dir
    while not place.exists():
        place = place.parent
    try:
        with acting_as(user.rights):
            os.stat(place / ".")
    except OSError as error:
        name = user.account.pw_name
        raise UsageError(
            f"job_user = {name}: {name} can't pass through {place} to the jobs' work folders "
            f"({error.strerror}); it needs the x permission there and in all folders above"
        ) from None


def _check_owner(folder: Path, part: Path) -> None:
    """Whoever may write to a folder, or to one above it, may put another in its place."""
    try:
        found = os.stat(part)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{part}: {error.strerror}") from None
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (
        found.st_mode & stat.S_ISVTX and part != folder
    )
    if found.st_uid != 0 or shared:
        whose = "may be written to by others" if shared else f"belongs to user {found.st_uid}"
        raise UsageError(
            f"{part} {whose}, who could put another folder in the place of {folder}: it holds "
            "what jobs are not to change, so it must be root's alone (chown root, chmod go-w)"
        )
