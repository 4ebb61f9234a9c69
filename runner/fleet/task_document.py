"""The queue document that one task runs: the job's template, its command, or an installed package.

Owns what a task's commands find in their environment, and what they never do.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.errors import UsageError
from runner.fleet.records import FleetJob, FleetTask
from runner.model.document import JobSpec, QueueSpec, parse_document
from runner.model.messages import quoted
from runner.model.queue import ResultSpec
from runner.service.environment import callers, given
from runner.service.runs_here import check_runs_here

WORKER_FOLDER = "RUNNER_WORKER_DIR"
"""The variable that names the folder in which the worker was started: on a machine of `up`, the
work folder that was shipped."""

ENTRY_POINTS = "runner.fleet.jobs"
"""The group of entry points in which a package offers a job, under the job's name."""

ITEM_FIELDS = "RUNNER_TASK_FIELDS"
"""An item's parameter that is no variable: fields of the template's first job, JSON, in place of
those that it has. No item of the command line has it."""

KEEP = "RUNNER_TASK_KEEP"
"""The variable that names ``kept_folder``."""

_SECRET = re.compile(r"(BEC_SQL_|BEC_DATABASE$|PG[A-Z]|DATABASE_URL$|RUNNER_FLEET)")
"""Variables that say how the fleet's database is reached."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = re.compile(r"RUNNER_|BEC_SQL_|(JOB_ID|JOB_ATTEMPT|QUEUE_ID|TASK_ID|W_ID|I_ID)$")


def check_params(params: Mapping[str, str]) -> None:
    """Raise UsageError for a name that can't be a variable, or is one of ours."""
    for name in params:
        if not _VARIABLE.fullmatch(name):
            raise UsageError(f"item: {quoted(name)} can't be the name of a variable")
        if _RESERVED.match(name):
            raise UsageError(f"item: {name} is set by runner itself")


def document_of(job: FleetJob, task: FleetTask | None = None) -> QueueSpec:
    """What a task of the job runs; None: any task, to check the job.

    Raises UsageError where the job says nothing that can be run, DocumentError with all errors of
    its template.
    """
    options = job.options
    if options.template is not None:
        document = _from_template(options.template, task)
    else:
        command = options.command or _installed(job.name)
        # What a command leaves in its own folder is its result.
        work = JobSpec("task", command, options.timeout, result_paths=(ResultSpec("**", True),))
        document = QueueSpec(None, job.name, (work,), options.timeout, "stop")
    check_runs_here(document)
    if any(work.hold for work in document.jobs):
        raise UsageError("a template can't hold jobs: nobody could release one of each task")
    if task is None:
        return document
    name = f"task-{task.id}-{task.run}"
    return replace(
        document, queue_id=name, result_s3_bucket=None, result_s3_prefix=None, given=None
    )


def _from_template(text: str, task: FleetTask | None) -> QueueSpec:
    """JSON begins with a brace; anything else is YAML."""
    values = {} if task is None else parameters(task)
    if text.lstrip().startswith("{"):
        try:
            params = json.loads(text).get("params")
        except (ValueError, RecursionError):
            params = None  # told by the parser below
        sets = _declared(params, values)
        if task is not None and (fields := task.params.get(ITEM_FIELDS)) is not None:
            text = _with_fields(text, fields)
        return parse_document(text.encode(), sets=sets, now=time.time())
    import tempfile

    from runner.model.document import read_document
    from runner.model.expansion.yaml_reader import read_yaml

    members = read_yaml(text, "the template")[0]
    params = next((value for name, _, value in members if name == "params"), None)
    sets = _declared(params, values)
    with tempfile.TemporaryDirectory(prefix="runner-template-") as folder:
        path = Path(folder) / "template.yaml"
        path.write_text(text)
        return read_document(path, sets=sets, now=time.time())


def _with_fields(text: str, fields: str) -> str:
    """The template with an item's own fields of its first job. Raises UsageError."""
    try:
        document = json.loads(text)
        document["jobs"][0].update(json.loads(fields))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"the item's fields don't fit the template: {error}") from None
    return json.dumps(document)


def _declared(params: Any, values: Mapping[str, str]) -> dict[str, str]:
    """Those of the values that the template has parameters for."""
    if not isinstance(params, dict):
        return {}
    return {name: value for name, value in values.items() if name in params}


def _installed(name: str) -> str:
    """The command of a package that offers this job: its function is called without arguments, and
    what it returns is the exit code, as of a console script."""
    from importlib.metadata import entry_points

    found = {(each.module, each.attr) for each in entry_points(group=ENTRY_POINTS, name=name)}
    if len(found) > 1:
        told = " and ".join(sorted(f"{module}:{attr}" for module, attr in found))
        raise UsageError(f"job {quoted(name)} is offered by several installed packages: {told}")
    for module, attr in found:
        if not attr:
            raise UsageError(f"job {quoted(name)}: the entry point {module} names no function")
        code = f"import pkgutil, sys; sys.exit(pkgutil.resolve_name({f'{module}:{attr}'!r})())"
        return shlex.join([sys.executable, "-c", code])
    raise UsageError(
        f"job {quoted(name)} has no --template and no --command, and no installed package offers it"
        f" (an entry point {name} in the group {ENTRY_POINTS})"
    )


def parameters(task: FleetTask) -> dict[str, str]:
    """What tells one task from another, as variables."""
    found = {"TASK_ID": str(task.id), **task.params}
    found.pop(ITEM_FIELDS, None)
    if task.w_id is not None and task.i_id is not None:
        found |= {"W_ID": task.w_id, "I_ID": task.i_id}
    return found


def environment_of(
    job: FleetJob,
    task: FleetTask,
    folder: Path,
    environ: Mapping[str, str],
    model: str | None,
) -> dict[str, str]:
    """What its commands find: the worker's own, less what is secret, and the task's.

    ``folder``: where its configuration is written, and its metrics are read.
    """
    base = callers(given(environ))
    found = {name: value for name, value in base.items() if not _SECRET.match(name)}
    found |= parameters(task)
    if (began_in := environ.get(WORKER_FOLDER)) is not None:
        found[WORKER_FOLDER] = began_in
    found |= {
        "RUNNER_TASK_CONFIG": str(config_file(folder)),
        "RUNNER_TASK_METRICS": str(metrics_file(folder)),
        "RUNNER_TASK_JOB": job.name,
        "RUNNER_PYTHON": sys.executable,
    }
    if job.options.keeps_outcomes:
        found[KEEP] = str(kept_folder(folder))
    if job.options.manifest_key is not None:
        found["RUNNER_TASK_MANIFEST"] = str(manifest_file(folder))
    if model is not None:
        found["RUNNER_MODEL_PATH"] = model
    return found


def config_file(folder: Path) -> Path:
    """The job's configuration, JSON."""
    return folder / "config.json"


def manifest_file(folder: Path) -> Path:
    """The task's manifest, as it was fetched."""
    return folder / "manifest"


def kept_folder(folder: Path) -> Path:
    """What a task leaves here is stored with its run, if its job keeps outcomes, of any kind."""
    return folder / "kept"


def metrics_file(folder: Path) -> Path:
    """Where the task says what it did: a JSON object."""
    return folder / "metrics.json"
