"""Run by a Python that a test has started somewhere odd: each verb in a fork, and what came of it.

One start of the interpreter for all verbs: a fork has the streams that a shell would give it.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import selectors
import struct
import sys
import termios
from importlib import import_module
from typing import NoReturn

from runner.cli import main

NULL = os.open(os.devnull, os.O_RDWR)


def streams(how: str) -> tuple[list[int | None], dict[str, int]]:
    """What the three descriptors become (None: closed), and the ends to read from."""
    if how.startswith("terminal"):
        leader, follower = pty.openpty()
        columns = int(how.partition(" ")[2] or 80)
        fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        return [follower] * 3, {"out": leader}
    if how == "hung up":
        leader, follower = pty.openpty()
        os.close(leader)
        return [NULL, follower, follower], {}
    gone, none = how.split("/")[0].split("+"), how.split("/")[-1].split("+")
    given: list[int | None] = [NULL]
    ends = {}
    for name in ("out", "err"):
        read, write = os.pipe()
        given.append(write)
        if f"{name} gone" in gone:
            os.close(read)
        else:
            ends[name] = read
    for number, name in enumerate(("in", "out", "err")):
        if f"{name} closed" in none:
            if given[number] != NULL:
                os.close(given[number])
            given[number] = None
    return given, ends


def be(words: list[str], given: list[int | None]) -> NoReturn:
    """The child: the command, as its front door would have it."""
    for number, fd in enumerate(given):
        if fd is None:
            os.close(number)
        else:
            os.dup2(fd, number)
    os.closerange(3, 256)
    code = 99
    try:
        code = main.run_command(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 98
    finally:
        os._exit(code)


def run(words: list[str], how: str) -> dict[str, object]:
    given, ends = streams(how)
    pid = os.fork()
    if pid == 0:
        be(words, given)
    for fd in {fd for fd in given if fd not in (None, NULL)}:
        os.close(fd)
    told = read_all(ends)
    _, status = os.waitpid(pid, 0)
    coded = {name: base64.b64encode(data).decode() for name, data in told.items()}
    return {"code": os.waitstatus_to_exitcode(status), **coded}


def read_all(ends: dict[str, int]) -> dict[str, bytes]:
    told = dict.fromkeys(ends, b"")
    with selectors.DefaultSelector() as selector:
        for name, fd in ends.items():
            selector.register(fd, selectors.EVENT_READ, name)
        while selector.get_map():
            for key, _ in selector.select():
                try:
                    data = os.read(key.fd, 65_536)
                except OSError:  # of a terminal that nobody has open any more
                    data = b""
                told[key.data] += data
                if not data:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return told


def get_ready(verbs: set[str]) -> None:
    """Import here what each fork would import for itself."""
    for verb in verbs & main.VERBS.keys():
        import_module(f"runner.cli.verbs.{verb.replace('-', '_')}")
    for name in ("live_table", "run_view", "status_watch"):
        import_module(f"runner.cli.show.{name}")


if __name__ == "__main__":
    main._speak_utf8()
    todo = json.loads(sys.argv[1])
    get_ready({words[0] for words in todo["verbs"]})
    answer = {how: [run(words, how) for words in todo["verbs"]] for how in todo["streams"]}
    print(json.dumps(answer))
