"""The server and its clients, without a queue behind them."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from world import connect

from runner.control import server, server_connection
from runner.control.client import Client
from runner.control.protocol import Peer
from runner.control.server import Server
from runner.errors import (
    LockedError,
    NotFoundError,
    SilentError,
    StateError,
    UnreachableError,
    UsageError,
)

Message = dict[str, Any]


async def echo(message: Message, peer: Peer) -> Message:
    """Answers with what was asked, and by whom."""
    match message["request"]:
        case "missing":
            raise NotFoundError("there is none")
        case "broken":
            raise RuntimeError("a secret")
        case "never":
            await asyncio.Event().wait()
        case "large":
            return {"data": "x" * 3_000_000}
    return {"asked": message, "pid": peer.pid, "uid": peer.uid, "may_act": peer.may_act}


@asynccontextmanager
async def listening(path: Path, **options: Any) -> AsyncIterator[Server]:
    """A server at ``path``; one that may be acted through unless said otherwise."""
    made = Server(options.pop("handler", echo), path, **{"mode": 0o660, "may_act": True, **options})
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def with_server(path: Path, talk: Callable[[Server], Awaitable[None]], **options: Any) -> None:
    """Run ``talk`` beside a server."""

    async def both() -> None:
        async with listening(path, **options) as made:
            await talk(made)

    asyncio.run(both())


def in_thread(path: Path, use: Callable[[Client], Any], **options: Any) -> Any:
    """What ``use`` makes of a client, in a thread beside a server."""
    found: list[Any] = []

    async def talk(made: Server) -> None:
        def client() -> None:
            with Client(path, 5.0) as opened:
                found.append(use(opened))

        await asyncio.to_thread(client)

    with_server(path, talk, **options)
    return found[0]


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Streams]:
    """A plain connection."""
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


def asked(line: bytes) -> Message:
    """The request that an answer of ``echo`` repeats."""
    found: Message = json.loads(line)["asked"]
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


def test_the_client_gets_what_the_handler_answers(path: Path) -> None:
    """No verb could be carried out by the process that has the queue."""
    answer = in_thread(path, lambda client: client.ask("ping", a=[1], b=None))
    assert answer["asked"] == {"v": 1, "request": "ping", "a": [1]}
    assert (answer["pid"], answer["uid"], answer["may_act"]) == (os.getpid(), os.getuid(), True)


def test_a_refusal_reaches_the_client_with_its_exit_code(path: Path) -> None:
    """`runner logs nobody` would not end with 102 where a daemon is."""
    with pytest.raises(Exception, match="there is none") as caught:
        in_thread(path, lambda client: client.ask("missing"))
    assert caught.value.exit_code == 102  # type: ignore[attr-defined]


def test_a_bug_in_a_handler_is_an_answer_and_says_nothing_of_the_inside(path: Path) -> None:
    """One request that fails would take the client, or a secret, with it."""
    problems: list[dict[str, Any]] = []

    async def talk(made: Server) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: problems.append(told))
        async with opened(path) as (reader, writer):
            writer.write(b'{"request":"broken"}\n{"request":"ping"}\n')
            told = json.loads(await reader.readline())["error"]
            assert told["message"] == "internal error: RuntimeError"
            assert json.loads(await reader.readline())["ok"]

    with_server(path, talk)
    assert str(problems[0]["exception"]) == "a secret"


def test_the_looking_socket_says_so_of_its_clients(path: Path) -> None:
    """Whoever may only look could act."""
    assert in_thread(path, lambda c: c.ask("ping"), may_act=False)["may_act"] is False


def test_only_the_named_users_are_answered(path: Path) -> None:
    """A stranger in the primary group of a user could act as that user."""
    with pytest.raises(Exception, match="may not ask here"):
        in_thread(path, lambda c: c.ask("ping"), uids={12345})
    assert in_thread(path, lambda c: c.ask("ping"), uids={os.getuid()})["ok"]


@pytest.mark.parametrize("mode", [0o660, 0o666, 0o600])
def test_the_socket_has_its_mode_whatever_the_umask(path: Path, mode: int) -> None:
    """Others could act, or not even look."""

    async def talk(made: Server) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.listdir(path.parent) == [path.name]

    before = os.umask(0o077)
    try:
        with_server(path, talk, mode=mode)
    finally:
        os.umask(before)


def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    """A state folder deep in a home (108 bytes, unix(7)) would have no `status` of a run."""
    deep = tmp_path / ("d" * 100) / ("e" * 100) / "control.sock"
    assert in_thread(deep, lambda client: client.ask("ping"))["ok"]


def test_a_stale_socket_is_replaced(path: Path) -> None:
    """After a crash the service could not listen any more."""

    async def die() -> None:
        made = Server(echo, path, mode=0o660, may_act=True)
        await made.start()
        made._server.close()  # type: ignore[union-attr]

    asyncio.run(die())
    assert path.is_socket()
    assert in_thread(path, lambda client: client.ask("ping"))["ok"]


def test_a_living_socket_is_not_taken(path: Path) -> None:
    """A second daemon would cut the first one off from its users."""

    async def talk(made: Server) -> None:
        with pytest.raises(LockedError, match=f"process {os.getpid()}"):
            await Server(echo, path, mode=0o660, may_act=True).start()

    with_server(path, talk)


def test_a_socket_that_another_process_made_is_left_to_it(path: Path) -> None:
    """A service that ends late would remove the socket of the next one."""

    async def talk(made: Server) -> None:
        path.unlink()
        path.write_text("another's")

    with_server(path, talk)
    assert path.read_text() == "another's"


def test_a_folder_that_can_not_be_is_an_error_with_its_path(tmp_path: Path) -> None:
    """The daemon would end with a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"file/s\.sock: Not a directory"):
        with_server(tmp_path / "file" / "s.sock", None)  # type: ignore[arg-type]


