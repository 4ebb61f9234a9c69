"""Reading a file for an upload: in order, hashed, and no more of all files than fits in memory."""

from __future__ import annotations

import hashlib
import threading

from runner.results.upload.source_file import SourceFile


class FileReader:
    """Reads the first ``size`` bytes of a file in order, and hashes what it read."""

    def __init__(self, source: SourceFile, fd: int, size: int) -> None:
        self.size = size
        self.done = 0
        self.source = source
        self._fd = fd
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def again(self) -> FileReader:
        """A reader of the same, from its beginning."""
        return FileReader(self.source, self._fd, self.size)

    def read(self, count: int) -> bytearray:
        """The next ``count`` bytes, or as many as there are. Raises SourceError."""
        data = bytearray(min(count, self.size - self.done))
        got = 0
        while got < len(data):
            more = self.source.read_at(self._fd, memoryview(data)[got:], self.done + got)
            if not more:
                break
            got += more
        del data[got:]
        self._hash.update(data)
        self.done += got
        return data


class Budget:
    """So many bytes at once; who wants more waits. One that is larger than all gets all."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._changed = threading.Condition()

    def take(self, count: int) -> None:
        count = min(count, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= count)
            self._free -= count

    def give(self, count: int) -> None:
        with self._changed:
            self._free += min(count, self._size)
            self._changed.notify_all()

    def taken(self, count: int) -> _Taken:
        return _Taken(self, count)


class _Taken:
    def __init__(self, budget: Budget, count: int) -> None:
        self._budget, self._count = budget, count

    def __enter__(self) -> None:
        self._budget.take(self._count)

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._count)
