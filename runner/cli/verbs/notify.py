"""Show who is told when a queue ends: the targets of the settings, and of a document if one is
given. `--test` sends each of them a test notice, and says what came back."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import TYPE_CHECKING, Any

from runner.cli import options
from runner.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from runner.model.document import QueueSpec
    from runner.model.notify import NotifySpec
    from runner.model.settings import Settings
    from runner.service.notices.delivery import Attempt


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("document", nargs="?", metavar="QUEUE.json", help="a queue document")
    parser.add_argument(
        "--test", action="store_true", help="send a test notice to each target, and wait for it"
    )
    parser.add_argument(
        "--to",
        metavar="TARGET",
        help="only this one: as it is shown, or as the document or the settings name it",
    )
    options.add_json(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.model.notify import joined

    settings = options.settings(arguments)
    document = None if arguments.document is None else _document(arguments)
    targets = joined(() if document is None else document.notify, settings.notify)
    if arguments.to is not None:
        targets = tuple(t for t in targets if arguments.to in (t.to, t.label))
        if not targets:
            raise UsageError(
                "--to: no such target is in the document or the settings; `runner notify` lists "
                "them"
            )
    if not targets:
        where = "" if document is not None else ", and no document is given"
        raise UsageError(
            f'nobody is told: there is no "notify" in the settings{where} (see `runner schema`)'
        )
    if arguments.test:
        return _test(arguments, document, settings, targets)
    if arguments.json:
        print(json.dumps([_described(target) for target in targets]))
        return ExitCode.DONE
    for target in targets:
        after = f" after {_described(target)['stuck_after']}" if target.stuck_after else ""
        print(f"{target.label}  {', '.join(target.on)}{after}")
    return ExitCode.DONE


def _document(arguments: argparse.Namespace) -> QueueSpec:
    from pathlib import Path

    from runner.model.document import read_document

    return read_document(Path(arguments.document), now=time.time())


def _described(target: NotifySpec) -> dict[str, Any]:
    from runner.model.durations import format_duration

    told: dict[str, Any] = {"to": target.label, "on": list(target.on)}
    if target.stuck_after is not None:
        told["stuck_after"] = format_duration(target.stuck_after)
    return told


def _test(
    arguments: argparse.Namespace,
    document: QueueSpec | None,
    settings: Settings,
    targets: tuple[NotifySpec, ...],
) -> int:
    from runner.cli.show.text import clean

    done = True
    for target, attempt in zip(targets, _tried(document, settings, targets), strict=True):
        done = done and attempt.error is None
        if arguments.json:
            told = {"to": target.label, "ok": attempt.error is None}
            print(json.dumps({**told, "answer": attempt.error or attempt.told}))
        else:
            word = "told" if attempt.error is None else "not told"
            print(clean(f"{target.label}  {word}: {attempt.error or attempt.told}"))
    return ExitCode.DONE if done else ExitCode.ERROR


def _tried(
    document: QueueSpec | None, settings: Settings, targets: tuple[NotifySpec, ...]
) -> list[Attempt]:
    """What came of a test notice to each of them, all at once."""
    import secrets
    from functools import partial

    from runner.aws.timeouts import together
    from runner.core.notice_forms import TEST, Message
    from runner.core.states import NoticeState
    from runner.service.environment import callers
    from runner.service.job_user import job_user
    from runner.service.notices.delivery import TRY, Attempt, Sender

    # A program runs with the rights that the daemon would give it.
    rights = job_user(settings).rights if os.geteuid() == 0 and settings.job_user else None
    sender = Sender(callers(os.environ), lambda: rights)
    queue_id = "test" if document is None or document.queue_id is None else document.queue_id
    name = "test" if document is None else document.queue_name
    messages = [
        Message(
            NoticeState(secrets.token_hex(16), TEST, target.label, time.time()), queue_id, name, ""
        )
        for target in targets
    ]
    asked = [
        partial(sender.deliver, target.to, message)
        for target, message in zip(targets, messages, strict=True)
    ]
    return [
        Attempt(error=str(answer)) if isinstance(answer, Exception) else answer
        for answer in together(asked, TRY + 1.0)
    ]
