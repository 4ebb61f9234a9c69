"""Storing many files: which failures are the store's, and which are one file's."""

from __future__ import annotations

import pytest

from runner.results.store import RefusedError, StoreError
from runner.results.upload.tries import Tries


@pytest.mark.parametrize("parallel", [2, 3])
def test_one_that_fails_keeps_no_other_from_being_stored(parallel: int) -> None:
    """With one file in three failing at each try, most would never be stored."""
    tried: list[int] = []

    def store(file: int) -> int:
        tried.append(file)
        if file % 3 == 1:
            raise StoreError(f"{file} fails")
        return file

    with pytest.raises(StoreError, match=r"^\d+ fails \(and 9 more files\)$"):
        Tries(store, parallel).run(range(1, 31))
    assert sorted(tried) == list(range(1, 31))


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_store_that_is_away_is_not_asked_for_every_file(parallel: int) -> None:
    """Each of a hundred thousand files would be waited for, minute after minute."""
    tried: list[int] = []

    def store(file: int) -> int:
        tried.append(file)
        raise StoreError("away")

    with pytest.raises(StoreError, match="away"):
        Tries(store, parallel).run(range(1000))
    assert len(tried) < 100


def test_what_is_refused_is_left_out_unless_all_is() -> None:
    """One key that S3 doesn't take would keep all from counting; or a role without a permission
    leave out every result for good."""

    def store(file: int) -> int:
        if file % 2:
            raise RefusedError(f"{file} is refused")
        return file

    some = Tries(store, 3)
    assert some.run([1, 2, 3, 4]) == [None, 2, None, 4]
    assert sorted((file, str(error)) for file, error in some.refused) == [
        (1, "1 is refused"), (3, "3 is refused"),
    ]  # fmt: skip
    with pytest.raises(StoreError, match=r"is refused \(and 1 more files\)"):
        Tries(store, 3).run([1, 3])
