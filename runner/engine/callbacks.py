"""What a callback of an engine raises ends that engine's session, and nothing else.

A callback has no caller: asyncio would log the exception, and the queue wait for ever for what the
callback did not do. Owns how the engine that a callback belongs to is found: by the context that
the callback runs in, which is handed on to every timer, task and callback made in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

Failed = Callable[[Exception], bool]
"""Takes what a callback raised; whether that was of any use."""

_failed: ContextVar[Failed | None] = ContextVar("failed", default=None)


def owned(loop: asyncio.AbstractEventLoop, failed: Failed) -> Context:
    """A context for an engine's callbacks: ``failed`` is told what any of them raises."""
    loop.set_exception_handler(_handle)
    context = copy_context()
    context.run(_failed.set, failed)
    return context


def _handle(loop: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
    error, failed = about.get("exception"), _owner(about)
    if not (isinstance(error, Exception) and failed is not None and failed(error)):
        loop.default_exception_handler(about)


def _owner(about: dict[str, Any]) -> Failed | None:
    """Python 3.12 calls the handler in the handle's context; before, only the handle knows it.

    A future that is freed with its exception is told of in whichever context runs then: only a
    task's own says whose it was.
    """
    future = about.get("future")
    if future is not None and not isinstance(future, asyncio.Task):
        return None
    context = getattr(about.get("handle"), "_context", None)
    if context is None and future is not None and hasattr(future, "get_context"):
        context = future.get_context()
    return context.get(_failed) if isinstance(context, Context) else _failed.get()
