"""Rude clients of a real daemon that works on a queue meanwhile, and is not to notice them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pauses import Pauses
from world import World, connect, talk

from runner.control.protocol import Peer, decode_request
from runner.errors import RunnerError, UsageError
from runner.model.settings import Settings
from runner.service import request_table
from runner.service.offline import _Resting
from runner.service.queue_repository import QueueRepository

MIB = 1 << 20
LONGEST_GAP = 1.0
"""Seconds between the end of a job and the start of the next one; some 10 ms when all is quiet."""
STEPS = 3
"""What in a gap a busy machine may hold up: the end is seen, it is stored, the next one begins."""

ODD: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        1.5,
        2**70,
        float("nan"),
        float("inf"),
        "",
        "nope",
        "../..",
        "a\0b",
        "\ud800",
    ),
    *("x" * 5000, [], [1], [None], ["nope"], [["a"]], {}, {"a": 1}),
]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A daemon in the middle of a long chain of short jobs, and a queue behind it."""
    world = World(tmp_path_factory.mktemp("busy"))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # noqa: E731
    daemon = world.daemon(preexec_fn=few)
    jobs: list[dict[str, Any]] = [
        {"job_id": f"j{n}", "command": "sleep 0.02; : sekrit", "timeout": "1m"} for n in range(5000)
    ]
    jobs[0]["env"] = {"TOKEN": "sekrit"}
    world.call("submit", world.document(*jobs, name="busy", env={"PASSWORD": "sekrit"}))
    world.call("submit", world.document(jobs[0], name="behind"))
    world.until(lambda: progress(world) > 3)
    yield world
    assert daemon.poll() is None
    world.call("cancel", "--all", "--queue", "behind")
    world.call("cancel", "--all", "--queue", "busy")
    world.close()


@pytest.fixture(scope="module")
def pauses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pauses]:
    measured = Pauses(tmp_path_factory.mktemp("pauses"))
    yield measured
    measured.close()


@pytest.fixture
def undisturbed(busy: World, pauses: Pauses) -> Iterator[World]:
    """The busy world; afterwards its queue has gone on, at its pace, and somebody answers."""
    began, before = time.time(), progress(busy)
    yield busy
    busy.until(lambda: progress(busy) > before + 3)
    assert busy.ask("ping")["ok"]
    gap, pause = max(spacing(busy, before)), pauses.longest(began)
    told = f"up to {gap:.3f} s between two jobs, while the machine paused for {pause:.3f} s at most"
    assert gap < LONGEST_GAP + STEPS * pause, told


def progress(world: World) -> int:
    return int(world.ask("status", limit=0, queue="busy")["queue"]["counts"]["completed"])


def spacing(world: World, first: int) -> list[float]:
    """Seconds between each job's end and the next one's start."""
    page = world.ask("status", queue="busy", after=first, status=["completed"])["jobs"]
    ends = [datetime.fromisoformat(job["completed_at"]).timestamp() for job in page]
    starts = [datetime.fromisoformat(job["started_at"]).timestamp() for job in page]
    return [start - end for end, start in zip(ends, starts[1:], strict=False)]


def socket_of(world: World) -> Path:
    return world.run_dir / "runner.sock"


def memory(world: World, field: str = "VmRSS") -> float:
    """The daemon's memory in MiB (proc(5))."""
    pid = world.ask("ping")["pid"]
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


def refusal(client: socket.socket) -> str:
    """The message of the error answer, after whatever the other end took of what was sent."""
    received = b""
    try:
        while chunk := client.recv(1 << 16):
            received += chunk
    except ConnectionResetError:
        pass
    answer = json.loads(received.splitlines()[-1])
    assert answer["ok"] is False
    return str(answer["error"]["message"])


