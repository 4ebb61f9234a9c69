"""Storage that fails at random: the library, and a world whose commands load it."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kill_support import Build, World

SOURCE = Path(__file__).parent / "storage_faults.c"


def compiled(folder: Path) -> Path:
    """The library, made anew by the machine's compiler."""
    library = folder / "storage_faults.so"
    words = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"]
    subprocess.run(words, check=True)
    return library


class Faults:
    """How many of a million calls fail, from now on; and how many have."""

    def __init__(self, root: Path, library: Path, seed: int) -> None:
        control = root / "faults"
        control.write_bytes(bytes(8))
        with open(control, "r+b") as file:
            self._control = mmap.mmap(file.fileno(), 8)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULTS_CONTROL": str(control),
            "FAULTS_BELOW": f"{root}/",
            "FAULTS_SEED": str(seed),
        }

    def rate(self, of_a_million: int) -> None:
        """0: storage is well again."""
        self._control[:4] = struct.pack("=I", of_a_million)

    @property
    def count(self) -> int:
        """How many calls have failed."""
        (count,) = struct.unpack("=I", self._control[4:8])
        return int(count)


class FaultyWorld(World):
    """A world whose commands meet the faults, and whose jobs don't."""

    def __init__(self, root: Path, build: Build, library: Path, seed: int) -> None:
        root.mkdir()
        self.faults = Faults(root, library, seed)
        super().__init__(root, without_library(build))

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self.faults.environment


def without_library(build: Build) -> Build:
    """The same queue, whose jobs don't inherit what ``run`` is called with."""

    def built(proof: Path) -> dict[str, Any]:
        document = build(proof)
        return {**document, "env": {**document["env"], "LD_PRELOAD": ""}}

    return built


@contextmanager
def faulty_world(root: Path, build: Build, library: Path, seed: int) -> Iterator[FaultyWorld]:
    """A world of its own; whatever happens, nothing of it is left running."""
    made = FaultyWorld(root, build, library, seed)
    try:
        yield made
    finally:
        made.faults.rate(0)
        made.close()


def last_words(world: World, lines: int = 60) -> str:
    """The end of what its commands have said."""
    output = world.root / "output"
    text = output.read_text(errors="replace") if output.exists() else ""
    return os.linesep.join(text.splitlines()[-lines:])
