"""What a launch takes along from the laptop, ready to be sent: the work folder, the bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.aws.faults import AwsError, Kind
from runner.cli.progress import progress_bar
from runner.errors import UsageError
from runner.results.stores import is_s3
from runner.targets.ec2.bucket import Bucket
from runner.targets.ec2.bundles import bundle_file
from runner.targets.ec2.workdir import LIMIT, pack

Say = Callable[[str], None]


@contextmanager
def packed(folder: str | None, say: Say) -> Iterator[Path | None]:
    """The work folder as one file, as long as the block lasts. Raises UsageError."""
    if folder is None:
        yield None
        return
    with progress_bar() as advance:
        known = 0

        def progress(done: int, total: int) -> None:
            nonlocal known
            advance(0 if known else total, done - known)
            known = done

        path = pack(Path(folder), LIMIT, progress, say)
    try:
        say(f"{folder} is packed: {path.stat().st_size:,} bytes")
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def bundles(given: str | None, region: str, say: Say) -> Iterator[Callable[[str], Path]]:
    """Finds, builds or fetches the bundle of an architecture, as long as the block lasts."""
    if given is None or not is_s3(given):
        yield lambda arch: bundle_file(given, arch, say)
        return
    with tempfile.TemporaryDirectory(prefix="runner-bundle-") as folder:
        path = Path(folder) / "bundle.tar.gz"
        _fetch(given, region, path)
        yield lambda arch: bundle_file(str(path), arch, say)


def _fetch(given: str, region: str, path: Path) -> None:
    """The machine's role need not reach another bucket: the bundle goes through the launch's."""
    name, _, key = given[len("s3://") :].partition("/")
    if not name or not key:
        raise UsageError(f"--bundle: {given} is not s3://bucket/key")
    try:
        Bucket(name, region).fetch(key, path)
    except AwsError as error:
        if error.kind is Kind.PASSING:
            raise
        raise UsageError(f"--bundle: {given} can't be fetched: {error}") from error
