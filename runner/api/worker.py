"""The process of one function call: ``python -m runner.api.worker "SHA256 NAME.call"``.

SHA256 is empty where only the call's own header tells it, as for the elements of an array. Reads a
call, runs it, and leaves its result or its exception in the file NAME.result.ATTEMPT, which is
there as a whole or not at all. Exits 0 after a result, 1 after an exception, 3 where the call can't
be read here; then the message is in NAME.result.ATTEMPT.refused.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

from runner.api.job_errors import PayloadError
from runner.api.payload import (
    CALL,
    ERROR,
    RESULT,
    PickledPayload,
    pickled,
    read_payload,
    round_trip,
    write_payload,
)
from runner.api.unpicklable import describe_part
from runner.files import replace_file
from runner.model.call_names import REFUSED_SUFFIX

RAISED = 1
REFUSED = 3

Raised = tuple[BaseException | None, str, str]
"""An exception, or None if it can't travel; its type's name and text; its traceback."""


def main(arguments: list[str]) -> int:
    """Run the call. The exit status is the process's."""
    sha256, _, call = arguments[0].partition(" ")
    attempt = os.environ.get("JOB_ATTEMPT", "1")
    where = Path(f"{call.removesuffix('.call')}.result.{attempt}")
    try:
        payload = read_payload(Path(call), (CALL,), sha256 or None)
    except (PayloadError, OSError) as error:
        return refuse(where, str(error))
    return run_call(payload, where)


def run_call(payload: PickledPayload, where: Path) -> int:
    """Call the function, and leave what it gave in a file; the exit status of the process."""
    sys.path[:0] = [each for each in payload.header.path if each not in sys.path]
    try:
        function, args, kwargs = payload.load()
    except BaseException as error:
        _store_error(where, error)
        return RAISED
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        _store_error(where, error)
        return RAISED
    try:
        body = pickled(value)
    except Exception as error:
        what = describe_part(value, pickled)
        told = PayloadError(f"the result can't be pickled: {what}: {error}")
        told.__cause__ = error
        _store_error(where, told)
        return RAISED
    except BaseException as error:  # an object may call sys.exit as it is pickled
        _store_error(where, error)
        return RAISED
    write_payload(where, RESULT, body)
    return 0


def _store_error(where: Path, error: BaseException) -> None:
    """The exception as it is, if it can be read again; else what it says."""
    text = "".join(traceback.format_exception(_without_own_frames(error)))
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    told = f"{name}: {_text_of(error)}"
    raised: Raised = (error, told, text)
    try:
        body = round_trip(raised)
    except Exception:
        body = pickled((None, told, text))
    write_payload(where, ERROR, body)
    print(text, file=sys.stderr, end="")


def _without_own_frames(error: BaseException) -> BaseException:
    """The traceback begins in the user's function, if it came that far."""
    frames = error.__traceback__
    if frames is not None and frames.tb_next is not None:
        return error.with_traceback(frames.tb_next)
    return error


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text can't be shown)"


def refuse(where: Path, message: str) -> int:
    """The call can't be read here: leave why; the exit status of the process."""
    print(message, file=sys.stderr)
    replace_file(Path(f"{where}{REFUSED_SUFFIX}"), [message.encode("utf-8", "replace")])
    return REFUSED


def _end(status: int) -> Any:
    """Leave as any Python program does: exit handlers run, output is flushed."""
    sys.exit(status)


if __name__ == "__main__":
    _end(main(sys.argv[1:]))
