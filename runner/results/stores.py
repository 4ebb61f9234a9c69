"""Which result store a user means: `s3://bucket/prefix`, or a folder.

Owns how a store is written in one word; `ResultStore.describe()` writes the same. Must not know
what is in a store.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.model.fields import check_bucket, check_prefix
from runner.model.messages import quoted
from runner.model.validation_errors import InvalidError
from runner.results.store import ResultStore

if TYPE_CHECKING:
    from runner.results.s3.store import S3Options

SCHEME = "s3://"


def open_store(where: str, options: S3Options | None = None) -> ResultStore:
    """The store at `s3://bucket[/prefix]` or in a folder. Nothing is asked of it, or made, yet.

    `options` are for a store in S3. Raises UsageError for what can't be a store.
    """
    if is_s3(where):
        from runner.results.s3.store import S3Store

        return S3Store(*parse_s3(where), options)
    check_folder_word(where)
    from runner.results.folder import FolderStore

    return FolderStore(Path(where))


def check_folder_word(where: str) -> None:
    """Raise UsageError for what can't be meant as a folder: nobody's begins like an address.

    ``s3:/bucket``, an ``https://`` address or an ARN would make a folder of that name, and the
    results would not be where they are looked for.
    """
    if not where or "\0" in where:
        raise UsageError(f"{quoted(where)} is no folder, and no {SCHEME}bucket/prefix")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/|arn:|s3:", where):
        raise UsageError(
            f"{quoted(where)}: results in S3 are written {SCHEME}bucket/prefix; a folder of that "
            f"name would be {quoted('./' + where)}"
        )


def is_s3(where: str) -> bool:
    """Whether this is meant to be in S3: `S3://` is refused, it is not a folder's name."""
    return where[: len(SCHEME)].lower() == SCHEME


def parse_s3(url: str) -> tuple[str, str]:
    """The bucket and the prefix (`""`: all of it) of `s3://bucket[/prefix[/]]`.

    Raises UsageError, which says what is wrong and how it is written.
    """
    if not url.startswith(SCHEME):
        raise UsageError(f"{quoted(url)}: results in S3 are written {SCHEME}bucket/prefix")
    bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
    if prefix != "/":
        prefix = prefix.removesuffix("/")
    try:
        check_bucket(bucket)
    except InvalidError as error:
        raise UsageError(f"{quoted(url)}: the bucket {error}") from None
    try:
        if prefix:
            check_prefix(prefix)
    except InvalidError as error:
        raise UsageError(f"{quoted(url)}: the prefix {error}") from None
    return bucket, prefix
