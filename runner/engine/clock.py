"""What time it is for an engine: its loop's, so that a simulated one has a time of its own."""

from __future__ import annotations

import asyncio
import time

from runner.core import events as ev
from runner.engine.virtual_time import VirtualLoop


def now() -> ev.Now:
    """The moment, as events carry it. Called on a loop."""
    loop = asyncio.get_running_loop()
    wall = loop.wall() if isinstance(loop, VirtualLoop) else time.time()
    return ev.Now(wall, loop.time())
