"""The base of a job's environment: the caller's for ``run``, a login's for the daemon."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.service.environment import LOGIN_PATH, callers, given, logins

ME = pwd.getpwuid(os.geteuid())


def test_run_passes_the_caller_s_on_less_what_is_runner_s() -> None:
    """A job would talk to the service manager as if it were the daemon, or configure a runner."""
    environ = {
        "HOME": "/h",
        "EDITOR": "ed",
        "RUNNER_STATE_DIR": "/s",
        "NOTIFY_SOCKET": "/n",
        "WATCHDOG_USEC": "1",
        "INVOCATION_ID": "i",
    }
    assert callers(environ) == {"HOME": "/h", "EDITOR": "ed"}


def test_what_the_interpreter_sets_for_itself_is_not_the_caller_s(tmp_path: Path) -> None:
    """Commands of a job would count letters where the caller's shell counts bytes."""
    block = tmp_path / "environ"
    now = {"HOME": "/h", "LC_CTYPE": "C.UTF-8"}
    block.write_bytes(b"HOME=/h\0MY_LC_CTYPE=x\0")
    assert given(now, block) == {"HOME": "/h"}
    block.write_bytes(b"HOME=/h\0LC_CTYPE=C.UTF-8\0")
    assert given(now, block) == now
    assert given(now, tmp_path / "hidden") == now


def test_the_daemon_s_begins_like_a_login(tmp_path: Path) -> None:
    """Jobs of a service would find neither a HOME nor their programs."""
    environ = {"PATH": "/odd", "SECRET": "x", "AWS_REGION": "eu-west-1"}
    found = logins(environ, ME, tmp_path / "none")
    assert found["HOME"] == ME.pw_dir
    assert found["USER"] == found["LOGNAME"] == ME.pw_name
    assert found["PATH"] == LOGIN_PATH
    assert found["AWS_REGION"] == "eu-west-1"
    assert "SECRET" not in found


def test_the_environment_file_is_read_as_shells_write_it(tmp_path: Path) -> None:
    """What an operator sets for all jobs would not reach them, or with its quotes."""
    file = tmp_path / "environment"
    file.write_text(
        "# proxies\n\nexport HTTPS_PROXY=http://p:1\nNAME='two words'\nPATH=/opt/bin\nE=\n"
    )
    found = logins({}, ME, file)
    assert found["HTTPS_PROXY"] == "http://p:1"
    assert found["NAME"] == "two words"
    assert found["PATH"] == "/opt/bin"
    assert found["E"] == ""


@pytest.mark.parametrize("line", ["just words", "1A=x", "=x"])
def test_a_bad_line_is_told_with_its_place(tmp_path: Path, line: str) -> None:
    """A typing error would silently leave a variable out."""
    file = tmp_path / "environment"
    file.write_text(f"A=1\n{line}\n")
    with pytest.raises(UsageError, match=r"environment:2: not a NAME=value line"):
        logins({}, ME, file)
