"""Writes the generated parts of the documentation: what stands between two comments in docs/.

    reference.py            write them        reference.py --check    exit 1 if any is out of date

A page says `<!-- generated: NAME -->`, and a block of that name, made from the code, fills it up to
`<!-- end -->`. The words that the code doesn't hold are in docs/reference/words.toml.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
# This repository's own, whichever runner the interpreter has.
sys.path.insert(0, str(REPOSITORY))

from runner.batch.document_check import JOB_TABLE, QUEUE_TABLE  # noqa: E402
from runner.batch.failure_causes import (  # noqa: E402
    CONTAINER,
    EXIT_CODES,
    JOB,
    PULL,
    FailureKind,
)
from runner.batch.monitor import build_parser  # noqa: E402
from runner.batch.waiting import REASONS  # noqa: E402
from runner.cli.main import VERBS, parser_of  # noqa: E402
from runner.cli.verbs.batch import SUBVERBS  # noqa: E402
from runner.cli.verbs.schedule import SUBVERBS as SCHEDULE_SUBVERBS  # noqa: E402
from runner.core.diagram import job_diagram, queue_diagram  # noqa: E402
from runner.core.state_file import StateFile, StateFileArray, StateFileJob  # noqa: E402
from runner.core.states import JobStatus, QueueStatus  # noqa: E402
from runner.errors import ExitCode  # noqa: E402
from runner.fleet.cli.main import parser as fleet_parser  # noqa: E402
from runner.model.batch_settings import BatchSettings  # noqa: E402
from runner.model.durations import format_duration  # noqa: E402
from runner.model.schema import json_schema  # noqa: E402
from runner.model.settings import Settings  # noqa: E402

DOCS = REPOSITORY / "docs"
TEMPLATES = REPOSITORY / "packaging" / "iam"
_BLOCK = re.compile(r"(<!-- generated: ([a-z.-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

Words = Mapping[str, Mapping[str, str]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if outdated")
    check = parser.parse_args().check
    outdated = False
    for page, old, new in rendered():
        if old != new:
            outdated = True
            print(f"{page.relative_to(REPOSITORY)}: {'is out of date' if check else 'written'}")
            if not check:
                page.write_text(new)
    return int(check and outdated)


def rendered() -> Iterator[tuple[Path, str, str]]:
    """Each page with generated parts: its path, its text, and the text it should have."""
    for page in sorted(DOCS.rglob("*.md")):
        old = page.read_text()
        new = _BLOCK.sub(lambda found: f"{found[1]}\n{_made(found[2])}\n\n{found[4]}", old)
        if _BLOCK.search(old):
            yield page, old, new


def _made(name: str) -> str:
    if name not in BLOCKS:
        raise SystemExit(f"there is no generated part '{name}'; there are: {', '.join(BLOCKS)}")
    return BLOCKS[name]().strip("\n")


def words() -> Words:
    """What the code doesn't say about its own names."""
    text = (DOCS / "reference" / "words.toml").read_text()
    found: Words = tomllib.loads(text)
    return found


def described(section: str, names: Iterator[str] | list[str]) -> dict[str, str]:
    """The description of each name. Exits if one is missing, or describes nothing."""
    names = list(names)
    known = words()[section]
    missing = [name for name in names if name not in known]
    extra = [name for name in known if name not in names]
    if missing or extra:
        raise SystemExit(f"words.toml, [{section}]: missing {missing}; nothing has these: {extra}")
    return {name: known[name] for name in names}


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text).replace("\n", " ")


# -- The document: from its JSON Schema.


def _fields_of(part: dict[str, Any]) -> str:
    rows = []
    for name, schema in part["properties"].items():
        if name == "$schema":
            continue
        default = "required" if name in part["required"] else _default(schema.get("default"))
        rows.append([f"`{name}`", _kind(schema), default, schema.get("description", "")])
    return table(["field", "type", "default", "meaning"], rows)


def _default(value: Any) -> str:
    if value is None:
        return "none"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"{schema['$ref'].rpartition('/')[2]}"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if schema.get("multipleOf"):
        return f"number, {schema['minimum']}–{schema['maximum']:,}"
    if "minimum" in schema:
        return f"{schema['type']}, {schema['minimum']}–{schema['maximum']:,}"
    return str(schema.get("type", "any"))


def _document(name: str) -> Callable[[], str]:
    def made() -> str:
        schema = json_schema()
        return _fields_of(schema if name == "queue" else schema["$defs"][name])

    return made


