"""What a launch takes along from the laptop, ready to be sent: the work folder, the bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.aws.errors import AwsError, ErrorKind
from runner.cli.show.progress import progress_bar
from runner.errors import UsageError
from runner.results.escape import written
from runner.results.stores import is_s3
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.launch.bundles import bundle_file
from runner.targets.ec2.launch.workdir import LIMIT, pack
from runner.targets.ec2.launch.workdir_files import Choice

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Workdir:
    """The work folder as one file, and what is in it."""

    file: Path
    choice: Choice

    def view(self, *, whole: bool) -> dict[str, Any]:
        """As data; with ``whole`` every file is named. Paths are as `results` writes them."""
        choice = self.choice
        view: dict[str, Any] = {"count": len(choice.files), "bytes": choice.size, "git": choice.git}
        if whole:
            files = choice.files.items()
            view["files"] = [{"path": written(path), "bytes": size} for path, size in files]
        left = choice.left_out
        return {
            **view,
            "left_out": [{"path": written(each.path), "why": each.why} for each in left],
        }


@contextmanager
def packed(folder: str | None, include: Sequence[str], say: Say) -> Iterator[Workdir | None]:
    """The work folder, ready to be sent, as long as the block lasts. Raises UsageError."""
    if folder is None:
        if include:
            raise UsageError("--include: is for a file of the work folder: it goes with --workdir")
        yield None
        return
    chosen: list[Choice] = []
    with progress_bar() as advance:
        known = 0

        def progress(done: int, total: int) -> None:
            nonlocal known
            advance(0 if known else total, done - known)
            known = done

        path = pack(Path(folder), LIMIT, progress, chosen.append, include)
    try:
        say(f"{folder} is packed: {path.stat().st_size:,} bytes")
        yield Workdir(path, chosen[0])
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
        LaunchBucket(name, region).fetch(key, path)
    except AwsError as error:
        if error.kind is ErrorKind.PASSING:
            raise
        raise UsageError(f"--bundle: {given} can't be fetched: {error}") from error