def test_nobody_there_is_unreachable(path: Path) -> None:
    """`status` could not tell that it has to read the disk."""
    with pytest.raises(UnreachableError, match="no process answers"):
        Client(path)
    with pytest.raises(UnreachableError):
        Client(path / "not" / "there")


def test_a_silent_server_is_told_from_none(path: Path) -> None:
    """A command would wait forever for a service that hangs."""

    def ask(client: Client) -> None:
        client.timeout = 0.2
        client.ask("never")

    with pytest.raises(SilentError, match=r"within 0.2 seconds"):
        in_thread(path, ask)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\n", b"[]\n", b"{}\n", b"\xff\n"])
def test_what_is_no_runner_is_said_so(path: Path, said: bytes) -> None:
    """Another program on that path would make a traceback."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    def ask() -> None:
        with Client(path, 5.0) as client:
            client.ask("ping")

    async def both() -> None:
        async with await asyncio.start_unix_server(greet, path):
            with pytest.raises(UnreachableError, match="is not a runner"):
                await asyncio.to_thread(ask)

    asyncio.run(both())


def test_a_request_that_is_too_long_is_not_even_sent(path: Path) -> None:
    """A user would read of a broken pipe instead of a size."""
    with pytest.raises(UsageError, match=r"has 70 KiB: at most 64 KiB, 64 MiB for a document"):
        in_thread(path, lambda client: client.ask("cancel", jobs=["x" * 72_000]))


def test_an_answer_of_megabytes_arrives_whole(path: Path) -> None:
    """A page of long names would be cut."""
    assert len(in_thread(path, lambda client: client.ask("large"))["data"]) == 3_000_000


def test_long_documents_are_let_through_and_nothing_else(path: Path) -> None:
    """Nobody could submit 10,000 jobs; or anybody could fill the memory."""
    document = b'{"v":1,"request":"submit","again":"fresh","document":"' + b"x" * 300_000 + b'"}\n'

    async def acting(made: Server) -> None:
        async with opened(path) as (reader, writer):
            writer.write(document)
            assert len(asked(await reader.readline())["document"]) == 300_000
            assert not made.long_lines

    async def looking(made: Server) -> None:
        async with opened(path) as (reader, writer):
            writer.write(document)
            assert b"the request is too long" in await reader.readline()

    handler = repeat
    with_server(path, acting, handler=handler)
    with_server(path, looking, handler=handler, may_act=False)


async def repeat(message: Message, peer: Peer) -> Message:
    """Answers with the request, and doesn't care that it is long."""
    return {"asked": message}


def test_a_document_that_is_no_string_is_not_built(path: Path) -> None:
    """Millions of values out of 64 MiB would hold up the queue for seconds."""

    async def talk(made: Server) -> None:
        async with opened(path) as (reader, writer):
            writer.write(b'{"request":"submit","document":{"jobs":[' + b"[]," * 50_000)
            assert b"the request is too long" in await reader.readline()

    with_server(path, talk)


def test_few_large_documents_are_received_at_once(path: Path) -> None:
    """Two thousand clients with 64 MiB each would take the machine down."""

    async def talk(made: Server) -> None:
        begun = b'{"request":"submit","document":"' + b"x" * 100_000
        async with AsyncExitStack() as stack:
            for _ in range(4):
                _, writer = await stack.enter_async_context(opened(path))
                writer.write(begun)
            await until(lambda: len(made.long_lines) == 4)
            reader, writer = await stack.enter_async_context(opened(path))
            writer.write(begun)
            assert b"too many large documents" in await reader.readline()
        await until(lambda: not made.long_lines)

    with_server(path, talk)