def _refused_by_batch() -> str:
    """The fields that AWS Batch does not honour, from the tables that documents are checked by."""
    why: dict[str, list[str]] = {}
    for whose, fields_of in (("queue", QUEUE_TABLE), ("job", JOB_TABLE)):
        for name, told in fields_of.items():
            if told:
                why.setdefault(name, [told]).append(whose)
    rows = [[f"`{name}`", ", ".join(of), told] for name, (told, *of) in why.items()]
    return table(["field", "of", "why it is refused"], rows)


# -- The command line: from the parsers.


def _verbs() -> str:
    rows = [[f"[`{verb}`](#runner-{verb})", what] for verb, what in VERBS.items()]
    return table(["verb", "what it does"], rows)


def _command_line() -> str:
    return "\n\n".join(_verb(verb) for verb in VERBS)


def _verb(verb: str) -> str:
    parser = parser_of(verb, f"runner {verb}")
    about = " ".join((parser.description or "").split())
    if verb == "completion":
        about = (parser.description or "").strip().partition("\n")[0]
    if (subverbs := subverbs_of(parser)) is not None:
        told = {"batch": SUBVERBS, "schedule": SCHEDULE_SUBVERBS}[verb]
        rows = [[f"[`{name}`](#runner-{verb}-{name})", told[name]] for name in subverbs]
        parts = [f"### runner {verb}", about, table(["verb", "what it does"], rows)]
        return "\n\n".join([*parts, *(_flags(f"{verb} {n}", p, 4) for n, p in subverbs.items())])
    return _flags(verb, parser, 3, about)


def subverbs_of(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser] | None:
    """The parsers of the verbs below a verb, if it has some."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found: Mapping[str, argparse.ArgumentParser] = action.choices
            return found
    return None


def _flags(verb: str, parser: argparse.ArgumentParser, depth: int, about: str = "") -> str:
    about = about or "\n\n".join(
        " ".join(part.split()) for part in (parser.description or "").split("\n\n")
    )
    usage = f"```text\n{_usage(verb, parser)}\n```"
    return "\n\n".join([f"{'#' * depth} runner {verb}", about, usage, *_flag_tables(parser)])


def _fleet(parser: argparse.ArgumentParser | None = None, words: str = "") -> str:
    """Each command of the fleet's, with its arguments and flags."""
    parser = parser or fleet_parser()
    if (below := subverbs_of(parser)) is not None:
        return "\n\n".join(_fleet(each, f"{words} {name}") for name, each in below.items())
    told = [" ".join((parser.description or "").split())] if parser.description else []
    return "\n\n".join([f"### runner-fleet{words}", *told, *_flag_tables(parser)])


def _batch_status() -> str:
    parser = build_parser()
    return "\n\n".join([" ".join((parser.description or "").split()), *_flag_tables(parser)])


def _flag_tables(parser: argparse.ArgumentParser) -> Iterator[str]:
    for group in parser._action_groups:
        rows = [
            [_names(action), (action.help or "").replace("%%", "%")]
            for action in group._group_actions
            if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
        ]
        if rows:
            title = {"positional arguments": "arguments"}.get(group.title or "", group.title or "")
            yield table([title, "meaning"], rows)


