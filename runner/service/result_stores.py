"""Which result store a queue has, and whether it can be used: asked before the first job starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runner.errors import UsageError
from runner.model.document import QueueSpec
from runner.model.settings import Settings
from runner.results.store import ResultStore, StoreError
from runner.results.stores import is_s3, open_store


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """Where a queue's results go, in one word; None for nowhere. ``named``: by a flag."""

    where: str | None
    named: bool = False


def wanted(document: QueueSpec, flag: str | None = None) -> StoreRequest:
    """The flag's store, else the document's bucket and prefix (default: ``queues/<queue_id>``)."""
    if flag is not None:
        return StoreRequest(flag, named=True)
    if document.result_s3_bucket is None:
        return StoreRequest(None)
    assert document.queue_id is not None
    prefix = document.result_s3_prefix or f"queues/{document.queue_id}"
    return StoreRequest(f"s3://{document.result_s3_bucket}/{prefix}")


def prepared(
    want: StoreRequest, settings: Settings, say: Callable[[str], None]
) -> ResultStore | None:
    """Open the store and try it. Blocks. ``say`` takes what is worth a word.

    Raises UsageError for what only a person can change; a network that is away passes by itself.
    """
    if want.where is None:
        return None
    store = opened(want, settings)
    assert store is not None
    try:
        for note in store.prepare():
            say(note)
    except StoreError as error:
        say(f"{error}; work goes on, and what is to be stored is tried again")
    except UsageError as error:
        store.close()
        if want.named or not is_s3(want.where):
            raise
        hint = "--results DIR keeps this run's results in a folder"
        raise UsageError(f"{error}\n{hint}") from error
    return store


def opened(want: StoreRequest, settings: Settings) -> ResultStore | None:
    """The store, untried. Raises UsageError for what can't be one."""
    if want.where is None or not is_s3(want.where):
        return None if want.where is None else open_store(want.where)
    from runner.results.s3.store import S3Options

    return open_store(want.where, S3Options(settings.kms_key, settings.storage_class))
