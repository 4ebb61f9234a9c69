"""Where the runner keeps its files, and the few numbers an administrator may change.

Read once, at the start, from flags, the environment, a TOML file and defaults, in this order of
precedence. Every setting `x_y` is the variable RUNNER_X_Y and the key `x_y` of the file; those of
its table `[batch]` are RUNNER_BATCH_X_Y. The file itself is named by --config or RUNNER_CONFIG.
Other RUNNER_ variables are no errors: jobs carry some. An empty variable is as good as none. It
must not know what the settings are used for, and imports little: `status` starts with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError
from runner.model import batch_settings
from runner.model.batch_settings import BatchSettings
from runner.model.durations import parse_duration
from runner.model.messages import did_you_mean, kind, quoted, step

if TYPE_CHECKING:
    from runner.model.notify import NotifySpec

CONFIG_VARIABLE = "RUNNER_CONFIG"

_SIZE = r"([0-9]{1,15}) ?([KMGT]i?B|B)?"
_ROOTS_FOLDERS = {
    "state_dir": Path("/var/lib/runner"),
    "log_dir": Path("/var/log/runner"),
    "run_dir": Path("/run/runner"),
}
_NO_BATCH = BatchSettings()
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders are absolute; times are in seconds, sizes in bytes.

    ``queue_retention``: how long finished queues are kept. ``disk_reserve``: with less free space
    than this nothing new starts. ``projection_interval``: how old queue-state.json may get.
    ``job_user``: whose rights a daemon that is root gives its jobs. ``config_file`` may not exist;
    None: there is no home folder to look for one in.
    ``upload_wait``: how long dependants wait for results to be stored before they are copied aside.
    ``upload_timeout``: how long a queue that is done otherwise waits for uploads without progress.
    ``live_log_interval``: how old a running job's log in S3 may get. ``kms_key``,
    ``storage_class``: of what is stored there; None is the bucket's own default. ``spot_lead``: how
    long before a spot machine's end its jobs get SIGTERM; None is at once. ``rebalance``: what
    follows from EC2's recommendation, ``note`` (jobs are told) or ``drain`` (nothing new starts).
    ``on_complete``: what becomes of the machine once every queue has ended, ``none``, ``stop`` or
    ``terminate``; ``on_complete_delay`` later, long enough to fetch a log, submit the next queue or
    say `runner keep`, and cheap. ``keep_on_failure``: so long after a failure instead; None is as
    long. ``max_lifetime``: how long the machine may live in all; None is for ever.
    ``heartbeat``: how often a machine in EC2 tells the result store that it works on a queue.
    ``control_interval``: how often a coordinator on AWS Batch looks for requests in its store.
    ``max_parallel_queues``: how many submitted queues a daemon works on at once;
    ``open_queue_idle``: how long an Executor's queue has nothing to do before it is closed.
    ``notify``: whom
    every queue tells, beside those that its document names; ``notify_wait``: how long a machine, or
    a run in the foreground, waits at its end for who doesn't answer; ``lost_notice``: the launch
    has placed what tells of the machine's death, and it is removed once its queue has ended.
    ``machine_run_dir``: where the machine's own daemon listens, for who isn't root and has chosen
    no folders; else None. ``batch``: of jobs on AWS Batch.
    """

    state_dir: Path
    log_dir: Path
    run_dir: Path
    config_file: Path | None
    queue_retention: float = 30 * 86_400.0
    disk_reserve: int = 64 * 1024 * 1024
    projection_interval: float = 2.0
    job_user: str | None = None
    upload_wait: float = 60.0
    upload_timeout: float = 600.0
    live_log_interval: float = 30.0
    kms_key: str | None = None
    storage_class: str | None = None
    spot_lead: float | None = None
    rebalance: str = "note"
    on_complete: str = "none"
    on_complete_delay: float = 300.0
    keep_on_failure: float | None = None
    max_lifetime: float | None = None
    heartbeat: float = 30.0
    control_interval: float = 5.0
    max_parallel_queues: int = 1
    open_queue_idle: float = 3600.0
    notify: tuple[NotifySpec, ...] = ()
    notify_wait: float = 60.0
    lost_notice: bool = False
    machine_run_dir: Path | None = None
    batch: BatchSettings = _NO_BATCH


