"""``Executor``: the interface of ``concurrent.futures`` over a queue of jobs."""

from __future__ import annotations

import inspect
import itertools
import os
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from runner.api.capabilities import NOTHING_SAID, parse_capabilities
from runner.api.chunk_call import ChunkCall
from runner.api.executor_metrics import ExecutorFigures
from runner.api.executor_place import ExecutorPlace, check_found_again
from runner.api.executor_session import ON_EXIT, ExecutorSession
from runner.api.future import JobFuture
from runner.api.job_errors import PayloadError
from runner.api.job_target import ArrayTarget, JobTarget
from runner.api.limits import check_limits
from runner.api.payload import pickled
from runner.api.target_registry import (
    are_durable,
    are_served,
    check_targets,
    code_folder,
    open_targets,
)
from runner.api.tasks import CommandTask, FunctionTask, InputFile
from runner.api.unpicklable import describe_unpicklable, name_of
from runner.model.elements import element_name
from runner.model.fields import ID_PATTERN, JOB_FIELDS
from runner.model.messages import did_you_mean, one_of, quoted
from runner.model.settings import load_settings
from runner.model.validation_errors import InvalidError

DEFAULT_NAME = "executor"

_NAMED = 40
"""Letters of a function's or command's name that are in its job's id."""


class Executor(futures.Executor):
    """Runs functions and commands as jobs of a queue; ``submit`` gives Futures.

    ``target``: where they run; `local`: processes of this machine, driven by the calling process;
    `daemon`: the same, driven by the machine's daemon, under ``name``, or in a queue of its own.
    Keywords that are none of those below are that target's options.
    ``targets``: several of them with their options, `{"local": {"max_workers": 4}}`: a call goes to
    the first that its options fit, or to the one that the option ``target`` names.
    ``state_dir``: where its queue is kept; it then outlives the process, and an Executor with the
    same folder and ``name`` goes on with it. Without one it is in a temporary folder that is
    removed at the end. ``max_workers``: how many jobs run at once, by default one for each
    processor. ``modules``: their functions and classes travel by value, as those of `__main__` do.
    ``code``: a folder of modules, a copy of which the jobs import from. ``on_exit``: what becomes
    of the jobs if the interpreter ends before ``shutdown``: `wait` for them, `cancel` them, or
    `detach` (with a ``state_dir``, on a daemon with a ``name``): those that run go on, the next
    Executor goes on with all.
    ``max_jobs``, ``max_cpus``, ``max_cost_per_hour``: how many jobs that have not ended it may
    have, of how many processors, and for how many US dollars an hour by ``prices`` (of `cpus`,
    `memory` in GiB, `gpus`) where it is paid for them; one more than that waits in ``submit``, or
    with ``when_full="refuse"`` raises JobLimitError.

    Raises ValueError for a wrong argument, TypeError for an unknown one, LockedError if another
    process works on the queue.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        target: str = "local",
        targets: Mapping[str, Mapping[str, Any]] | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        name: str | None = None,
        modules: Iterable[ModuleType] = (),
        code: str | os.PathLike[str] | None = None,
        on_exit: str = "wait",
        max_jobs: int | None = None,
        max_cpus: float | None = None,
        max_cost_per_hour: float | None = None,
        prices: Mapping[str, float] | None = None,
        when_full: str = "wait",
        **options: Any,
    ) -> None:
        if max_workers is not None:
            options["max_workers"] = max_workers
        if targets is None:
            targets = {target: options}
        elif options or target != "local":
            given = ", ".join(sorted(options)) or "target"
            raise ValueError(f"targets: has the options of each, so give no {given} beside it")
        checked = check_targets(targets, _KEYWORDS)
        if on_exit not in ON_EXIT:
            near = did_you_mean(str(on_exit), ON_EXIT)
            raise ValueError(f"on_exit: must be {one_of(ON_EXIT)}, not {on_exit!r}{near}")
        served = are_served(checked)
        if on_exit == "detach":
            check_found_again(state_dir is not None or are_durable(checked), name, served=served)
        limits = check_limits(
            max_jobs=max_jobs,
            max_cpus=max_cpus,
            max_cost_per_hour=max_cost_per_hour,
            prices=prices,
            when_full=when_full,
        )
        queue_id = DEFAULT_NAME if name is None else name
        if not isinstance(queue_id, str) or not re.fullmatch(ID_PATTERN, queue_id):
            raise ValueError(f"name: {name!r} is not an id: letters, digits, '.', '_' and '-'")
        folder = None if state_dir is None else Path(os.path.abspath(os.fspath(state_dir)))
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        own = folder is None and not served
        root = Path(tempfile.mkdtemp(prefix="runner-executor-")) if own else None
        try:
            settings = load_settings(
                os.environ,
                root=os.geteuid() == 0,
                home=Path(os.path.expanduser("~")),
                overrides={"state_dir": root or folder},
            )
            self._path = []
            if code is not None:
                into = code_folder(checked, settings, folder)
                self._path = _copied(code, into, for_others=served)
            durable, shipped = root is None, tuple(self._path)
            place = ExecutorPlace(settings, queue_id, durable, shipped, folder, name is not None)
            self._session = ExecutorSession(
                lambda session: open_targets(checked, place, session), on_exit, root, limits
            )
        except BaseException:
            if root is not None:
                shutil.rmtree(root, ignore_errors=True)
            raise
        self._wanted = NOTHING_SAID
        self._source = f"{os.uname().nodename}:{os.getpid()}"
        # Of the Executor and all its views: with the last of them goes the session.
        self._handle = _Handle()
        weakref.finalize(
            self._handle, self._session.shutdown, wait=False, cancel_futures=False
        ).atexit = False

    # -- options -----------------------------------------------------------------------------

    def options(self, **options: Any) -> Executor:
        """The same executor with other options for what is submitted through what this returns.

        ``cpus``, ``memory`` (`"16GiB"`, or a number of MiB), ``gpus``, ``timeout`` (seconds, or
        `"1h30m"`; of each attempt), ``retry`` (a number of attempts, or what a job's `retry` is in
        a document), ``env``, ``image``, ``region``, ``queue``, ``job_definition``, ``target``.
        Raises ValueError naming each option that is unknown or wrong, and the nearest known one.
        """
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._wanted = parse_capabilities(options).over(self._wanted)
        return view

    # -- submitting --------------------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> JobFuture:
        """Have ``fn(*args, **kwargs)`` called in a process of its own.

        Raises PayloadError, naming the object, if the call can't be pickled; ValueError if no
        target can run it; RuntimeError after shutdown.
        """
        session = self._session
        session.check_open()
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {type(fn).__name__}")
        target = session.route(self._wanted, function=True)
        job_id = session.next_id(_id_from(name_of(fn), "call"))
        return session.submit(target, self._call_task(target, job_id, fn, args, kwargs))

    def _call_task(
        self,
        target: JobTarget,
        job_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> FunctionTask:
        """A call whose payload is kept. Raises PayloadError, naming the object."""
        try:
            body = pickled((fn, args, kwargs))
        except Exception as error:
            where = describe_unpicklable(fn, args, kwargs, pickled)
            raise PayloadError(f"the call can't be pickled: {where}: {error}") from error
        payload = target.store_call(job_id, body, [*self._path, *_import_path()])
        return FunctionTask(job_id, self._source, name_of(fn), payload, self._wanted)

    def submit_command(
        self,
        command: str | Sequence[str],
        capabilities: Mapping[str, Any] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        input_paths: Iterable[Mapping[str, str]] = (),
        result_paths: Iterable[str] = (),
        timeout: float | str | None = None,
        retry: int | Mapping[str, Any] | None = None,
        check: bool = False,
    ) -> JobFuture:
        """Have a command run: a string by bash, a list as a program and its arguments.

        ``capabilities``: as the options of ``options``, under their names or AWS Batch's. The
        Future's result is a CommandResult, whatever the exit status is; with ``check`` a command
        that fails raises JobError. Raises ValueError for a wrong argument.
        """
        self._session.check_open()
        wanted = parse_capabilities(capabilities or {}).over(self._wanted)
        said = {"env": env, "timeout": timeout, "retry": retry}
        own = parse_capabilities({key: value for key, value in said.items() if value is not None})
        wanted = own.over(wanted)
        script, argv = _check_command(command)
        inputs = _checked("input_paths", [dict(each) for each in input_paths])
        results = _checked("result_paths", _listed("result_paths", result_paths))
        target = self._session.route(wanted, function=False)
        first = script.split(maxsplit=1)[0] if script is not None else (argv or ("",))[0]
        task = CommandTask(
            id=self._session.next_id(_id_from(os.path.basename(first), "command")),
            source=self._source,
            script=script,
            argv=argv,
            input_paths=tuple(InputFile(each.s3, each.path) for each in inputs),
            result_paths=tuple(each.path for each in results),
            capabilities=wanted,
        )
        return self._session.submit(target, task, check=check)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """As the standard library's: results in the order of the arguments.

        ``chunksize``: how many calls are one job. Where the target has arrays the jobs are one.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return self._map(fn, iterables, timeout)
        chunks = _chunks(zip(*iterables, strict=False), chunksize)
        return itertools.chain.from_iterable(self._map(ChunkCall(fn), (chunks,), timeout))

    def _map(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
    ) -> Iterator[Any]:
        session = self._session
        session.check_open()
        target = session.route(self._wanted, function=True)
        if not isinstance(target, ArrayTarget) or session.limited:
            return super().map(fn, *iterables, timeout=timeout)
        calls, ready = zip(*iterables, strict=False), list[JobFuture]()
        while row := list(itertools.islice(calls, target.largest_array)):
            ready += self._submit_row(target, fn, row)
        return _Submitted(ready).map(fn, ready, timeout=timeout)

    def _submit_row(
        self, target: ArrayTarget, fn: Callable[..., Any], row: list[tuple[Any, ...]]
    ) -> list[JobFuture]:
        """Several calls as one array."""
        if len(row) == 1:
            return [self.submit(fn, *row[0])]
        array = self._session.next_id(_id_from(name_of(fn), "call"))
        tasks = [
            self._call_task(target, element_name(array, at), fn, args, {})
            for at, args in enumerate(row)
        ]
        return self._session.submit_array(target, array, tasks)

    def attach(self, job_id: str) -> JobFuture:
        """A Future for a job of this executor's queue, also one of an earlier session.

        Raises NotFoundError if there is no such job.
        """
        if not isinstance(job_id, str):
            raise TypeError(f"job_id must be a str, not {type(job_id).__name__}")
        return self._session.attach(job_id)

    def metrics(self) -> ExecutorFigures:
        """What this executor has done so far; its ``openmetrics()`` is text for Prometheus."""
        return self._session.metrics.figures()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs. ``wait``: until all have ended; ``cancel_futures``: those that
        haven't started don't."""
        self._session.shutdown(wait=wait, cancel_futures=cancel_futures)


_KEYWORDS = tuple(inspect.signature(Executor).parameters)[:-1]


class _Handle:
    """What an Executor and its views share, so that the end of the last of them is seen."""

    __slots__ = ("__weakref__",)


class _Submitted(futures.Executor):
    """Gives Futures that are there, for the standard library's ``map`` to read their results."""

    def __init__(self, ready: Iterable[JobFuture]) -> None:
        self._ready = iter(ready)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> JobFuture:
        return next(self._ready)


