"""Random trees and patterns: nothing that a job declares is lost without a word."""

from __future__ import annotations

import fnmatch
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.manifest import parse_manifest
from runner.results.upload.job_upload import JobUpload, upload_job

NAMES = ["a", "b", "c.pt", "d.csv", ".e", "stdout.log", "_abs", "attempts", "[x]", "é"]
PARTS = ["*", "**", "?", "*.pt", "[ab]", *NAMES[:6]]


class Tree:
    """A job's folder, and what is in it: regular files, and links with what they lead to."""

    def __init__(self, top: Path, rng: random.Random) -> None:
        self.work, self.outside, self.rng = top / "work", top / "outside", rng
        self.files: list[str] = []
        self.links: dict[str, str] = {}
        for folder in (self.work, self.outside):
            folder.mkdir()
        (self.outside / "f").write_text("elsewhere")
        self._fill("", 0)

    def _fill(self, below: str, depth: int) -> None:
        for name in self.rng.sample(NAMES, self.rng.randint(1, 5)):
            path = f"{below}{name}"
            match self.rng.choice(["file"] * 4 + ["folder"] * (3 - depth) + ["link", "fifo"]):
                case "file":
                    (self.work / path).write_text(path)
                    self.files.append(path)
                case "folder":
                    (self.work / path).mkdir()
                    self._fill(f"{path}/", depth + 1)
                case "link":
                    targets = [f"{self.outside}/f", f"{self.outside}", f"{self.work}", "nowhere"]
                    targets += [f"{self.work}/{file}" for file in self.files]
                    self.links[path] = self.rng.choice(targets)
                    (self.work / path).symlink_to(self.links[path])
                case _:
                    os.mkfifo(self.work / path)


def means(parts: list[str], path: list[str]) -> bool:
    """Whether a pattern matches a path, or a folder that it is in: said as slowly as it gets."""
    if not parts:
        return True
    if not path:
        return False
    if parts[0] == "**":
        return len(parts) == 1 or any(means(parts[1:], path[at:]) for at in range(len(path)))
    same = path[0] == parts[0] or fnmatch.fnmatchcase(path[0], parts[0])
    return same and means(parts[1:], path[1:])


def test_what_is_declared_is_stored_or_told_as_missing(
    tmp_path: Path, scaled: Callable[[int], int], seed: int
) -> None:
    """Some tree of files and links would lose a result, and everything be green."""
    rng = random.Random(seed)
    for number in range(scaled(150)):
        top = tmp_path / f"{number}"
        top.mkdir()
        check(Tree(top, rng), top, rng)
        shutil.rmtree(top)


def check(tree: Tree, top: Path, rng: random.Random) -> None:
    wild = ["/".join(rng.choices(PARTS, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 3))]
    patterns = tuple(dict.fromkeys(wild))
    optional = frozenset(rng.sample(patterns, rng.randint(0, len(patterns))))
    log = top / "log"
    log.touch()
    store, layout = FolderStore(top / "store"), Layout()
    spec = JobUpload(
        *("j", "run", 1, 1, True, patterns, str(tree.work), log, log),
        optional=optional,
        ended_at=time.time() + 60,
    )
    outcome = upload_job(store, layout, spec)
    told = f"patterns {patterns}, optional {set(optional)}, {tree.files}, {tree.links}"
    assert outcome.ok, told
    data = store.get_bytes(layout.manifest_key("j"))
    assert data is not None
    manifest = parse_manifest(data)
    sources = {file.source for file in manifest.files if not layout.is_log(file.name)}
    has = {*map(_real, sources)}
    missing = {each.path for each in manifest.missing}

    def meant(path: str) -> list[str]:
        return [each for each in patterns if means(each.split("/"), path.split("/"))]

    # Links that a document names are followed: what is behind them is another test's business.
    named = {path for each in patterns for path in _named(each)}
    served = set()
    for file in tree.files:
        if patterns_of := meant(file):
            assert f"{tree.work}/{file}" in has, f"{file}: {told}"
            served.update(patterns_of)
    for link, target in tree.links.items():
        if not meant(link) or named & set(_up(link)):
            continue
        path = f"{tree.work}/{link}"
        if target == f"{tree.outside}/f" or target == str(tree.outside):
            assert path in missing, f"{link}: {told}"
        elif os.path.isfile(path):
            assert path in has or path in missing, f"{link}: {told}"
    allowed = {f"{tree.work}/{path}" for path in (*tree.files, *tree.links)}
    for path in sources - allowed:
        assert named & set(_up(os.path.relpath(path, tree.work))), f"{path}: {told}"
    for pattern in patterns:
        if pattern in optional or pattern in served or tree.links.keys() & set(_named(pattern)):
            continue
        stored = [path for path in sources if pattern in meant(os.path.relpath(path, tree.work))]
        assert stored or pattern in missing, f"{pattern}: {told}"
    assert upload_job(store, layout, spec) == outcome, told


def _real(path: str) -> str:
    """The path without links but for the last part, which may be one."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _up(path: str) -> list[str]:
    """A path from the working directory, and each folder that it is in."""
    parts = path.split("/")
    return ["/".join(parts[: at + 1]) for at in range(len(parts))]


def _named(pattern: str) -> list[str]:
    """The folders, and perhaps the file, that a pattern names before its first wildcard."""
    return [path for path in _up(pattern) if not set(path) & set("*?[")]
