"""A queue of 100,000 jobs beside a small one: nobody who asks of the small one waits for it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from world import World, connect

JOBS = 100_000
WITHIN = 1.0
"""Seconds that another queue may hold up an answer, on a machine that has other work: a thread that
computes may lose its processor before it gives way. On one that has none it is 0.05; see what is
printed. What isn't done beside takes two to ten seconds."""

ECHO = """
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
while True:
    client, _ = server.accept()
    client.sendall(client.recv(100))
    client.close()
"""


@dataclass
class Metronome:
    """Asks of the small queue all the time, and each time something else that does no work: where
    that is slow, the machine is."""

    world: World
    echo: Path
    waits: list[tuple[float, float]] = field(default_factory=list)
    failed: list[BaseException] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            while not self.stopped.wait(0.004):
                began = time.monotonic()
                self._say(self.echo)
                echoed = time.monotonic()
                self.world.ask("status", queue="small")
                self.waits.append((time.monotonic() - echoed, echoed - began))
        except BaseException as error:
            self.failed.append(error)

    def _say(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"tick")
            assert client.recv(100) == b"tick"

    def during(self, do: Callable[[], Any]) -> tuple[float, float]:
        """The longest wait for the daemon, and for the other, while this is done."""
        first = len(self.waits)
        do()
        deadline = time.monotonic() + 30
        while len(self.waits) < first + 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not self.failed, self.failed
        asked = self.waits[first:]
        return max(wait for wait, _ in asked), max(echo for _, echo in asked)


@pytest.fixture
def metronome(world: World, tmp_path: Path) -> Iterator[Metronome]:
    path = tmp_path / "echo"
    echo = subprocess.Popen([sys.executable, "-c", ECHO, str(path)])
    beat = Metronome(world, path)
    thread = threading.Thread(target=beat.run)
    try:
        world.until(path.exists)
        yield beat
    finally:
        beat.stopped.set()
        if thread.ident:
            thread.join()
        echo.kill()
        echo.wait()


def test_a_huge_queue_holds_up_no_answer(
    world: World, metronome: Metronome, scaled: Callable[[int], int]
) -> None:
    """Whoever watches a small queue would see it stand still for seconds, and its next job would
    start as late."""
    with world.config.open("a") as config:
        config.write("max_parallel_queues = 2\n")
    world.daemon()
    wait = "until [ -e over ]; do sleep 0.2; done"
    world.document({"job_id": "a", "command": wait, "timeout": "1h"}, name="small")
    jobs = [
        {"job_id": f"j{number}", "command": wait, "timeout": "1h"} for number in range(scaled(JOBS))
    ]
    world.document(*jobs, name="big", on_failure="continue")
    assert world.call("submit", "small.json").returncode == 0
    document = (world.home / "big.json").read_text()

    def ask(request: str, **fields: Any) -> dict[str, Any]:
        with connect(world.run_dir / "runner.sock", 120) as client, client.makefile("rb") as lines:
            client.sendall(json.dumps({"v": 1, "request": request, **fields}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(lines.readline())
            assert answer.get("ok", True), answer
            return answer

    def runs(queue: str) -> bool:
        return bool(ask("status", queue=queue)["jobs"][0]["status"] == "running")

    world.until(lambda: runs("small"))

    def submit() -> None:
        ask("submit", document=document)
        world.until(lambda: runs("big"))

    thread = threading.Thread(target=metronome.run)
    thread.start()
    try:
        steps: dict[str, Callable[[], Any]] = {
            "submit": submit,
            "status": lambda: ask("status", queue="big"),
            "pause": lambda: ask("pause", queue="big"),
            "unpause": lambda: ask("unpause", queue="big"),
            "cancel one": lambda: ask("cancel", queue="big", jobs=["j5"]),
            "cancel a running one": lambda: ask("cancel", queue="big", jobs=["j0"]),
            "retry": lambda: ask("retry", queue="big", jobs=["j5"]),
            "cancel all": lambda: ask("cancel", queue="big"),
            "end": lambda: ask("wait", queue="big"),
        }
        waits = {name: metronome.during(do) for name, do in steps.items()}
    finally:
        metronome.stopped.set()
        thread.join()
    for name, (longest, echo) in waits.items():
        print(f"{name}: at most {1000 * longest:.0f} ms, the echo {1000 * echo:.0f} ms")
    late = {name: told for name, told in waits.items() if told[0] > WITHIN + 10 * told[1]}
    assert not late, late