def _chunks(calls: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    calls = iter(calls)
    while chunk := list(itertools.islice(calls, size)):
        yield chunk


def _check_command(command: object) -> tuple[str | None, tuple[str, ...] | None]:
    """A script for bash, or an argv. Raises ValueError."""
    if isinstance(command, str):
        if not command.strip():
            raise ValueError("command: must not be empty")
        _checked("command", command)
        return command, None
    if not isinstance(command, Sequence) or isinstance(command, bytes):
        raise ValueError(f"command: must be a str or a list of str, not {type(command).__name__}")
    for index, word in enumerate(command):
        if not isinstance(word, str):
            raise ValueError(f"command[{index}]: must be a str, not {type(word).__name__}")
        if "\0" in word:
            raise ValueError(f"command[{index}]: must not hold a NUL character")
    if not command or not command[0]:
        raise ValueError("command: must name a program")
    return None, tuple(command)


def _checked(field: str, value: Any) -> Any:
    """A value by the rules of a document's field. Raises ValueError with each error's place."""
    try:
        return JOB_FIELDS[field](value)
    except InvalidError as error:
        raise ValueError("\n".join(f"{field}{at}: {text}" for at, text in error.faults)) from None


def _listed(field: str, value: Iterable[str]) -> list[str]:
    if isinstance(value, str):
        raise ValueError(f"{field}: must be a list of globs, not the string {quoted(value)}")
    return list(value)


def _id_from(name: str, otherwise: str) -> str:
    """The beginning of a job's id: a name, as far as an id may hold it."""
    name = name.rpartition("<locals>.")[2]
    return re.sub(r"[^A-Za-z0-9_.-]+", "", name).strip("._-")[:_NAMED] or otherwise


def _import_path() -> list[str]:
    """Where this process imports from."""
    return [os.path.abspath(each) for each in sys.path if isinstance(each, str)]


def _copied(code: str | os.PathLike[str], into: Path, *, for_others: bool) -> list[str]:
    """A copy of a folder of code as it is now, to import from; ``for_others``: also for jobs of
    another user. Raises ValueError, OSError."""
    source = Path(code)
    if not source.is_dir():
        raise ValueError(f"code: {source} is not a folder")
    into.mkdir(parents=True, exist_ok=True)
    copy = Path(tempfile.mkdtemp(prefix="", dir=into))
    if for_others:
        copy.chmod(0o755)
    package = (source / "__init__.py").is_file()
    shutil.copytree(
        source,
        copy / source.resolve().name if package else copy,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__", ".git", ".venv"),
    )
    return [str(copy)]