def pour(client: socket.socket, head: bytes, size: int) -> int:
    """Send a line that is ``size`` bytes long, or as much of it as the other end takes."""
    sent = client.send(head)
    piece = b"x" * MIB
    try:
        while sent < size:
            sent += client.send(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return sent


def test_a_line_of_100_mib_is_refused_without_being_kept(undisturbed: World) -> None:
    """Any user of the machine could fill the daemon's memory."""
    before = memory(undisturbed, "VmHWM")
    for name in ("runner.sock", "runner-ro.sock"):
        with connect(undisturbed.run_dir / name) as client:
            assert pour(client, b'{"request":"status","queue":"', 100 * MIB) < 2 * MIB
            assert "too long" in refusal(client)
    assert memory(undisturbed, "VmHWM") < before + 4


def test_a_document_of_more_than_64_mib_is_refused(undisturbed: World) -> None:
    """A submit could take all memory, or a large one be refused."""
    before = memory(undisturbed)
    with connect(socket_of(undisturbed)) as client:
        sent = pour(client, b'{"v":1,"request":"submit","document":"', 100 * MIB)
        assert 63 * MIB < sent < 67 * MIB
        assert "64 MiB" in refusal(client)
    undisturbed.until(lambda: memory(undisturbed) < before + 16)


def test_a_document_of_megabytes_is_taken(undisturbed: World) -> None:
    """A queue of 10,000 jobs could not be submitted while another runs."""
    jobs = [{"job_id": f"j{n}", "command": "true", "timeout": "1m"} for n in range(10_000)]
    large = undisturbed.document(*jobs, name="large")
    assert undisturbed.call("submit", large).stdout == "large submitted\n"
    assert undisturbed.call("cancel", "--all", "--queue", "large").returncode == 0


def test_bytes_one_by_one_make_a_request(undisturbed: World) -> None:
    """A slow line would be taken for a bad one."""
    with connect(socket_of(undisturbed)) as client:
        for byte in b'{"v":1,"request":"ping"}\n':
            client.send(bytes([byte]))
        assert json.loads(client.makefile("rb").readline())["ok"]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"hello\n",
        b'{"request":\n',
        bytes(range(256)).replace(b"\n", b"") + b"\n",
        os.urandom(5000).replace(b"\n", b"") + b"\n",
        b"[" * 60_000 + b"\n",
        b'{"request":"ping","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}\n",
        b'{"a":' * 10_000 + b"\n",
        b"1" * 60_000 + b"\n",
        b'{"request":"ping","v":' + b"9" * 60_000 + b"}\n",
        b'{"request":"wait","timeout":NaN}\n',
        b'"' + b"\\ud800" * 5000 + b'"\n',
        b"GET / HTTP/1.1\r\n",
        b'{"request":"\xff"}\n',
        b'[{"request":"ping"}]\n',
        b"null\n",
    ],
)
def test_rubbish_is_answered_with_an_error(undisturbed: World, line: bytes) -> None:
    """A malformed line would end the connection, or more, without a word."""
    with connect(socket_of(undisturbed)) as client, client.makefile("rb") as lines:
        client.sendall(line + b'{"request":"ping"}\n')
        told = json.loads(lines.readline())
        assert told["ok"] is False and told["error"]["exit_code"] == 2
        assert "internal" not in told["error"]["message"]
        assert json.loads(lines.readline())["ok"], "the connection goes on"


@pytest.mark.parametrize("name", sorted(request_table.FIELDS))
def test_no_field_of_a_wrong_type_does_harm(undisturbed: World, name: str) -> None:
    """A number where a word belongs would be an accident inside."""
    # What acts must find no queue: some of these values are none at all.
    safe = {"queue": "nope"} if name in request_table.ACTING - {"submit", "stop"} else {}
    with connect(socket_of(undisturbed)) as client, client.makefile("rb") as lines:
        for field in sorted(request_table.FIELDS[name] | {"v", "unknown"}):
            for value in ODD:
                if value in (None, True) and (name == "stop" or field in ("queue", "timeout")):
                    # These mean the current queue, the whole service, a long time.
                    continue
                asked = {"request": name, "limit": 1} if name == "status" else {"request": name}
                if name == "wait":
                    asked["timeout"] = 0  # type: ignore[assignment]
                client.sendall(json.dumps({**asked, **safe, field: value}).encode() + b"\n")
                told = json.loads(lines.readline())
                if not told["ok"]:
                    assert "internal" not in told["error"]["message"], (field, value, told)
                    assert told["error"]["exit_code"] in (2, 102), (field, value, told)


def test_unknown_words_are_named_with_the_nearest(undisturbed: World) -> None:
    """A typo would be ignored, and the user believe that it was heard."""
    path = socket_of(undisturbed)
    assert "unknown request" in talk(path, {"request": "x\x1b[2Jy"})["error"]["message"]
    assert '"status"' in talk(path, {"request": "statsu"})["error"]["message"]
    assert '"limit"' in talk(path, {"request": "status", "limt": 1})["error"]["message"]
    assert "\x1b" not in json.dumps(talk(path, {"request": "\x1b"}), ensure_ascii=False)


def test_clients_that_never_read_hold_nobody_up(undisturbed: World) -> None:
    """A program that hangs in the middle of its own work would hang the daemon."""
    before = memory(undisturbed)
    with ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(connect(socket_of(undisturbed)))
            client.setblocking(False)
            client.send(b'{"request":"status"}\n' * 1000)
        answered = progress(undisturbed)
        undisturbed.until(lambda: progress(undisturbed) > answered + 3)
        assert memory(undisturbed) < before + 50


