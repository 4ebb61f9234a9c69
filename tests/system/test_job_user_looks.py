"""Another user than root asks for the machine's daemon: whom he finds, and what he may."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import World

from runner.cli.main import run_command

# Whoever asks is a fork of the tests' own process: its interpreter may be root's alone.
from runner.cli.verbs import cancel, logs, queues, status, stop, submit, wait  # noqa: F401

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts jobs as another user")

NOBODY = pwd.getpwnam("nobody")
CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = 16384 | 1 << 18
MS_BIND = 4096
NO_NAMESPACE = 77


class Machine(World):
    """A world whose sockets others see in /run/runner."""

    def ask_as_nobody(self, *arguments: str) -> tuple[int, str]:
        """Run a command as a user with no folders of his own: its exit code and what it said."""
        told = self.home.parent / "told"
        told.touch()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
            pid = os.fork()
        if pid == 0:
            try:
                self._be_nobody(told)
                code = run_command(list(arguments))
                sys.stdout.flush()
            except BaseException:
                traceback.print_exc()
                code = 70
            finally:
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said = told.read_text()
        told.unlink()
        if code == NO_NAMESPACE:
            pytest.skip("this root may not make a mount namespace")
        assert "Traceback" not in said, said
        return code, said

    def _be_nobody(self, told: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) != 0:
            os._exit(NO_NAMESPACE)
        assert libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) == 0
        assert libc.mount(b"none", b"/run", b"tmpfs", 0, b"mode=755") == 0
        os.mkdir("/run/runner", 0o755)
        assert libc.mount(os.fsencode(self.run_dir), b"/run/runner", None, MS_BIND, None) == 0
        fd = os.open(told, os.O_WRONLY | os.O_APPEND)
        for number in (1, 2):
            os.dup2(fd, number)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(HOME=NOBODY.pw_dir, PATH=os.defpath)
        os.chdir(self.home)
        os.setgroups([])
        os.setresgid(*3 * [NOBODY.pw_gid])
        os.setresuid(*3 * [NOBODY.pw_uid])


@pytest.fixture
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="job-user-"))
    folder.chmod(0o755)
    made = Machine(folder, job_user="nobody")
    made.home.chmod(0o755)
    made.daemon()
    document = made.document(
        {"job_id": "a", "command": "echo hello; exit 3", "timeout": "1m", "env": {"KEY": "hidden"}}
    )
    assert made.call("submit", document).returncode == 0
    assert made.call("wait").returncode == 100
    yield made
    made.close()
    shutil.rmtree(folder)


def test_everybody_sees_the_machines_queues(machine: Machine) -> None:
    """Who is logged in as the jobs' user would be told that there is no queue."""
    code, said = machine.ask_as_nobody("status")
    assert code == 0 and "Status:      failed" in said and "hidden" not in said
    assert machine.ask_as_nobody("wait", "--queue", "q")[0] == 100
    assert machine.ask_as_nobody("logs", "a") == (0, "hello\n")
    assert "q" in machine.ask_as_nobody("queues")[1]
    code, said = machine.ask_as_nobody("status", "--queue", "other")
    assert code == 102


def test_to_act_takes_the_group(machine: Machine) -> None:
    """A job could submit jobs, or a user be left to guess what he lacks."""
    for arguments in (("cancel", "--all"), ("submit", "q.json"), ("stop",)):
        code, said = machine.ask_as_nobody(*arguments)
        assert code == 1 and "permission denied" in said and "group 'runner'" in said, said
    large = machine.document(
        {"job_id": "a", "command": "true", "timeout": "1m", "env": {"X": 70_000 * "x"}}, name="l"
    )
    code, said = machine.ask_as_nobody("submit", large)
    assert code != 0 and "permission denied" in said, said
    assert machine.ask("ping")["pid"] and len(machine.data("queues")) == 1


def test_the_state_folder_itself_tells_nobody_anything(machine: Machine) -> None:
    """A user who names the folder would get a traceback, or the values of environments."""
    for verb in ("status", "queues", "logs"):
        words = [verb, *(["a"] if verb == "logs" else []), "--state-dir", str(machine.state)]
        code, said = machine.ask_as_nobody(*words)
        assert code == 1 and "permission" in said, said
