"""The file that remembers what is to become of the machine: durable, and one at a time changes it.

Owns its format. It decides nothing, and needs nothing but the standard library: the lifetime guard
reads it when the rest may be broken.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.core.machine_lifetime import MachineLifetime, Moment
from runner.errors import RecordError, StateError
from runner.files import replace_file
from runner.model.records import Count, decode, read

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_PARTS = ("plan", "hold", "life", "ending")
_VERSION = 1


def this_moment() -> Moment:
    """Now, on this machine's clocks."""
    boot_id = Path(_BOOT_ID).read_text().strip()
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME) - _first_process_began()
    return Moment(boot_id, max(0.0, uptime), time.time())


def _first_process_began() -> float:
    """Seconds from the kernel's start: none to speak of, but in a container its own boot."""
    try:
        after_name = Path("/proc/1/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # proc(5): field 22, the name is the 2nd


class Change:
    """``machine`` is what was read; assign to it what is to be there."""

    def __init__(self, machine: MachineLifetime) -> None:
        self.machine = machine


class MachineFile:
    """What is remembered at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> MachineLifetime:
        """What is remembered; nothing, where there is no file. Raises StateError."""
        try:
            return parse_machine(self._path.read_bytes(), str(self._path))
        except FileNotFoundError:
            return MachineLifetime()
        except OSError as error:
            raise StateError(f"{self._path}: {error.strerror}") from None
        except RecordError as error:
            raise StateError(f"{error}; remove the file if it can't be mended") from None

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """Change it; whoever else wants to waits. It is on the disk when the block is left.

        Raises StateError.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(
                self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise StateError(f"{error.filename}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            change = Change(before := self.read())
            yield change
            if change.machine != before:
                self._write(change.machine)
        finally:
            os.close(lock)

    def _write(self, machine: MachineLifetime) -> None:
        parts = {name: part for name in _PARTS if (part := getattr(machine, name)) is not None}
        record = {"version": _VERSION, **{name: asdict(part) for name, part in parts.items()}}
        try:
            # Anybody may look when it ends; there is nothing secret in it.
            replace_file(self._path, [json.dumps(record).encode(), b"\n"])
        except OSError as error:
            raise StateError(f"{self._path}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class _Version:
    version: Count


def parse_machine(data: bytes, name: str) -> MachineLifetime:
    """What a file holds. Raises RecordError, which begins with ``name``."""
    record = decode(data, name)
    if (version := read(_Version, record, name).version) != _VERSION:
        raise RecordError(f"{name}: it has version {version}, and this runner knows {_VERSION}")
    return read(MachineLifetime, record, name)
