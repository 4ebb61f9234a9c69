"""The base of a job's environment: the caller's for ``run``, a login's for the daemon."""

from __future__ import annotations

import pwd
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from runner.errors import UsageError

ENVIRONMENT_FILE = Path("/etc/runner/environment")

_OURS = (
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "MAINPID",
    "SYSTEMD_EXEC_PID",
    "_",
)
"""What a service manager tells its service, and no job of it (systemd.exec(5))."""

_BLOCK = Path("/proc/self/environ")

LOGIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def callers(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's own, less what is addressed to runner and not to its jobs."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("RUNNER_") and name not in _OURS
    }


def given(environ: Mapping[str, str], block: Path = _BLOCK) -> dict[str, str]:
    """The variables that this process was started with.

    Without a locale the interpreter sets LC_CTYPE for itself (PEP 538), and its children would have
    it; the kernel keeps the block of variables as it was given (proc(5)).
    """
    found = dict(environ)
    with suppress(OSError):
        if not any(each.startswith(b"LC_CTYPE=") for each in block.read_bytes().split(b"\0")):
            found.pop("LC_CTYPE", None)
    return found


def logins(
    environ: Mapping[str, str], user: pwd.struct_passwd, file: Path = ENVIRONMENT_FILE
) -> dict[str, str]:
    """What a login of this user would begin with, then the file, then the region."""
    base = {
        "HOME": user.pw_dir,
        "LOGNAME": user.pw_name,
        "USER": user.pw_name,
        "SHELL": user.pw_shell or "/bin/sh",
        "PATH": LOGIN_PATH,
        "LANG": environ.get("LANG", "C.UTF-8"),
    }
    base.update(_read(file))
    if region := environ.get("AWS_REGION"):
        base.setdefault("AWS_REGION", region)
    return base


def _read(file: Path) -> dict[str, str]:
    """``NAME=value`` lines; empty lines and ``#`` comments; quotes around a value are dropped."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}") from None
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name = name.removeprefix("export ").strip()
        if not equals or not name.isidentifier():
            raise UsageError(f"{file}:{number}: not a NAME=value line")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[name] = value
    return found
