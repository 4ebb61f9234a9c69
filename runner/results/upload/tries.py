"""Storing many files: one that fails keeps no other from being stored.

Owns which failures are the store's, so that all is tried again, and which are one file's. Must not
know what a file is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from runner.results.store import RefusedError, StoreError

F = TypeVar("F")
E = TypeVar("E")


@dataclass(slots=True)
class Tries(Generic[F, E]):
    """One try of each file. ``store`` gives its entry, or None for one that can't be read.

    ``refused``: those that the store would refuse again, and why.
    """

    store: Callable[[F], E | None]
    parallel: int
    refused: list[tuple[F, RefusedError]] = field(default_factory=list)
    _failed: list[StoreError] = field(default_factory=list)
    _in_a_row: int = 0

    def run(self, files: Sequence[F]) -> list[E | None]:
        """Try them, many at once, and return their entries in the same order.

        Raises StoreError if any is to be tried again: at once when so many in a row fail that the
        store must be away, else when all have been tried. A store that accepts nothing refuses us,
        and not the files.
        """
        if self.parallel == 1 or len(files) < 2:
            entries = [self._try(file) for file in files]
        else:
            with ThreadPoolExecutor(self.parallel, thread_name_prefix="upload") as pool:
                try:
                    entries = list(pool.map(self._try, files))
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
        if not any(entries):
            self._failed += [error for _, error in self.refused]
        if self._failed:
            more = len(self._failed) - 1
            raise StoreError(f"{self._failed[0]}" + (f" (and {more} more files)" if more else ""))
        return entries

    def _try(self, file: F) -> E | None:
        if self._in_a_row >= self.parallel:
            raise self._failed[-1]
        try:
            entry = self.store(file)
        except RefusedError as error:
            self.refused.append((file, error))
            return None
        except StoreError as error:
            self._failed.append(error)
            self._in_a_row += 1
            if self._in_a_row >= self.parallel:
                raise
            return None
        self._in_a_row = 0
        return entry
