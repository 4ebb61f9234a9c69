"""Verbs that have verbs of their own, a module each: `runner batch submit`, `runner schedule ls`.

Owns what is advised when AWS refuses one of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module

from runner.cli.parser import Parser
from runner.errors import RunnerError

LOGIN = "`aws sts get-caller-identity` says who you are; `aws configure` or `aws sso login` helps"


def add_sub_verbs(
    parser: argparse.ArgumentParser,
    package: str,
    verbs: Mapping[str, str],
    *,
    parser_class: type[Parser] = Parser,
    modules: Mapping[str, str] | None = None,
) -> None:
    """``verbs``: each with what it does. ``modules``: of ``package``, where the name is another."""
    made = parser.add_subparsers(
        dest="subverb", metavar="VERB", required=True, parser_class=parser_class, title="verbs"
    )
    for name, what in verbs.items():
        own = (modules or {}).get(name, name.replace("-", "_"))
        module = import_module(f"{package}.{own}")
        verb = made.add_parser(name, help=what, description=module.__doc__)
        module.configure(verb)
        verb.set_defaults(execute_subverb=module.execute)


def execute_sub_verb(arguments: argparse.Namespace, policy: str) -> int:
    """Its exit code. ``policy``: the command that makes a policy with what people need.

    Raises what the verb does, with advice where AWS knows nobody or refuses.
    """
    from runner.aws.errors import AwsError, ErrorKind

    try:
        return int(arguments.execute_subverb(arguments))
    except AwsError as error:
        if error.kind in (ErrorKind.NO_CREDENTIALS, ErrorKind.EXPIRED):
            raise RunnerError(f"{error}\n{LOGIN}") from error
        if error.kind is ErrorKind.DENIED:
            hint = f"`{policy}` makes a policy with the permissions that people need"
            raise RunnerError(f"{error}\n{hint}") from error
        raise