def load_settings(
    environ: Mapping[str, str],
    *,
    root: bool,
    home: Path | None,
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Join flags (``overrides``; None is not given), environment, file and defaults.

    Flags for the table ``[batch]`` are named ``batch_x``.

    ``home`` None: there is none, and nothing is guessed in place of it. Relative folders are
    allowed in flags and variables: they are meant from where the command was called. Raises
    UsageError that names the flag, variable, or file and key; also when a file was named that
    doesn't exist, or a default needs a home folder.
    """
    named = config or environ.get(CONFIG_VARIABLE)
    config_file = Path(named) if named else _config_default(environ, root, home)
    given: dict[str, Any] = {}
    if config_file is not None:
        config_file = _absolute(config_file)
        given = _from_file(config_file, bool(named), home)
    strength = dict.fromkeys(("state_dir", "log_dir"), 0)
    for name, read in _ALL_READERS.items():
        variable = f"RUNNER_{name.upper()}"
        if text := environ.get(variable):
            given[name], strength[name] = _read(read, text, variable), 1
        if (value := (overrides or {}).get(name)) is not None:
            flag = f"--{name.removeprefix(_BATCH).replace('_', '-')}"
            given[name], strength[name] = _read(read, value, flag), 2
    if strength["state_dir"] > strength["log_dir"]:
        # Who moves the state moves its logs: another state's would be replaced by them.
        given["log_dir"] = given["state_dir"] / "logs"
    of_batch = {name: given.pop(_BATCH + name, None) for name in batch_settings.READERS}
    folders = _folder_defaults(environ, root, home, given.get("state_dir"))
    chosen = root or not folders.keys().isdisjoint(given)
    machines = None if chosen else _ROOTS_FOLDERS["run_dir"]
    given |= {"machine_run_dir": machines, "batch": BatchSettings(**of_batch)}
    return Settings(config_file=config_file, **{**folders, **given})


def parse_size(value: Any) -> int:
    """Bytes of `64MiB`, `1GB` (10^9), `4096`, or of a number. Raises ValueError for the user."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f'must be a size such as "64MiB", not {kind(value)}')
    match = re.fullmatch(_SIZE, value)
    if not match:
        raise ValueError(f'{quoted(value)} is not a size such as "64MiB", "1GB" or "4096"')
    unit = match[2] or "B"
    factor: int = (1024 if "i" in unit else 1000) ** _UNITS[unit.rstrip("iB")]
    return int(match[1]) * factor


def _folder(value: Any) -> Path:
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"must be the path of a folder, not {kind(value)}")
    if not value or "\0" in value:
        raise ValueError("is not the path of a folder")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", value):
        raise ValueError(f"{quoted(value)} is an address, and not the path of a folder")
    return _absolute(Path(value))


def _interval(value: Any) -> float:
    seconds = parse_duration(value)
    if seconds > 2:
        raise ValueError('must be at most "2s": queue-state.json is never older')
    return seconds


