"""Command lines of runner in processes forked from a warm one: boto3 is imported once for them all.

For what talks to AWS and runs no jobs: /proc/PID/environ and the command line are the warm
process's. Run as a program, this is that process.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
from functools import cache
from typing import Any

SERVICES = (
    *("cloudformation", "ec2", "iam", "pricing", "s3"),
    *("service-quotas", "ssm", "sts"),
)
LARGEST = 1 << 20
"""Bytes of an order: a command line and an environment."""

_NUMBER = struct.Struct("i")


class Process(subprocess.Popen[Any]):
    """A Popen of ``python -m runner …``, which it doesn't execute: it is forked."""

    def _execute_child(self, args: Any, *rest: Any) -> None:  # type: ignore[override]
        cwd, env = rest[4:6]
        pipes = rest[9:15]
        own = [pipes[0], pipes[3], pipes[5]]
        self._status, status = os.pipe()
        order = {"argv": args[3:], "env": dict(os.environ if env is None else env)}
        order["cwd"] = os.fspath(cwd or ".")
        files = [number if given == -1 else given for number, given in enumerate(own)]
        socket.send_fds(_server(), [json.dumps(order).encode()], [*files, status])
        os.close(status)
        (self.pid,) = _NUMBER.unpack(os.read(self._status, _NUMBER.size))
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if wait_flags & os.WNOHANG and not select.select([self._status], [], [], 0)[0]:
            return 0, 0
        (status,) = _NUMBER.unpack(os.read(self._status, _NUMBER.size))
        os.close(self._status)
        return self.pid, status

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


@cache
def _server() -> socket.socket:
    """The warm process of this one; it ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
    with theirs:
        words = [sys.executable, "-W", "ignore", __file__, str(theirs.fileno())]
        process = subprocess.Popen(words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def main() -> None:
    """Fork a process for each order, until nobody is left to give one."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    _warm_up()
    # Nobody waits for a keeper.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, files, _, _ = socket.recv_fds(orders, LARGEST, 4)
        if not data:
            return
        if os.fork() == 0:
            orders.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _keep(json.loads(data), files)
        for file in files:
            os.close(file)


def _warm_up() -> None:
    from boto_models import read_once

    cli = importlib.import_module("runner.cli")
    for module in pkgutil.walk_packages(cli.__path__, "runner.cli."):
        importlib.import_module(module.name)
    read_once()
    session = importlib.import_module("botocore.session").Session()
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    for service in SERVICES:
        session.create_client(service, region_name="us-east-1", **keys).close()


def _keep(order: dict[str, Any], files: list[int]) -> None:
    """Fork the command, tell its pid, and later how it ended."""
    status = files[3]
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _become(order, files[:3])
    # Its pipes are to end with it.
    for file in (*files[:3], 0, 1, 2):
        os.close(file)
    os.write(status, _NUMBER.pack(pid))
    _, told = os.waitpid(pid, 0)
    os.write(status, _NUMBER.pack(told))
    os._exit(0)


def _become(order: dict[str, Any], files: list[int]) -> None:
    code = 70
    try:
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["cwd"])
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        code = importlib.import_module("runner.cli.main").run_command(order["argv"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 70
    except BaseException:
        importlib.import_module("traceback").print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
