"""The standard streams of a command: there, in UTF-8, and safe to write to without a reader.

Owns what becomes of the three descriptors that a shell gives a command, whatever they are: closed,
a pipe whose reader has gone, a terminal that was hung up, a descriptor that doesn't block. A verb
prints, and ends with its own exit code.
"""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import sys
from contextlib import suppress

# As typing's, which takes as long to import as all that `--version` needs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

ENCODING = "utf-8"

_READER_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN})


class Output(io.FileIO):
    """A descriptor that is written to for a reader. Once that has gone, what comes is dropped."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self.reader_gone = False

    def write(self, data: Any) -> int:
        """All of it or some; see io.RawIOBase. Raises OSError for a disk that is full, say."""
        while not self.reader_gone:
            try:
                written = super().write(data)
            except OSError as error:
                if error.errno not in _READER_GONE and not self._was_hung_up(error):
                    raise
                self.reader_gone = True
            else:
                if written is not None:
                    return written
                # Somebody else with this open file doesn't want to block; we do.
                select.select([], [self], [])
        return memoryview(data).nbytes

    def _was_hung_up(self, error: OSError) -> bool:
        """A terminal answers EIO then (hung_up_tty_write in the kernel's tty_io.c), and no longer
        says that it is one."""
        return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(self.fileno()).st_mode)

    def has_reader(self) -> bool:
        """Whether anybody may still read what is written."""
        if not self.reader_gone:
            poll = select.poll()
            poll.register(self, 0)
            # pipe(7), poll(2): POLLERR at the writing end says that the other one is closed.
            self.reader_gone = any(events & select.POLLERR for _, events in poll.poll(0))
        return not self.reader_gone


def prepare() -> None:
    """Have three streams that can be used, whatever the caller's shell and locale are."""
    _fill_gaps()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _text(1 if name == "stdout" else 2))
        else:
            # A test's own, in place of it.
            stream.reconfigure(encoding=ENCODING, errors="backslashreplace")
    if sys.stdin is None:
        sys.stdin = open(0, encoding=ENCODING, errors="surrogateescape", closefd=False)  # noqa: SIM115


def has_reader(stream: TextIO) -> bool:
    """Whether what goes on printing for as long as somebody reads may go on."""
    raw = _raw(stream)
    return raw.has_reader() if raw is not None else True


def discard(stream: TextIO) -> None:
    """Forget what was to be written and couldn't be: it is not to fail again at the next flush."""
    raw = _raw(stream)
    if raw is not None:
        kept, raw.reader_gone = raw.reader_gone, True
        stream.flush()
        raw.reader_gone = kept


def _raw(stream: TextIO) -> Output | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Output) else None


def let_go() -> None:
    """Leave nothing to the interpreter's end, which would tell of the same trouble once more."""
    for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), fd)


def _fill_gaps() -> None:
    """The next file to be opened would get the number of a descriptor that the caller closed."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _text(fd: int) -> TextIO:
    raw = Output(fd)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=ENCODING,
        errors="backslashreplace",
        line_buffering=fd == 2 or raw.isatty(),
    )
