"""The installer, killed after each of its steps: the same command again comes to the same end."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import platform
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from installed import REPOSITORY
from lab import Machine

DRIVER = Path(__file__).with_name("kill_installer.py")
PROGRAM = "def main():\n    print('{version}')\n"
ENTRY = "[console_scripts]\nrunner = runner:main\nrunner-status = runner:main\n"


def small_bundle(machine: Machine, version: str) -> str:
    """A bundle as `make bundle` makes it, but for a runner that only says its version."""
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("runner/__init__.py", PROGRAM.format(version=version))
        archive.writestr("runner/model/__init__.py", "")
        archive.writestr(f"queue_runner-{version}.dist-info/entry_points.txt", ENTRY)
    files = {
        "VERSION": f"{version} {platform.machine()}\n".encode(),
        f"wheels/queue_runner-{version}-py3-none-any.whl": wheel.getvalue(),
    }
    own = REPOSITORY / "runner" / "bundle"
    sources = [own / "install.sh", *(own / "installer").glob("*.py")]
    files |= {str(source.relative_to(own)): source.read_bytes() for source in sources}
    for source in (REPOSITORY / "systemd").rglob("*"):
        if source.is_file():
            files[str(source.relative_to(REPOSITORY))] = source.read_bytes()
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    folder = f"/root/{version}"
    for name, data in {**files, "SHA256SUMS": sums.encode()}.items():
        machine.write(f"{folder}/{name}", data)
    return folder


class Installer:
    """Obeys orders on one machine. ``whole``: the files of each version that is whole."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.whole: dict[str, list[str]] = {}

    def __call__(
        self, bundle: str, *arguments: str, kill_at: int = 0, by: int = signal.SIGKILL
    ) -> dict[str, Any]:
        """Whether it was killed, and all that is on the disk then."""
        assert self._process.stdin is not None and self._process.stdout is not None
        order = {"bundle": bundle, "arguments": arguments, "kill_at": kill_at, "signal": by}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        code, said = told.pop("code"), told.pop("said")
        assert code == 0 or (code in (-9, 143) and kill_at), said
        told["killed"] = code != 0
        if told["used"] is not None and self.whole:
            version, files = told["used"]
            assert files == self.whole[version], f"half of it is in use after step {kill_at}"
        return told

    def learn(self, bundle: str) -> dict[str, Any]:
        """What an installation that nobody disturbs comes to."""
        end = self(bundle)
        self(bundle, "--uninstall", "--purge")
        return end


@contextmanager
def installer_on(machine: Machine) -> Iterator[Installer]:
    machine.write("/root/kill_installer.py", DRIVER)
    words = ("python3", "-I", "/root/kill_installer.py")
    process = machine.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        yield Installer(process)


def test_killed_after_any_step_it_is_called_again(machine: Callable[..., Machine]) -> None:
    """Broken: a machine on which half of runner is used, or that only a person can mend."""
    host = machine()
    old, new = small_bundle(host, "1"), small_bundle(host, "2")
    with installer_on(host) as install:
        # Twice: what the machine's own tools make at their first use is not ours.
        ends = [install.learn(bundle) for bundle in (old, new, old, new)][2:]
        nothing = install(new, "--uninstall", "--purge")
        assert nothing == {"ours": [], "used": None, "killed": False}
        install.whole = dict(end["used"] for end in ends)
        assert len(install.whole) == 2
        way = [((old,), ends[0]), ((new,), ends[1]), ((new, "--uninstall", "--purge"), nothing)]
        step, last = 0, dict[tuple[str, ...], int]()
        while len(last) < len(way):
            step += 1
            for command, end in way:
                if command not in last and not install(*command, kill_at=step)["killed"]:
                    last[command] = step - 1
                assert install(*command) == end
        assert step > 40, "these are not all of its steps"
        # Somebody changes his mind while files are being removed, which comes last.
        for (before, end), (command, _) in itertools.pairwise(way):
            for back in range(0, 15, 2):
                install(*before)
                assert install(*command, kill_at=last[command] - back)["killed"]
                assert install(*before) == end
        assert host.run("runner").stdout == "2\n"


def test_cut_at_any_step_nothing_of_it_need_stay(machine: Callable[..., Machine]) -> None:
    """Broken: half an installation that nothing but a person removes."""
    host = machine()
    bundle = small_bundle(host, "1")
    with installer_on(host) as install:
        for _ in range(2):
            end = install.learn(bundle)
        nothing = {"ours": [], "used": None}
        for step in itertools.count(1):
            done = install(bundle, kill_at=step)
            install(bundle, "--uninstall", "--purge")
            left = install(bundle, "--uninstall", "--purge")
            assert left == {**nothing, "killed": False}, f"after a kill at step {step}"
            # An orderly signal: it clears away at once, unless all was in place already.
            stopped = install(bundle, kill_at=step, by=signal.SIGTERM)
            assert stopped in ({**nothing, "killed": True}, {**end, "killed": done["killed"]}), step
            install(bundle, "--uninstall", "--purge")
            if not done["killed"]:
                break
        assert step > 20, "these are not all of its steps"
