"""What a document may say, and yet hardly means: found by looking at the document alone.

Owns the words of these warnings. It must not look at the machine. Values of ``env`` are never
quoted: they may be secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from runner.model.durations import format_duration
from runner.model.elements import INDEX
from runner.model.lint_fresh import cleared_for_others
from runner.model.messages import quoted, step, whose
from runner.model.notify import is_chat
from runner.model.queue import JobSpec, QueueSpec

_FOLDER = ".working_directory"

_CHAT = (
    "whoever reads the document can write to the channel: keep the URL in SSM or Secrets Manager, "
    "and name it as ssm:NAME or secretsmanager:NAME"
)

_Found = Iterator[tuple[str, str]]
"""Where inside a job, and what."""

_EXPANDED = ("PATH", "HOME", "USER", "PWD", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR")
"""Variables that people expect a shell to fill in."""

_LONGEST = 8 * 1024
"""Characters of a command that is looked at closely: longer ones are programs of their own."""

_ODD = re.compile(r"[\n|]|^#!")
_WILD = re.compile(r"[*?\[]")
_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1[^\n]*\n.*?^\s*\2\s*$", re.S | re.M)
_COMMENT = re.compile(r"(^|\s)#.*$", re.M)
_PIPE = re.compile(r"(?<![|>])\|(?![|])")
_SET = re.compile(r"\bset\s+((?:[-+]\w+\s*(?:\w+\s*)?)+)")
_JOINED = re.compile(r"\\\n|(\|\||&&|\|)\s*\n")
_BASH = re.compile(r"#!\s*(/usr/bin/env\s+(-\S+\s+)*)?(\S*/)?(ba|da)?sh\b")


def warnings(queue: QueueSpec) -> list[str]:
    """A line for each kind of warning: the first place, its job, and how many more there are."""
    found: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    for place, message in _in_queue(queue):
        first.setdefault(message, place)
    cleared = cleared_for_others(queue)
    for index, job in enumerate(queue.jobs):
        for inside, message in (*_in_job(queue, job), *cleared.get(index, ())):
            first.setdefault(message, f"jobs[{index}]{inside}")
            found.setdefault(message, []).append(job.job_id)
    return [f"{place}: {m}{whose(found.get(m, ()))}" for m, place in first.items()]


def _in_queue(queue: QueueSpec) -> Iterator[tuple[str, str]]:
    for inside, message in (*_env(queue.env), *_path(_FOLDER, queue.working_directory)):
        yield inside.removeprefix("."), message
    for index, target in enumerate(queue.notify):
        if is_chat(target.to):
            yield f"notify[{index}].to", _CHAT


def _in_job(queue: QueueSpec, job: JobSpec) -> _Found:
    yield from _command(job.command, " ".join(queue.shell(job)[:-1]))
    yield from _env(job.env)
    yield from _path(_FOLDER, job.working_directory)
    for number, source in enumerate(job.input_paths):
        yield from _path(f".input_paths[{number}].path", source.path)
    yield from _results(job)
    yield from _shared(job)
    if job.inputs and job.keep_background:
        yield ".inputs", "with keep_background the job is run each time: what it leaves is needed"
    if job.timeout > queue.global_timeout:
        limit = format_duration(queue.global_timeout)
        told = f"is longer than the whole queue may take (global_timeout, {limit})"
        yield ".timeout", f"{format_duration(job.timeout)} {told}"
    retry = job.retry
    codes = retry and retry.max_attempts > 1 and (retry.retry_on_codes or retry.dont_retry_on_codes)
    if retry and codes and retry.retry_on != ("exit",):
        yield (
            ".retry",
            "its codes concern exits only: timeouts and signals are retried all the same, unless "
            '"retry_on": ["exit"] says otherwise',
        )


def _env(env: Mapping[str, str]) -> _Found:
    for name, value in env.items():
        if (what := _to_be_filled(name, value)) is not None:
            told = f"holds {what}, and values are taken as they stand: nothing fills it in"
            hint = f"; in the command, `export {name}=…` does" if name in _EXPANDED else ""
            yield f".env{step(name)}", told + hint


def _to_be_filled(name: str, value: str) -> str | None:
    """What of a variable's value is meant for a shell."""
    for word in dict.fromkeys((*_EXPANDED, name)) if "$" in value else ():
        if re.search(rf"\$(?:{word}\b|\{{{word}\}})", value):
            return f"${word}"
    is_path = name == "PATH" and any(part.startswith("~") for part in value.split(":"))
    return "~" if is_path else None


