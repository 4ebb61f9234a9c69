"""Single jobs on AWS Batch, by verbs: register, submit, look at, wait for and end them, move files.

A job here is one of Batch's own, and not one of a queue document.
"""

from __future__ import annotations

import argparse
from typing import Any

from runner.cli.parser import Parser
from runner.cli.sub_verbs import add_sub_verbs, execute_sub_verb

SUBVERBS = {
    "register": "register a job definition, once for the same content",
    "submit": "submit a job, or an array of jobs; prints its id",
    "status": "show how jobs stand, and why",
    "describe": "show all that is known of jobs",
    "list": "list the jobs of a job queue",
    "logs": "show a job's output",
    "wait": "wait for jobs to end",
    "explain": "say why a job stands as it does, and what to do next",
    "cancel": "cancel jobs that have not begun",
    "terminate": "end jobs, running ones too",
    "retry": "submit failed jobs again",
    "put": "store a file or a folder in S3",
    "get": "fetch a file or a folder from S3",
}

COMMAND = "after_dashes"
"""The attribute that holds the words after ``--``: the job's command."""


class BatchParser(Parser):
    """A parser of one of these verbs. With ``takes_command`` all that follows ``--`` is a command
    and is not looked at; argparse would take its first word for another argument."""

    takes_command = False

    def parse_known_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words, rest = list(args or ()), []
        if self.takes_command and "--" in words:
            at = words.index("--")
            words, rest = words[:at], words[at + 1 :]
        found, left = super().parse_known_args(words, namespace)
        if self.takes_command:
            setattr(found, COMMAND, rest)
        return found, left


def configure(parser: argparse.ArgumentParser) -> None:
    # A module `list` in this package would hide the builtin here.
    other = {"list": "list_jobs"}
    add_sub_verbs(parser, __name__, SUBVERBS, parser_class=BatchParser, modules=other)


def execute(arguments: argparse.Namespace) -> int:
    return execute_sub_verb(arguments, "runner setup --batch")
