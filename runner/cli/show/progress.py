"""A bar of bytes for who waits at a terminal; nothing at all for anybody else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runner.cli.show.terminal import can_redraw


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None]]:
    """Called with how many bytes more there are to be had, and how many are done."""
    if not can_redraw(sys.stderr):
        yield lambda planned, done: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from runner.cli.show.console import Console

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=0)
        total = 0

        def advance(planned: int, done: int) -> None:
            nonlocal total
            total += planned
            bar.update(task, total=total, advance=done)

        yield advance
