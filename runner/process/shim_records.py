"""The record of attempts: a file of fixed slots that daemon and shims write, each its own part.

A slot is 512 bytes of padded text lines, so that a person can read it: the daemon's intent, the
claim, the command's identity, the exit, what it used. Taking a claim is "read, and write if it is
free" under a byte-range lock, which the kernel releases when its holder dies. Nothing is ever
fsynced: a record is only of use in the boot that wrote it, and names that boot. The shim imports
this module: standard library only, and little of it.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, NamedTuple

from runner.process.identity import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD_SIZE = 512
_CLAIM = 64
_COMMAND = 192
_EXIT = 256
_USAGE = 432
_ENDS = (_EXIT, _USAGE, RECORD_SIZE)
_BLANK = b" " * (RECORD_SIZE - 1) + b"\n"


class MalformedError(ValueError):
    """A word of a record or a message can't mean what it should."""


class AttemptClaim(NamedTuple):
    """Who took the attempt; ``mono`` is the boot's monotonic time in seconds."""

    pid: int
    start: int
    mono: float
    boot_id: str

    @property
    def shim(self) -> Process:
        return Process(self.pid, self.start)


class ProcessUsage(NamedTuple):
    """What an attempt took: processor seconds, bytes of memory at its peak, and how many of its
    processes the kernel killed for want of memory."""

    cpu_seconds: float
    max_rss: int
    oom_kills: int


class Exit(NamedTuple):
    """How it ended: ``exit 3``, ``signal SIGKILL``, ``void TEXT`` or ``unrunnable TEXT``.

    ``void``: the command was never run and may be tried again; ``mono`` and ``wall`` in seconds.
    ``usage`` None: it isn't known.
    """

    kind: str
    value: str
    mono: float
    wall: float
    usage: ProcessUsage | None = None


class Work(NamedTuple):
    """Whose start it is: a job's number in its document, and the attempt's."""

    job: int
    attempt: int


class ShimRecord(NamedTuple):
    """One slot as it stands; ``voided`` when a later daemon forbade the start.

    ``work`` is None in a record of a version that didn't write it.
    """

    token: str
    claim: AttemptClaim | None
    voided: bool
    command: Process | None
    exit: Exit | None
    work: Work | None = None


