"""What lies below a job's prefix and is not in its manifest: removed once that is in place.

Owns what is kept all the same: log parts that are all there is of a log, a checkpoint that may
still be needed, and the records of this run's attempts.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from concurrent.futures import ThreadPoolExecutor

from runner.core.attempts import start_number
from runner.results.download.log_parts import whole_logs
from runner.results.layout import Layout, Stream
from runner.results.manifest import Manifest
from runner.results.store import Entry, ResultStore


def remove_others(
    store: ResultStore, layout: Layout, manifest: Manifest, there: Collection[Entry]
) -> None:
    """Remove what is ``there`` of a job and no part of its manifest. Raises StoreError."""
    named = {file.key for file in manifest.files}
    named.add(layout.manifest_key(manifest.job_id))
    named.add(layout.fingerprint_key(manifest.job_id))
    whole = whole_logs(layout, manifest, there)
    keys = {entry.key for entry in there}
    left = sorted(key for key in keys - named if not _is_kept(layout, manifest, key, whole))
    if store.parallel == 1 or len(left) < 2:
        for key in left:
            store.delete(key)
        return
    with ThreadPoolExecutor(store.parallel, thread_name_prefix="delete") as pool:
        list(pool.map(store.delete, left))


def _is_kept(layout: Layout, manifest: Manifest, key: str, whole: Set[tuple[int, Stream]]) -> bool:
    """Parts are all there is of a log that isn't whole. A checkpoint is somebody else's
    business, until the job doesn't need it any more; so are this run's attempts' records."""
    if part := layout.log_part_of(manifest.job_id, key):
        return part[:2] not in whole
    if token := layout.record_token(manifest.job_id, key):
        return start_number(manifest.run_id, token) > 0
    return not manifest.completed and key.startswith(layout.checkpoint_prefix(manifest.job_id))
