"""The base of a job's environment: the caller's for ``run``, a login's for the daemon."""

from __future__ import annotations

import hashlib
import json
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

_OF_A_TERMINAL = frozenset(
    {
        *("PWD", "OLDPWD", "SHLVL", "TERM", "COLUMNS", "LINES", "WINDOWID", "DISPLAY", "STY"),
        *("TMUX", "TMUX_PANE", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "TERM_SESSION_ID"),
        *("XDG_SESSION_ID", "DBUS_SESSION_BUS_ADDRESS", "XAUTHORITY", "WAYLAND_DISPLAY"),
    }
)
"""Another in each window: that they differ says nothing of what jobs do."""

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


def marks(environment: Mapping[str, str], salt: str) -> dict[str, str]:
    """What tells later whether a variable has changed, and nothing of its value."""
    return {
        name: hashlib.sha256(f"{salt}\0{name}\0{value}".encode("utf-8", "replace")).hexdigest()[:8]
        for name, value in environment.items()
        if name not in _OF_A_TERMINAL and not name.startswith("SSH_")
    }


def read_marks(text: str | None) -> dict[str, str] | None:
    """The same as they were noted; None for nothing, and for what isn't ours."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names of the variables that came, went or changed."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


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