class ShimRecordFile:
    """The slots of one queue, over an open descriptor, which becomes its own. One a process."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        stat = os.fstat(fd)
        self.mark = f"{stat.st_dev}:{stat.st_ino}"

    @classmethod
    def open(cls, path: str) -> ShimRecordFile:
        """Open the file, which is created at need. Raises OSError."""
        return cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))

    def close(self) -> None:
        os.close(self.fd)

    def prepare(self, slot: int, token: str, work: Work | None = None) -> None:
        """Reset a slot for a new start. Raises OSError (ENOSPC) before anything depends on it."""
        end = (slot + 1) * RECORD_SIZE
        if end > os.fstat(self.fd).st_size:
            # Room for eight more at a time, so that neither claim nor exit can meet a full disk.
            os.posix_fallocate(self.fd, 0, end + 7 * RECORD_SIZE)
        whose = f" {work.job} {work.attempt}" if work is not None else ""
        line = f"intent {token}{whose}\n".encode()
        os.pwrite(self.fd, line.ljust(_CLAIM) + _BLANK[_CLAIM:], slot * RECORD_SIZE)

    def claim(self, slot: int, token: str, claim: AttemptClaim) -> bool:
        """Take the attempt; False when it is taken, void or no longer meant."""
        text = f"claim {token} {claim.pid} {claim.start} {claim.mono:.6f} {claim.boot_id}\n"
        return self._take(slot, token, text)

    def void(self, slot: int, token: str) -> bool:
        """Forbid a start that has not claimed yet; False when it has, or isn't in the file."""
        current = self.read(slot)
        if current.token != token:
            return False
        return current.voided or self._take(slot, token, f"void {token}\n")

    def _take(self, slot: int, token: str, text: str) -> bool:
        offset = slot * RECORD_SIZE
        fcntl.lockf(self.fd, fcntl.LOCK_EX, RECORD_SIZE, offset)
        try:
            now = os.pread(self.fd, _COMMAND, offset)
            if not _is_for(now, token) or now[_CLAIM:].strip():
                return False
            os.pwrite(self.fd, text.encode(), offset + _CLAIM)
            return True
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN, RECORD_SIZE, offset)

    def write_command(self, slot: int, token: str, command: Process) -> None:
        """Add who the command is. Raises OSError."""
        self._add(slot, token, _COMMAND, f"command {token} {command.pid} {command.start}")

    def write_exit(self, slot: int, token: str, end: Exit) -> None:
        """Add how it ended, as much of the value as there is room for. Raises OSError."""
        if end.usage is not None:
            # First: who finds an exit finds all of it.
            self._add(slot, token, _USAGE, f"usage {token} {encode_usage(end.usage)}")
        value = " ".join(end.value.split()) or "-"
        text = f"exit {token} {end.mono:.6f} {end.wall:.6f} {end.kind} {value}"
        self._add(slot, token, _EXIT, text)

    def _add(self, slot: int, token: str, part: int, text: str) -> None:
        """Write a part of an attempt's record, unless the slot is another's by now."""
        offset = slot * RECORD_SIZE
        if _is_for(os.pread(self.fd, _CLAIM, offset), token):
            room = min(end for end in _ENDS if end > part) - part - 1
            line = text.encode("utf-8", "backslashreplace")[:room]
            os.pwrite(self.fd, line + b"\n", offset + part)

    def all(self) -> Iterator[tuple[int, ShimRecord]]:
        """Every slot as it stands, with its number."""
        for number in range(os.fstat(self.fd).st_size // RECORD_SIZE):
            yield number, self.read(number)

    def read(self, slot: int) -> ShimRecord:
        """The slot as it stands. A part that is torn, or of another token, reads as absent."""
        raw = os.pread(self.fd, RECORD_SIZE, slot * RECORD_SIZE)
        token = _words(raw[:_CLAIM], "intent")
        if not token:
            return ShimRecord("", None, False, None, None)
        name = token[0]
        taken = raw[_CLAIM:_COMMAND]
        voided = _words(taken, "void") == [name]
        return ShimRecord(
            name,
            _parse_claim(_own(_words(taken, "claim"), name)),
            voided,
            _parse_command(_own(_words(raw[_COMMAND:_EXIT], "command"), name)),
            _parse_exit(
                _own(_words(raw[_EXIT:], "exit"), name), _own(_words(raw[_USAGE:], "usage"), name)
            ),
            _parse_work(token[1:]),
        )


def _is_for(record: bytes, token: str) -> bool:
    """Whether the record is this start's."""
    return record[:_CLAIM].split()[:2] == [b"intent", token.encode()]


def _words(part: bytes, kind: str) -> list[str]:
    """The words after ``kind`` in a line that was written whole, else none."""
    line, newline, _ = part.partition(b"\n")
    words = line.decode("utf-8", "replace").split()
    return words[1:] if newline and words[:1] == [kind] else []


def _own(words: list[str], token: str) -> list[str]:
    return words[1:] if words[:1] == [token] else []


def _parse_claim(words: list[str]) -> AttemptClaim | None:
    try:
        pid, start, mono, boot_id = words
        return AttemptClaim(whole(pid), whole(start), moment(mono), boot_id)
    except ValueError:
        return None


def _parse_command(words: list[str]) -> Process | None:
    try:
        pid, start = words
        return Process(whole(pid), whole(start))
    except ValueError:
        return None


def whole(word: str) -> int:
    """A pid, a count, a size in bytes. Raises MalformedError for what none can be."""
    if not (word.isascii() and word.isdecimal() and len(word) <= 16):
        raise MalformedError(f"{word!r} is no whole number")
    return int(word)


def moment(word: str) -> float:
    """Seconds from 0 to the year 9000: later ones may not be shown. Raises MalformedError."""
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 221_845_392_000:  # nor is NaN
        raise MalformedError(f"{word!r} is no time")
    return value


def _parse_work(words: list[str]) -> Work | None:
    try:
        job, attempt = words
        return Work(whole(job), whole(attempt))
    except ValueError:
        return None


def encode_usage(usage: ProcessUsage | None) -> str:
    """One word."""
    if usage is None:
        return "-"
    return f"{usage.cpu_seconds:.3f}:{usage.max_rss}:{usage.oom_kills}"


def decode_usage(word: str) -> ProcessUsage | None:
    """The inverse."""
    try:
        cpu, peak, kills = word.split(":")
        return ProcessUsage(moment(cpu), whole(peak), whole(kills))
    except ValueError:
        return None


def _parse_exit(words: list[str], usage: list[str]) -> Exit | None:
    if len(words) < 4:
        return None
    try:
        mono, wall = moment(words[0]), moment(words[1])
        known = decode_usage(usage[0]) if usage else None
        return checked_exit(Exit(words[2], " ".join(words[3:]), mono, wall, known))
    except ValueError:
        return None


def checked_exit(end: Exit) -> Exit:
    """The same end. Raises MalformedError for an exit code that no process can have."""
    if end.kind == "exit" and whole(end.value) > 255:
        raise MalformedError(f"no process exits with {end.value}")
    return end
