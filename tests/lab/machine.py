"""One machine: booted, used, stopped in every way a server can be, and gone without a trace."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from imds import Imds

from lab.network import Forwarder, in_namespace
from lab.root import CACHE, unified_hierarchy

_T = TypeVar("_T")

PATIENCE = 60.0
"""Seconds until something that doesn't come true is a failure. The host may be busy."""

REBOOTED = 133
"""The exit code of systemd-nspawn when the machine wants to be started again."""

METADATA = "169.254.169.254"

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class Machine:
    """A disk, a network, and, between ``boot`` and an end, a running system.

    Use it in a ``with``: whatever happens, its processes, mounts, namespace and cgroup are removed.
    ``environment`` is for all services, and for the commands of ``run``.
    """

    def __init__(self, root: Path, *, environment: dict[str, str] | None = None) -> None:
        hierarchy = unified_hierarchy()
        assert hierarchy is not None
        _sweep(hierarchy)
        self.name = f"runner-lab-{uuid.uuid4().hex[:8]}"
        self.environment = dict(environment or {})
        self._folder = _MACHINES / self.name
        self._closing: list[Callable[[], None]] = []
        self._namespace = Path("/run/netns") / self.name
        self._cgroup = hierarchy / self.name
        self._process: subprocess.Popen[bytes] | None = None
        self._leader: int | None = None
        self._closed = False
        self._folder.mkdir(parents=True)
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._make(root)
        except BaseException:
            self.close()
            raise

    def _make(self, root: Path) -> None:
        for name in ("upper", "work", "disk"):
            (self._folder / name).mkdir()
        layers = f"lowerdir={root},upperdir={self._folder}/upper,workdir={self._folder}/work"
        _call("mount", "-t", "overlay", "-o", layers, self.name, str(self.disk))
        _call("ip", "netns", "add", self.name)
        _call("ip", "-n", self.name, "link", "set", "lo", "up")
        _call("ip", "-n", self.name, "addr", "add", f"{METADATA}/32", "dev", "lo")
        self._cgroup.mkdir()
        if self.environment:
            words = " ".join(f'"{name}={value}"' for name, value in self.environment.items())
            self.write(
                "/etc/systemd/system.conf.d/lab.conf", f"[Manager]\nDefaultEnvironment={words}\n"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.last_words())
        self.close()

    def close(self) -> None:
        """Ends it and removes everything of it. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._process is not None:
                self.power_cut()
            for close in reversed(self._closing):
                close()
        finally:
            _remove(self._folder, self._cgroup)
            os.close(self._lock)

    # -- its life ----------------------------------------------------------------------------

    @property
    def disk(self) -> Path:
        """The disk as this host sees it, machine running or not; without its /run and /tmp.

        Don't follow links in it: absolute ones would lead out of it.
        """
        return self._folder / "disk"

    @property
    def running(self) -> bool:
        """Whether the machine's processes are there."""
        return self._process is not None and self._process.poll() is None

    def boot(self, *, wait: bool = True) -> Self:
        """Switch it on, and return when it has booted; without ``wait`` at PID 1."""
        assert not self.running
        join = 'echo $$ > "$0"; exec "$@"'
        nspawn = ["systemd-nspawn", "--quiet", "--directory", str(self.disk), "--boot"]
        nspawn += ["--register=no", "--keep-unit", f"--machine={self.name}"]
        nspawn += ["--resolv-conf=off", "--timezone=off", "--link-journal=no"]
        nspawn += [f"--network-namespace-path={self._namespace}"]
        with open(self._folder / "console", "ab") as console:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", join, str(self._cgroup / "cgroup.procs"), *nspawn],
                env={**_ENVIRONMENT, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self._leader = self.wait_for(self._find_leader, "a PID 1")
        if wait:
            self.wait_for(self._is_up, "the end of the boot")
        return self

    def power_cut(self) -> None:
        """All of its processes are gone at once. The disk keeps what was written to it."""
        (self._cgroup / "cgroup.kill").write_text("1")
        self.wait_end()

    def power_off(self) -> None:
        """An orderly stop, as by its power button."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self.wait_end()
        assert code == 0, f"a power-off ended with {code}"

    def reboot(self, *, wait: bool = True) -> Self:
        """An orderly reboot, as an administrator asks for it."""
        self.run("systemctl", "reboot", check=False)
        code = self.wait_end()
        assert code == REBOOTED, f"a reboot ended with {code}"
        return self.boot(wait=wait)

    def wait_end(self, seconds: float = PATIENCE) -> int:
        """Wait until it has ended by itself: 0 is a power-off, REBOOTED a reboot."""
        assert self._process is not None
        code = self._process.wait(seconds)
        self.wait_for(self._is_empty, "the end of all processes", seconds)
        self._process = self._leader = None
        return code

    def _find_leader(self) -> int | None:
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            raise AssertionError(f"no boot, exit {code}: {self._console()}")
        for pid in _descendants(self._process.pid):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                program = Path(f"/proc/{pid}/exe").readlink()
            except OSError:
                continue
            levels = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
            # Not before it is systemd: its mounts are made by then.
            if len(levels) > 2 and levels[-1] == "1" and program.name == "systemd":
                return pid
        return None

    def _is_up(self) -> bool:
        told = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return told in ("running", "degraded")

    def _is_empty(self) -> bool:
        return "populated 0" in (self._cgroup / "cgroup.events").read_text()

    # -- commands and files ------------------------------------------------------------------

    def run(
        self,
        *words: str,
        check: bool = True,
        seconds: float = PATIENCE,
        env: dict[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in it, to its end. ``check``: it must succeed."""
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            self._inside(words, env),
            capture_output=True,
            text=True,
            timeout=seconds,
            **options,
        )
        assert not check or done.returncode == 0, (
            f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def inside(self, *words: str) -> list[str]:
        """The command of this host that runs such a command as root in it."""
        return self._inside(words, None)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command as root in it; it ends with the machine at the latest."""
        return subprocess.Popen(self._inside(words, None), text=True, **options)

    def write(self, path: str, content: str | bytes | Path, mode: int = 0o644) -> None:
        """Make a file with its folders, running or not; a Path is a file of this host."""
        script = 'mkdir -p "${1%/*}" && cat > "$1" && chmod "$2" "$1"'
        words = ("/bin/sh", "-c", script, "sh", path, f"{mode:o}")
        if isinstance(content, Path):
            with open(content, "rb") as source:
                done = subprocess.run(self._inside(words, None), capture_output=True, stdin=source)
        else:
            data = content.encode() if isinstance(content, str) else content
            done = subprocess.run(self._inside(words, None), capture_output=True, input=data)
        assert done.returncode == 0, done.stderr.decode()

    def read(self, path: str) -> str:
        """The text of a file, running or not. Raises FileNotFoundError."""
        done = subprocess.run(self._inside(("cat", path), None), capture_output=True, text=True)
        if done.returncode != 0:
            raise FileNotFoundError(done.stderr.strip())
        return done.stdout

    def exists(self, path: str) -> bool:
        """Whether something is there, links included, running or not."""
        test = ("/bin/sh", "-c", '[ -e "$1" ] || [ -L "$1" ]', "sh", path)
        return subprocess.run(self._inside(test, None)).returncode == 0

    def journal(self, *arguments: str) -> str:
        """What its journal holds: of all boots, or what ``arguments`` choose."""
        return self.run("journalctl", "--no-pager", *arguments, check=False).stdout

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def _inside(self, words: Sequence[str], env: dict[str, str] | None) -> list[str]:
        given = {**_ENVIRONMENT, **self.environment, **(env or {})}
        clean = ["env", "-i", *(f"{name}={value}" for name, value in given.items())]
        if self._leader is not None and self.running:
            return [*clean, "nsenter", "--target", str(self._leader), "--all", *words]
        return [*clean, "chroot", str(self.disk), *words]

    # -- its network -------------------------------------------------------------------------

    def imds(self, *, start: bool = True) -> Imds:
        """A metadata service where EC2 has it. It outlives reboots."""
        served = in_namespace(self._namespace, lambda: Imds(start=start, address=(METADATA, 80)))
        self._closing.append(served.close)
        return served

    def forward(self, port: int) -> None:
        """127.0.0.1:``port`` of the machine leads to that port of this host's loopback."""
        self._closing.append(Forwarder(self._namespace, port).close)

    def serve(self, make: Callable[[], _T], close: Callable[[_T], None]) -> _T:
        """Any server: ``make`` is called with the machine's network; closed with the machine."""
        served = in_namespace(self._namespace, make)
        self._closing.append(lambda: close(served))
        return served

    # -- waiting and telling -----------------------------------------------------------------

    def wait_for(self, look: Callable[[], _T | None], what: str, seconds: float = PATIENCE) -> _T:
        """Poll until ``look`` gives something true, and return that; fails if it never does."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > deadline:
                raise AssertionError(f"still not after {seconds} s: {what}\n{self.last_words()}")
            time.sleep(0.02)  # reason: the poll's own interval
        return found

    def last_words(self) -> str:
        """The ends of the console and of the journal, for who has to find out why."""
        told = f"--- console\n{self._console()}"
        for title, *words in _LAST_WORDS if self.running else ():
            try:
                done = self.run(*words, check=False)
                told += f"\n--- {title}\n{done.stdout}{done.stderr}"
            except subprocess.TimeoutExpired:
                told += f"\n--- {title}\n(no answer)"
        return told

    def _console(self) -> str:
        path = self._folder / "console"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""


_MACHINES = CACHE / "machines"
_LAST_WORDS = (
    ("journal", "journalctl", "--no-pager", "-n", "40"),
    ("the agent", "journalctl", "--no-pager", "-n", "80", "-u", "runner.service"),
    ("the machine's end", "cat", "/var/lib/runner/machine.json"),
)


def _sweep(hierarchy: Path) -> None:
    """Remove machines whose tests were killed: their lock is nobody's."""
    for folder in _MACHINES.glob("runner-lab-*"):
        try:
            with open(folder / "lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder, hierarchy / folder.name)
        except OSError:
            continue


def _remove(folder: Path, cgroup: Path) -> None:
    if cgroup.exists():
        (cgroup / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + 10
        while "populated 1" in (cgroup / "cgroup.events").read_text():
            assert time.monotonic() < deadline, f"{cgroup} doesn't become empty"
            time.sleep(0.01)  # reason: the poll's own interval
        for inner, _, _ in os.walk(cgroup, topdown=False):
            os.rmdir(inner)
    if (Path("/run/netns") / folder.name).exists():
        _call("ip", "netns", "delete", folder.name)
    if os.path.ismount(folder / "disk"):
        _call("umount", str(folder / "disk"))
    shutil.rmtree(folder)


def _descendants(pid: int) -> list[int]:
    try:
        told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    children = [int(word) for word in told.split()]
    return [found for child in children for found in (child, *_descendants(child))]


def _call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