def _user(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be the name of a user")
    return value


def _word(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]{1,2048}", value):
        raise ValueError("must be a word without spaces")
    return value


def _rebalance(value: Any) -> str:
    if value not in ("note", "drain"):
        raise ValueError('must be "note" or "drain"')
    return str(value)


def _on_complete(value: Any) -> str:
    if value not in ("none", "stop", "terminate"):
        raise ValueError('must be "none", "stop" or "terminate"')
    return str(value)


def _count(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1000:
        raise ValueError("must be a number from 1 to 1000")
    return value


def _flag(value: Any) -> bool:
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _notify(value: Any) -> tuple[NotifySpec, ...]:
    from runner.model.notify_rule import read_setting

    return read_setting(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "state_dir": _folder,
    "log_dir": _folder,
    "run_dir": _folder,
    "queue_retention": parse_duration,
    "disk_reserve": parse_size,
    "projection_interval": _interval,
    "job_user": _user,
    "upload_wait": parse_duration,
    "upload_timeout": parse_duration,
    "live_log_interval": parse_duration,
    "kms_key": _word,
    "storage_class": _word,
    "spot_lead": parse_duration,
    "rebalance": _rebalance,
    "on_complete": _on_complete,
    "on_complete_delay": parse_duration,
    "keep_on_failure": parse_duration,
    "max_lifetime": parse_duration,
    "heartbeat": parse_duration,
    "control_interval": parse_duration,
    "max_parallel_queues": _count,
    "open_queue_idle": parse_duration,
    "notify": _notify,
    "notify_wait": parse_duration,
    "lost_notice": _flag,
}

_BATCH = "batch_"
_ALL_READERS = _READERS | {_BATCH + name: read for name, read in batch_settings.READERS.items()}
"""With those of the table ``[batch]``, as flags and variables name them."""


def _read(read: Callable[[Any], Any], value: Any, source: str) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise UsageError(f"{source}: {error}")


def _from_file(path: Path, must_exist: bool, home: Path | None) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        if must_exist:
            raise UsageError(f"{path}: there is no such settings file")
        return {}
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}")
    except ValueError:
        raise UsageError(f"{path}: is not UTF-8")
    import tomllib

    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is not TOML: {error}")
    return _file_values(raw, path, home)


def _file_values(raw: dict[str, Any], path: Path, home: Path | None) -> dict[str, Any]:
    errors: list[str] = []
    given: dict[str, Any] = {}
    for key, value in raw.items():
        source = f"{path}: {step(key).removeprefix('.')}"
        if key == batch_settings.TABLE:
            of_batch = batch_settings.read_table(value, source, errors)
            given |= {_BATCH + name: found for name, found in of_batch.items()}
            continue
        if key not in _READERS:
            errors.append(
                f"{source}: unknown key{did_you_mean(key, (*_READERS, batch_settings.TABLE))}"
            )
            continue
        try:
            given[key] = _READERS[key](_from_home(key, value, home))
        except ValueError as error:
            errors.append(f"{source}: {error}")
    if errors:
        raise UsageError("\n".join(errors))
    return given


def _from_home(key: str, value: Any, home: Path | None) -> Any:
    """A file's folders must not depend on where a command was called."""
    if not key.endswith("_dir") or not isinstance(value, str) or value.startswith("/"):
        return value
    if not value.startswith("~/"):
        raise ValueError("must begin with '/' or '~/'")
    if home is None:
        raise ValueError("begins with '~/', and there is no home folder: HOME is not set")
    return home / value[2:]


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _xdg(environ: Mapping[str, str], name: str, home: Path | None, below_home: str) -> Path | None:
    # The XDG specification has relative paths ignored.
    value = environ.get(name, "")
    if value.startswith("/"):
        return Path(value)
    return None if home is None else home / below_home


def _config_default(environ: Mapping[str, str], root: bool, home: Path | None) -> Path | None:
    if root:
        return Path("/etc/runner/runner.toml")
    folder = _xdg(environ, "XDG_CONFIG_HOME", home, ".config")
    return None if folder is None else folder / "runner" / "runner.toml"


def _folder_defaults(
    environ: Mapping[str, str], root: bool, home: Path | None, state_dir: Path | None
) -> dict[str, Path]:
    if root:
        return _ROOTS_FOLDERS
    state = state_dir
    if state is None:
        base = _xdg(environ, "XDG_STATE_HOME", home, ".local/state")
        if base is None:
            raise UsageError(
                "there is no home folder to keep the state in (HOME is not set, and this user has "
                "no passwd entry): set HOME or RUNNER_STATE_DIR, or give --state-dir DIR"
            )
        state = base / "runner"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return {
        "state_dir": state,
        "log_dir": state / "logs",
        "run_dir": Path(runtime) / "runner" if runtime.startswith("/") else state / "run",
    }