def test_requests_in_one_piece_are_answered_in_order(path: Path) -> None:
    """A client that pipelines would lose answers."""

    async def talk(made: Server) -> None:
        async with opened(path) as (reader, writer):
            writer.write(b"".join(b'{"request":"%d"}\n' % n for n in range(2000)))
            writer.write_eof()
            answers = (await reader.read()).splitlines()
        assert [asked(answer)["request"] for answer in answers] == [str(n) for n in range(2000)]

    with_server(path, talk)


def test_a_request_without_a_newline_is_answered_at_the_end(path: Path) -> None:
    """`printf '{"request":"ping"}' | nc -UN` would say nothing."""

    async def talk(made: Server) -> None:
        async with opened(path) as (reader, writer):
            writer.write(b'{"request":"ping"}')
            writer.write_eof()
            assert asked(await reader.read()) == {"request": "ping"}

    with_server(path, talk)


def test_a_client_that_has_gone_leaves_nothing(path: Path) -> None:
    """Each `wait` that was interrupted would keep a task and a descriptor."""

    async def talk(made: Server) -> None:
        async with opened(path) as (_, writer):
            writer.write(b'{"request":"never"}\n')
            await until(lambda: len(made.clients) == 1)
        await until(lambda: not made.clients)
        assert len(asyncio.all_tasks()) == 1

    with_server(path, talk)


async def until(true: Callable[[], bool]) -> None:
    """Give the loop time until it is true."""
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


def test_a_silent_and_a_slow_client_are_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descriptors would be gone one day, with nobody to see."""
    monkeypatch.setattr(server_connection, "IDLE_LIMIT", 0.2)
    monkeypatch.setattr(server_connection, "LINE_LIMIT_SECONDS", 0.1)

    async def talk(made: Server) -> None:
        async with opened(path) as (silent, _), opened(path) as (slow, writer):
            writer.write(b'{"request":')
            assert await slow.read() == b"" and await silent.read() == b""
        await until(lambda: not made.clients)

    with_server(path, talk)


def test_a_client_that_never_reads_is_dropped_and_bounded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client could make the daemon keep megabytes for ever."""
    monkeypatch.setattr(server_connection, "IDLE_LIMIT", 0.3)
    questions = []

    async def handler(message: Message, peer: Peer) -> Message:
        questions.append(1)
        return {"data": "x" * 100_000}

    async def talk(made: Server) -> None:
        with connect(path) as client:
            client.setblocking(False)
            client.send(b'{"request":"large"}\n' * 500)
            await until(lambda: bool(made.clients))
            await until(lambda: not made.clients)
        assert 0 < len(questions) < 20

    with_server(path, talk, handler=handler)


def test_there_is_an_end_to_clients(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients could take every descriptor, and no job could be started."""
    monkeypatch.setattr(server, "MAX_CLIENTS", 3)

    async def talk(made: Server) -> None:
        async with AsyncExitStack() as stack:
            there = [await stack.enter_async_context(opened(path)) for _ in range(3)]
            await until(lambda: len(made.clients) == 3)
            async with opened(path) as (reader, _):
                assert b"too many clients" in await reader.read()
            there[0][1].close()
            await until(lambda: len(made.clients) == 2)
            async with opened(path) as (reader, writer):
                writer.write(b'{"request":"ping"}\n')
                assert asked(await reader.readline())

    with_server(path, talk)


@pytest.mark.parametrize("turns", range(5))
def test_who_comes_as_we_close_is_dropped(path: Path, turns: int) -> None:
    """A client of the last moment would hang until the process ends."""

    async def talk(made: Server) -> None:
        with connect(path) as client:
            for _ in range(turns):
                await asyncio.sleep(0)
            await made.close()
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                # It had not even been let in.
                pass
            assert not made.clients

    with_server(path, talk)


def test_who_has_us_close_is_answered(path: Path) -> None:
    """`runner stop` would fail, and the service stop all the same."""
    told = asyncio.Event()

    async def stop(message: Message, peer: Peer) -> Message:
        async def act() -> Message:
            told.set()
            return {"stopping": True}

        return await asyncio.shield(asyncio.ensure_future(act()))

    async def talk(made: Server) -> None:
        async with opened(path) as (reader, writer):
            writer.write(b'{"request":"stop"}\n')
            await told.wait()
            await made.close()
            assert json.loads(await reader.readline())["stopping"] is True

    with_server(path, talk, handler=stop)


def test_what_a_killed_start_has_left_is_removed(tmp_path: Path) -> None:
    """Each kill between the socket and its name would leave a file for ever."""
    (tmp_path / ".s.sock.new").touch()

    async def look(made: Server) -> None:
        assert os.listdir(tmp_path) == ["s.sock"]

    with_server(tmp_path / "s.sock", look)