def _path(inside: str, path: str | None) -> _Found:
    if path and (path.startswith("~") or re.search(r"\$[A-Za-z_{]", path)):
        what = "~" if path.startswith("~") else "$"
        yield inside, f"{quoted(path)} is taken as it stands: {what} isn't filled in"


def _shared(job: JobSpec) -> _Found:
    """Files that all elements of an array would take for their own."""
    if job.array is None or job.array.size == 1 or INDEX in (job.working_directory or ""):
        return
    paths = {
        "result_paths": [result.path for result in job.result_paths],
        "checkpoint_paths": job.checkpoint_paths,
    }
    for name, given in paths.items():
        for number, path in enumerate(given):
            if INDEX not in path:
                told = f"{quoted(path)} is the same for all elements of the array"
                hint = f"with {quoted(INDEX)} in it, or in working_directory, each has its own"
                yield f".{name}[{number}]", f"{told}: {hint}"


def _results(job: JobSpec) -> _Found:
    first: dict[str, str] = {}
    for result in job.result_paths:
        path = str(getattr(result, "path", result))
        if _WILD.search(path):
            continue
        name = PurePosixPath(path).name
        other = first.setdefault(name, path)
        if PurePosixPath(other) != PurePosixPath(path):
            told = f"{quoted(other)} and {quoted(path)} have one name"
            yield ".result_paths", f"{told}: the second is stored under a longer one"


# -- commands ----------------------------------------------------------------------------------


def _command(command: str, shell: str) -> _Found:
    """A command is what bash is given: what it would do, and what it wouldn't."""
    if not _ODD.search(command) and command.lstrip()[:1] not in ("", "#"):
        return
    if command.startswith("#!") and not _BASH.match(command):
        first = command.split("\n", 1)[0].rstrip()
        yield (
            ".command",
            f"begins with {quoted(first)}, but bash runs it: put the program into a file, or give "
            "it to its interpreter by a here-document",
        )
        return
    lines = [line.strip() for line in command.split("\n")]
    if all(not line or line.startswith("#") for line in lines):
        yield ".command", "does nothing: it is blank, or a comment"
        return
    if len(command) > _LONGEST:
        return
    if "\r\n" in command:
        yield ".command", "has the line ends of Windows (CRLF): bash takes each \\r as a character"
    yield from _unnoticed(command, shell)


def _unnoticed(command: str, shell: str) -> _Found:
    """Failures that bash passes over."""
    text = _COMMENT.sub(r"\1", _QUOTED.sub("''", _HEREDOC.sub("\n", command)))
    flags = f"{' '.join(_SET.findall(text))} {shell.partition(' ')[2]}"
    text = _JOINED.sub(r"\1 ", text)
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    stops = re.search(r"-\w*e|errexit", flags) or re.search(r"\btrap\b.*\bERR\b", text)
    if len(lines) > 1 and not stops:
        yield (
            ".command",
            "has several lines, and only the last one's exit code counts: begin with "
            '`set -eo pipefail`, or give "shell": "strict", to end at the first that fails',
        )
    elif "pipefail" not in flags and "case " not in text and _PIPE.search(text):
        yield (
            ".command",
            "has a pipe, and only its last command's exit code counts: begin with "
            '`set -o pipefail`, or give "shell": "strict", to notice the others',
        )
