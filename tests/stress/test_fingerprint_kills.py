"""SIGKILL at any moment while inputs are looked at: nothing is passed over, and it goes on."""

from __future__ import annotations

import random
import signal
import time

import pytest
from scale import SCALE, SEED
from world import World

FILES = 4000


@pytest.mark.parametrize("number", range(max(3, int(30 * SCALE))))
def test_kills_while_inputs_are_looked_at(world: World, number: int) -> None:
    """A run that was cut off would leave a job out that has to run, or never end."""
    draw = random.Random(f"{SEED}-{number}")
    folder = world.home / "in"
    folder.mkdir()
    for name in range(FILES):
        (folder / f"{name}").write_text(f"{name}\n")
    job = {
        "job_id": "a",
        "timeout": "1m",
        "command": "echo a >> ran; cat in/* | sha256sum > sum",
        "inputs": ["in/*"],
        "result_paths": ["sum"],
    }
    document = world.document(job)
    flags: tuple[str, ...] = ()
    for _ in range(3):
        (folder / f"{draw.randrange(FILES)}").write_text(f"{draw.random()}\n")
        running = world.start("run", document, *flags)
        time.sleep(draw.random() * 1.5)  # the moment of the kill, and not a condition
        running.send_signal(signal.SIGKILL)
        running.wait()
        done = world.call("run", document)
        assert done.returncode == 0, done.stderr
        flags = ("--fresh", "--reuse")
    (world.home / "ran").unlink()
    (folder / "0").write_text("the last change\n")
    assert world.call("run", document, *flags).returncode == 0
    assert (world.home / "ran").read_text() == "a\n"
    made = (world.home / "sum").read_text()
    done = world.call("run", document, *flags)
    assert "a completed reason=unchanged" in done.stdout, done.stdout
    assert (world.home / "sum").read_text() == made
    assert (world.home / "ran").read_text() == "a\n"