def test_a_thousand_idle_clients_are_nothing(undisturbed: World) -> None:
    """A fleet that watches its machine would stop it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        with ExitStack() as stack:
            path = undisturbed.run_dir / "runner-ro.sock"
            clients = [stack.enter_context(connect(path)) for _ in range(1000)]
            for client in clients[::100]:
                client.sendall(b'{"request":"ping"}\n')
                assert json.loads(client.makefile("rb").readline())["ok"]
            begun = progress(undisturbed)
            undisturbed.until(lambda: progress(undisturbed) > begun + 10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_clients_that_vanish_in_the_middle_of_a_wait_leave_nothing(undisturbed: World) -> None:
    """Each Ctrl-C of a `wait` would keep a descriptor of the daemon."""
    pid = undisturbed.ask("ping")["pid"]
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for queue in ("busy", "behind"):
        for _ in range(40):
            with connect(socket_of(undisturbed)) as client:
                client.sendall(b'{"request":"wait","queue":"%s"}\n' % queue.encode())
    undisturbed.until(lambda: len(os.listdir(f"/proc/{pid}/fd")) < before + 10)


def test_the_looking_socket_refuses_what_acts(undisturbed: World) -> None:
    """Everybody on the machine could cancel everybody's work."""
    path = undisturbed.run_dir / "runner-ro.sock"
    assert (path.stat().st_mode & 0o777, socket_of(undisturbed).stat().st_mode & 0o777) == (
        0o666,
        0o660,
    )
    for name in sorted(request_table.ACTING):
        told = talk(path, {"request": name, "document": "{}"})
        assert told["error"]["exit_code"] == 1 and "permission denied" in told["error"]["message"]
    assert talk(path, {"request": "status", "limit": 1})["ok"]


def test_no_look_shows_a_command_or_a_value_of_the_environment(undisturbed: World) -> None:
    """Everybody on the machine could read everybody's secrets."""
    path = undisturbed.run_dir / "runner-ro.sock"
    for queue in ("busy", "behind"):
        for asked in (
            {"request": "status", "queue": queue},
            {"request": "job", "queue": queue, "job": "j0"},
            {"request": "queues"},
            {"request": "wait", "queue": queue, "timeout": 0},
            {"request": "ping"},
        ):
            assert "sekrit" not in json.dumps(talk(path, asked))


def test_who_acted_is_in_the_log(undisturbed: World) -> None:
    """Nobody could tell who cancelled a queue in the night."""
    assert undisturbed.ask("pause", queue="behind")["ok"]
    assert undisturbed.ask("unpause", queue="behind")["ok"]
    told = rf"request=pause uid={os.getuid()} peer_pid={os.getpid()}\b"
    undisturbed.until(lambda: re.search(told, undisturbed.stderr))


def test_a_client_that_goes_leaves_no_half_of_what_it_asked_for(undisturbed: World) -> None:
    """A Ctrl-C during `submit --fresh` could leave a queue between its two lives."""
    text = (undisturbed.home / "behind.json").read_text()
    for again in ("resume", "fresh", "fresh"):
        line = {"v": 1, "request": "submit", "again": again, "document": text}
        with connect(socket_of(undisturbed)) as client:
            client.sendall(json.dumps(line).encode() + b"\n")
    asides = "behind.*"
    queues = undisturbed.state / "queues"
    undisturbed.until(lambda: len(list(queues.glob(asides))) == 2)
    undisturbed.until(lambda: undisturbed.ask("status", queue="behind", limit=0)["ok"])


# -- request decoding, at random -----------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.sampled_from(sorted(request_table.FIELDS))
words = st.sampled_from(sorted(set().union(*request_table.FIELDS.values())))


@given(st.binary(max_size=300) | values.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_a_request_or_a_usage_error(line: bytes) -> None:
    """Some line that nobody thought of would be an accident inside."""
    try:
        found = decode_request(line)
    except UsageError:
        return
    assert isinstance(found["request"], str) and found.get("v", 1) == 1


@given(names, st.dictionaries(words, values, max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_fields_are_answered_or_refused(name: str, fields: dict[str, Any]) -> None:
    """Some value that nobody thought of would be an accident inside."""
    nowhere = Path("/nowhere/at/all")
    host = _Resting(QueueRepository(nowhere, nowhere), Settings(nowhere, nowhere, nowhere, nowhere))

    async def ask() -> None:
        try:
            answer = await request_table.answer(host, {"request": name, **fields}, Peer(1, 0, True))
        except RunnerError:
            return
        assert isinstance(answer, dict)

    try:
        asyncio.run(ask())
    finally:
        host.throttle.close()
