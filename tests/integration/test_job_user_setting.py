"""What the setting job_user means to whom, as the machine's own user database has it."""

from __future__ import annotations

import os
import pwd
import warnings
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.model.settings import Settings
from runner.service.job_user import job_user

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")

NOBODY = pwd.getpwnam("nobody")


def told(name: str | None, uid: int = 0) -> str:
    """As whom jobs of a daemon of this user would run, or why there can't be one."""
    folders = [Path("/nowhere")] * 4
    settings = Settings(*folders, job_user=name)
    tell_out, tell = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(uid, uid, uid)
            user = job_user(settings)
            os.write(tell, f"{user.account.pw_name} {user.rights}".encode())
        except UsageError as error:
            os.write(tell, str(error).encode())
        finally:
            os._exit(0)
    os.close(tell)
    with open(tell_out) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def test_a_daemon_that_is_not_root_runs_jobs_as_itself() -> None:
    """It would promise a user that it can't give its jobs."""
    uid = NOBODY.pw_uid
    assert told(None, uid) == told("nobody", uid) == "nobody None"
    for other in ("root", "daemon", "no-such-user"):
        assert f"job_user = {other}: this daemon is not root" in told(other, uid)


def test_one_that_is_root_has_a_user_named_with_all_groups() -> None:
    """Jobs would run as root by chance, or miss a group of their user's."""
    assert "as root, the daemon needs the setting job_user in /nowhere" in told(None)
    assert told("root") == "root None"
    assert "no such user" in told("no-such-user")
    groups = tuple(os.getgrouplist("nobody", NOBODY.pw_gid))
    uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
    assert told("nobody") == f"nobody Rights(uid={uid}, gid={gid}, groups={groups})"