def _usage(verb: str, parser: argparse.ArgumentParser) -> str:
    positionals = [a for a in parser._actions if not a.option_strings]
    required = [f"{a.option_strings[-1]} {_metavar(a)}" for a in parser._actions
                if a.option_strings and a.required]  # fmt: skip
    shown = []
    for action in positionals:
        name = _metavar(action)
        repeated = f"{name} …" if action.nargs in ("*", "+") else name
        shown.append(f"[{repeated}]" if action.nargs in ("*", "?") else repeated)
    command = ["[-- COMMAND …]"] if getattr(parser, "takes_command", False) else []
    return " ".join(["runner", verb, *required, "[flags]", *shown, *command])


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_metavar(action)}`"
    value = "" if action.nargs == 0 else f" {_metavar(action)}"
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        value = ""
    return ", ".join(f"`{flag}{value}`" for flag in action.option_strings)


def _metavar(action: argparse.Action) -> str:
    if action.choices is not None and action.metavar is None:
        return "{" + ",".join(str(choice) for choice in action.choices) + "}"
    return str(action.metavar or action.dest.upper())


# -- Settings, the state, exit codes.


def _settings() -> str:
    names = [field.name for field in fields(Settings)]
    names = [name for name in names if name not in ("config_file", "machine_run_dir", "batch")]
    meaning = described("settings", names)
    defaults = {field.name: field.default for field in fields(Settings)}
    rows = [
        [f"`{name}`", _setting(name, defaults[name]), f"`RUNNER_{name.upper()}`", meaning[name]]
        for name in names
    ]
    return table(["setting", "default", "variable", "meaning"], rows)


def _batch_settings() -> str:
    meaning = described("batch_settings", [field.name for field in fields(BatchSettings)])
    rows = [[f"`{name}`", f"`RUNNER_BATCH_{name.upper()}`", what] for name, what in meaning.items()]
    return table(["key", "variable", "meaning"], rows)


def _setting(name: str, value: Any) -> str:
    if name.endswith("_dir"):
        return "see below"
    if value is None:
        return "none"
    if name == "disk_reserve":
        return f"`{value // 1024**2}MiB`"
    return f"`{format_duration(value)}`" if isinstance(value, float) else f"`{value}`"


def _state(section: str, record: type) -> Callable[[], str]:
    def made() -> str:
        names = [field.name for field in fields(record)]
        meaning = described(section, names)
        return table(["field", "meaning"], [[f"`{name}`", meaning[name]] for name in names])

    return made


def _statuses(section: str, kind: Any) -> Callable[[], str]:
    def made() -> str:
        meaning = described(section, [status.value for status in kind])
        return table(["status", "meaning"], [[f"`{name}`", what] for name, what in meaning.items()])

    return made


def _exit_codes() -> str:
    meaning = described("exit_codes", [code.name for code in ExitCode])
    rows = [[str(code.value), meaning[code.name]] for code in ExitCode]
    return table(["code", "meaning"], rows)


# -- Events: every name that the code puts into a story or a log.


def events() -> dict[str, set[str]]:
    """Each event, and where it goes: a level of the journal, or a queue's ``story``."""
    found: dict[str, set[str]] = {}
    for path in sorted((REPOSITORY / "runner").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for event, where in _told_by(function):
                    found.setdefault(event, set()).add(where)
    # Named by the status that has changed.
    for status in JobStatus:
        if status not in (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.SKIPPED):
            found.setdefault(f"attempt_{status.value}", set()).add("story")
        if status not in (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.INTERRUPTED):
            found.setdefault(status.value, set()).add("story")
    for queue_status in QueueStatus:
        if queue_status is not QueueStatus.PENDING:
            found.setdefault(f"queue_{queue_status.value}", set()).add("story")
    return found


def _told_by(function: ast.AST) -> Iterator[tuple[str, str]]:
    """The events of one function: calls of ``tell(wall, job, EVENT)`` and ``log.LEVEL(EVENT)``."""
    names: dict[str, ast.expr] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = node.value
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        on = node.func.value
        if node.func.attr == "tell" and len(node.args) == 3:
            where, event = "story", node.args[2]
        elif isinstance(on, ast.Name) and on.id == "log" and node.args:
            where = {"exception": "error"}.get(node.func.attr, node.func.attr)
            event = node.args[0]
        else:
            continue
        if isinstance(event, ast.Name):
            event = names.get(event.id, event)
        for text in _strings(event):
            yield text, where


def _strings(node: ast.expr) -> list[str]:
    if isinstance(node, ast.IfExp):
        return [*_strings(node.body), *_strings(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def _events() -> str:
    found = events()
    meaning = described("events", sorted(found))
    rows = [[f"`{name}`", ", ".join(sorted(found[name])), what] for name, what in meaning.items()]
    return table(["event", "where, or its level", "meaning"], rows)


# -- Permissions: from the CloudFormation template, for a bucket BUCKET and the default prefix.

_GIVEN: dict[str, Any] = {
    "BucketArns": ["arn:aws:s3:::BUCKET"],
    "ResultArns": ["arn:aws:s3:::BUCKET/queues/*"],
    "ResultPrefixes": ["queues/*"],
    "SecretArns": ["SECRET_ARN"],
    "NoticeArns": ["NOTICE_ARN"],
    "KmsKeyArn": "KEY_ARN",
    "AWS::Partition": "aws",
    "AWS::AccountId": "ACCOUNT",
    "AWS::Region": "REGION",
    "Role": "runner-instance",
    "Notices": "runner-notices",
    "QueueArns": ["arn:aws:batch:*:ACCOUNT:job-queue/*"],
    "DefinitionArns": ["arn:aws:batch:*:ACCOUNT:job-definition/runner-*"],
    "RepositoryArns": ["arn:aws:ecr:*:ACCOUNT:repository/*"],
}


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as ``{tag: value}``."""


def _tagged(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {tag: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {tag: loader.construct_sequence(node, deep=True)}
    return {tag: loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _tagged)


def _resolved(value: Any) -> Any:
    """The value with its intrinsic functions done; each condition holds."""
    if isinstance(value, list):
        return [_resolved(each) for each in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, given),) = value.items()
        match tag:
            case "Ref":
                return _GIVEN.get(given, given)
            case "GetAtt":
                return f"the ARN of {given.partition('.')[0]}"
            case "Sub":
                text = re.sub(r"\$\{(\w[\w:]*)\}", lambda m: str(_GIVEN[m[1]]), given)
                return text.replace("${!", "${")
            case "If":
                return _resolved(given[1])
            case "Join":
                return given[0].join(_flat(_resolved(given[1])))
            case "Split":
                return _resolved(given[1]).split(given[0])
    return {key: _resolved(each) for key, each in value.items()}


def _flat(value: Any) -> list[str]:
    return [each for item in value for each in (item if isinstance(item, list) else [item])]


def _permissions(resource: str, file: str = "permissions") -> Callable[[], str]:
    def made() -> str:
        template = yaml.load((TEMPLATES / f"{file}.yaml").read_text(), _Loader)
        properties = template["Resources"][resource]["Properties"]
        document = properties.get("PolicyDocument") or properties["Policies"][0]["PolicyDocument"]
        rows = []
        for statement in _resolved(document)["Statement"]:
            condition = statement.get("Condition", {})
            rows.append([
                statement["Sid"],
                ", ".join(f"`{action}`" for action in _listed(statement["Action"])),
                "<br>".join(f"`{each}`" for each in _listed(statement["Resource"])),
                "<br>".join(
                    f"`{key}` {operator} `{'`, `'.join(_listed(given))}`"
                    for operator, of in condition.items()
                    for key, given in of.items()
                ),
            ])  # fmt: skip
        return table(["statement", "actions", "resources", "condition"], rows)

    return made


# -- Diagnoses of jobs on AWS Batch: from their tables.


def _diagnoses() -> str:
    failed = [(each.code, each.kind, each.cause) for each in (*JOB, *PULL, *CONTAINER)]
    memory = ("out_of_memory", FailureKind.RESOURCES, "it ran out of its memory and was killed")
    program = ("exit_code", FailureKind.PROGRAM, "its own command failed, with this exit code")
    exits = [(code, kind, f"it exited with {told}") for code, kind, told, _ in EXIT_CODES.values()]
    waits = [(code, FailureKind.WAITING, cause) for code, cause, _ in REASONS.values()]
    rows: dict[str, list[str]] = {}
    for code, kind, cause in (program, *exits, memory, *failed, *waits):
        text = re.sub(r"\{\w+\}", "…", cause)
        rows.setdefault(code, [f"`{code}`", str(kind), text])
    return table(["code", "kind", "cause"], list(rows.values()))


def _listed(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value])]


BLOCKS: dict[str, Callable[[], str]] = {
    "diagram.jobs": lambda: f"```mermaid\n{job_diagram()}```",
    "diagram.queues": lambda: f"```mermaid\n{queue_diagram()}```",
    "document.queue": _document("queue"),
    "document.job": _document("job"),
    "document.retry": _document("retry"),
    "document.input": _document("input"),
    "document.result": _document("result"),
    "document.resources": _document("resources"),
    "document.batch": _document("batch"),
    "document.refused": _refused_by_batch,
    "cli.verbs": _verbs,
    "cli.flags": _command_line,
    "cli.batch-status": _batch_status,
    "fleet.flags": _fleet,
    "settings": _settings,
    "settings.batch": _batch_settings,
    "state.queue": _state("state_queue", StateFile),
    "state.job": _state("state_job", StateFileJob),
    "state.array": _state("state_array", StateFileArray),
    "state.queue-status": _statuses("queue_status", QueueStatus),
    "state.job-status": _statuses("job_status", JobStatus),
    "exit-codes": _exit_codes,
    "events": _events,
    "batch.diagnoses": _diagnoses,
    "permissions.machine": _permissions("Role"),
    "permissions.launch": _permissions("Launch"),
    "permissions.look": _permissions("Look"),
    "permissions.scheduler": _permissions("SchedulerRole", "schedule-permissions"),
    "permissions.schedule": _permissions("Schedule", "schedule-permissions"),
    "permissions.batch-job": _permissions("JobRole", "batch-permissions"),
    "permissions.batch-execution": _permissions("ExecutionRole", "batch-permissions"),
    "permissions.batch-coordinator": _permissions("CoordinatorRole", "batch-permissions"),
    "permissions.batch": _permissions("Drive", "batch-permissions"),
}


if __name__ == "__main__":
    sys.exit(main())
