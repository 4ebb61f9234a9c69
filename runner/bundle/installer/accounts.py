"""The users and groups of this machine."""

from __future__ import annotations

import grp
import os
import pwd

from .places import CONTROL_GROUP, JOB_USER, LOGINS


def default_job_user() -> str:
    """The login that a stock image has, or the user that sysusers makes."""
    for name in LOGINS:
        try:
            pwd.getpwnam(name)
            return name
        except KeyError:
            continue
    return JOB_USER


def may_submit(name: str) -> bool:
    """Whether a user is in the group that the daemon obeys, as the machine is now."""
    try:
        account, group = pwd.getpwnam(name), grp.getgrnam(CONTROL_GROUP)
    except KeyError:
        return False
    return group.gr_gid in os.getgrouplist(name, account.pw_gid)
