"""A whole virtual machine, for what a container hasn't: all cgroup controllers, its own disk.

It boots a disk made from a folder, under software emulation: some 15 s, where a container takes
one. What it writes to its console is all that is heard of it.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 300.0
"""Seconds. The host may be busy, and emulates every instruction."""
MEMORY = 384
"""MiB."""


def what_is_missing() -> str | None:
    """Why there can be no virtual machine here; None if it can be tried."""
    for tool in ("qemu-system-x86_64", "mkfs.ext4"):
        if shutil.which(tool) is None:
            return f"the virtual machine needs {tool}"
    return None if _kernels() else "the virtual machine needs Debian's linux-image-cloud-amd64"


def _kernels() -> list[Path]:
    return sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))


class VirtualMachine:
    """A disk with the content of ``root``, and, between ``boot`` and an end, a running system."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._disk = folder / "disk.img"
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.console: list[str] = []
        words = ["mkfs.ext4", "-q", "-d", str(root), str(self._disk), "2G"]
        subprocess.run(words, check=True, capture_output=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            print("".join(self.console[-80:]))
        self.power_cut()
        self._disk.unlink()

    def boot(self) -> None:
        """Switch it on."""
        kernel = _kernels()[-1]
        initrd = kernel.with_name(kernel.name.replace("vmlinuz", "initrd.img"))
        self.console.clear()
        words = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]
        words += ["-m", str(MEMORY), "-nographic", "-no-reboot", "-net", "none"]
        words += ["-kernel", str(kernel), "-initrd", str(initrd)]
        words += ["-append", "root=/dev/vda rw console=ttyS0 quiet mitigations=off"]
        # Written through: what the machine was told is on the disk, is.
        words += ["-drive", f"file={self._disk},if=virtio,format=raw,cache=writethrough"]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            self.console.append(line)

    def power_cut(self) -> None:
        """Gone in the midst of whatever it did."""
        if self._process is not None:
            self._process.kill()
            self.wait_end()

    def wait_end(self, seconds: float = PATIENCE) -> None:
        """Wait until it has ended, by itself or not."""
        assert self._process is not None and self._reader is not None
        self._process.wait(seconds)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def wait_for(self, mark: str, seconds: float = PATIENCE) -> str:
        """What follows ``mark`` on the first line of its console that has it."""
        deadline = time.monotonic() + seconds
        while True:
            for line in list(self.console):
                if mark in line:
                    return line.partition(mark)[2].strip()
            assert time.monotonic() < deadline, f"never on its console: {mark}"
            assert self._process is not None and self._process.poll() is None, f"ended: {mark}"
            time.sleep(0.05)  # reason: the poll's own interval

    def said(self, mark: str) -> list[str]:
        """What follows ``mark`` on each line of its console that has it."""
        return [line.partition(mark)[2].strip() for line in list(self.console) if mark in line]
