"""The options of target ``daemon``, and how it is opened with them."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.api.job_target import JobListener
from runner.model.durations import parse_duration
from runner.model.settings import Settings, load_settings

if TYPE_CHECKING:
    from runner.api.daemon_target import DaemonTarget

OPTIONS = ("max_workers", "socket", "state_dir", "reconnect_timeout")

RECONNECT_TIMEOUT = 600.0
"""Seconds for which a daemon that went away is waited for."""


def check_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raises ValueError, TypeError."""
    found: dict[str, Any] = {**dict.fromkeys(OPTIONS), **options}
    most = found["max_workers"]
    if most is not None:
        if not isinstance(most, int) or isinstance(most, bool):
            raise TypeError(f"max_workers must be a whole number, not {most!r}")
        if not 0 < most <= 100_000:
            raise ValueError("max_workers must be greater than 0, and at most 100,000")
    for name in ("socket", "state_dir"):
        if found[name] is not None:
            try:
                found[name] = Path(os.path.abspath(os.fspath(found[name])))
            except TypeError:
                raise TypeError(f"{name} must be a path, not {found[name]!r}") from None
    if found["socket"] is not None and found["state_dir"] is not None:
        raise ValueError("socket: names the daemon, so give no state_dir beside it")
    found["reconnect_timeout"] = _seconds(found["reconnect_timeout"])
    return found


def _seconds(given: Any) -> float:
    if given is None:
        return RECONNECT_TIMEOUT
    try:
        if isinstance(given, int | float) and not isinstance(given, bool):
            if not 0 <= given < float("inf"):
                raise ValueError("must be a number of seconds from 0 on")
            return float(given)
        return parse_duration(given)
    except ValueError as error:
        raise ValueError(f"reconnect_timeout: {error}") from None


def _settings(options: Mapping[str, Any], state_dir: Path | None) -> Settings:
    return load_settings(
        os.environ,
        root=os.geteuid() == 0,
        home=Path(os.path.expanduser("~")),
        overrides={"state_dir": options["state_dir"] or state_dir},
    )


def code_folder(options: Mapping[str, Any], state_dir: Path | None) -> Path:
    """Where the daemon's jobs can read copies of code: in its state folder. Raises ValueError where
    this process may not write there, UnreachableError."""
    from runner.api.daemon_connection import find_daemon

    with find_daemon(_settings(options, state_dir), options["socket"]) as client:
        state = Path(client.ask("ping")["state_dir"])
    if not os.access(state, os.W_OK):
        raise ValueError(
            f"code: the daemon's folder {state} can't be written to by this user: install the code "
            "where its jobs can import it"
        )
    return state / "code"


def open_daemon(
    options: Mapping[str, Any], queue_id: str | None, state_dir: Path | None, listener: JobListener
) -> DaemonTarget:
    """``queue_id`` None: a queue of its own. ``state_dir``: the daemon's, where the options name
    none. Raises what DaemonTarget does."""
    from runner.api.daemon_connection import find_daemon
    from runner.api.daemon_target import DaemonTarget

    return DaemonTarget(
        partial(find_daemon, _settings(options, state_dir), options["socket"]),
        queue_id or _own_id(),
        listener,
        max_workers=options["max_workers"],
        patience=options["reconnect_timeout"],
    )


def _own_id() -> str:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return f"executor-{stamp}-{secrets.token_hex(3)}"
