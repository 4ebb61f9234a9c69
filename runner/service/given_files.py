"""The files that show a queue's document to people, where it was given in short.

The database has both; these are written anew when they are missing, or are of another document.
"""

from __future__ import annotations

from dataclasses import replace

from runner.errors import disk_error
from runner.files import replace_file
from runner.model.document import QueueSpec, dump_document
from runner.store.paths import QueuePaths


def write_given(paths: QueuePaths, document: QueueSpec) -> None:
    """Write ``queue.json`` and, last, ``queue.given.json``, for the owner only: they hold env.

    Raises DiskError.
    """
    if document.given is None:
        return
    given = document.given.encode()
    try:
        if paths.given.exists() and paths.document.exists() and paths.given.read_bytes() == given:
            return
        plain = dump_document(replace(document, given=None)).encode()
        replace_file(paths.document, [plain], mode=0o600)
        replace_file(paths.given, [given], mode=0o600)
    except OSError as error:
        raise disk_error(error.filename or paths.given, error) from None
