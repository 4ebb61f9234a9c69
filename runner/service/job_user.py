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
    name, own = settings.job_user, _own_account()
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


def _own_account() -> pwd.struct_passwd:
    """Ours; where the user database doesn't know us (containers), what a shell would go by."""
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        home = os.environ.get("HOME", "")
        home = home if home.startswith("/") else "/"
        name = str(os.geteuid())
        return pwd.struct_passwd((name, "x", os.geteuid(), os.getegid(), "", home, "/bin/sh"))


def check_folders(settings: Settings, user: JobUser) -> None:
    """Raise UsageError for a folder of ours that this user can replace, or not pass through.

    Blocks. A folder that isn't there yet is made later, and nobody else's.
    """
    if user.rights is None:
        return
    name = user.account.pw_name
    for folder in (settings.state_dir, settings.log_dir, settings.run_dir):
        real = folder.resolve()
        for part in dict.fromkeys((folder, *folder.parents, real, *real.parents)):
            if _may_change(part, user.rights, itself=part in (folder, real)):
                raise UsageError(
                    f"{part} may be written to by {name}, the job_user, who could put another "
                    f"folder in the place of {folder}, which jobs are not to change"
                )
    place = settings.state_dir
    while not place.exists():
        place = place.parent
    try:
        with acting_as(user.rights):
            os.stat(f"{place}/.")
    except OSError as error:
        raise UsageError(
            f"job_user = {name}: {name} can't pass through {place} to the jobs' work folders "
            f"({error.strerror}): it needs the permission x there and in all folders above"
        ) from None


def _may_change(folder: Path, rights: Rights, *, itself: bool) -> bool:
    """Whether the user may write to a folder; what is in a sticky one is its owners' business."""
    try:
        found = os.stat(folder)
    except FileNotFoundError:
        return False
    if found.st_uid == rights.uid:
        return True
    if found.st_mode & stat.S_ISVTX and not itself:
        return False
    by_group = found.st_mode & stat.S_IWGRP and found.st_gid in rights.groups
    return bool(by_group or found.st_mode & stat.S_IWOTH)
