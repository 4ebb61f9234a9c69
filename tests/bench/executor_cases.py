"""One tool and one piece of work, for executors.py: ``executor_cases.py TOOL WORK COUNT FOLDER``.

Runs in an environment that has the tool, and prints a line of JSON. Imports of runner and of each
tool only where it is that tool's turn.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOOPS, COMMANDS, SLEEPS, KILLED, FETCH = "noops", "commands", "sleeps", "killed", "fetch"

WORKERS = {NOOPS: 2, COMMANDS: 2, SLEEPS: 10, KILLED: 2, FETCH: 2}
"""How many calls run at once."""

MARKED = 4
"""Calls of the work that is killed: two run, the others wait, where a tool lets any wait."""

Submit = Callable[..., Any]
Opened = tuple[Submit, Submit]
"""Submits a call of a function, and a command; both give something with ``result()``."""


# parsl sends a function without what its module imports.


def noop() -> None:
    pass


def second() -> None:
    import time

    time.sleep(1)


def mark(folder: str, number: int) -> int:
    """Say that it began, work for 3 s, say that it ended."""
    import time
    from pathlib import Path

    Path(f"{folder}/began-{number}").touch()
    time.sleep(3)
    with open(f"{folder}/ended-{number}", "a") as file:
        file.write(".")
    return number


def by_function(submit: Submit) -> Submit:
    """Where there is no other way, a command is a function that runs it."""
    return lambda *argv: submit(subprocess.call, list(argv))


# -- the tools ---------------------------------------------------------------------------------


@contextmanager
def runner_local(workers: int, folder: str) -> Iterator[Opened]:
    from runner import Executor

    with Executor(workers, state_dir=f"{folder}/state") as ex:
        yield ex.submit, lambda *argv: ex.submit_command(list(argv))


@contextmanager
def fresh_pool(workers: int, folder: str) -> Iterator[Opened]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    spawn = get_context("spawn")
    with ProcessPoolExecutor(workers, max_tasks_per_child=1, mp_context=spawn) as pool:
        yield pool.submit, by_function(pool.submit)


@contextmanager
def warm_pool(workers: int, folder: str) -> Iterator[Opened]:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers) as pool:
        yield pool.submit, by_function(pool.submit)


@contextmanager
def joblib_loky(workers: int, folder: str) -> Iterator[Opened]:
    from joblib.externals.loky import get_reusable_executor

    with get_reusable_executor(workers) as pool:
        yield pool.submit, by_function(pool.submit)


@contextmanager
def dask_local(workers: int, folder: str) -> Iterator[Opened]:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address=None,
        local_directory=f"{folder}/dask",
    )
    with cluster, Client(cluster) as client:

        def submit(*call: Any) -> Any:
            return client.submit(*call, pure=False)

        yield submit, by_function(submit)


@contextmanager
def submitit_local(workers: int, folder: str) -> Iterator[Opened]:
    """It has no queue: as many processes as there are calls would start at once."""
    import submitit

    local = submitit.LocalExecutor(folder=f"{folder}/submitit")
    yield local.submit, lambda *argv: local.submit(submitit.helpers.CommandFunction(list(argv)))


@contextmanager
def parsl_local(workers: int, folder: str) -> Iterator[Opened]:
    import parsl
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    one = LocalProvider(init_blocks=1, max_blocks=1)
    pool = HighThroughputExecutor(
        max_workers_per_node=workers,
        provider=one,
        address="127.0.0.1",
        encrypted=False,
    )
    with parsl.load(parsl.Config(executors=[pool], run_dir=f"{folder}/parsl")):

        def submit(function: Any, *arguments: Any) -> Any:
            return parsl.python_app(function)(*arguments)

        @parsl.bash_app
        def command(*argv: str) -> str:
            return " ".join(argv)

        yield submit, command


TOOLS = {
    "runner": runner_local,
    "fresh": fresh_pool,
    "warm": warm_pool,
    "joblib": joblib_loky,
    "dask": dask_local,
    "submitit": submitit_local,
    "parsl": parsl_local,
}

ONE_BY_ONE = ("submitit",)
"""Tools without a queue: they are given no more at once than there are workers."""


# -- the work ----------------------------------------------------------------------------------


def results(submit: Submit, calls: list[tuple[Any, ...]], at_once: int) -> list[Any]:
    found = []
    for start in range(0, len(calls), at_once):
        batch = [submit(*each) for each in calls[start : start + at_once]]
        found += [each.result() for each in batch]
    return found


def work(tool: str, what: str, count: int, folder: str) -> dict[str, float]:
    """Seconds from the first call to the last result; MiB at most of this process."""
    workers = WORKERS[what]
    with TOOLS[tool](workers, folder) as (submit, command):
        submit(noop).result()
        start = time.perf_counter()
        call: tuple[Any, ...] = {NOOPS: (noop,), SLEEPS: (second,)}.get(what, ("true",))
        give = command if what == COMMANDS else submit
        results(give, [call] * count, workers if tool in ONE_BY_ONE else count)
        wall = time.perf_counter() - start
    return {"wall": wall, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def killed(tool: str, folder: str) -> None:
    """Have calls run and wait, and say how to find them again; then wait to be killed."""
    with TOOLS[tool](WORKERS[KILLED], folder) as (submit, _):
        calls = [submit(mark, folder, number) for number in range(MARKED)]
        ids = [str(getattr(each, "job_id", "")) for each in calls]
        while len([*Path(folder).glob("began-*")]) < WORKERS[KILLED]:
            time.sleep(0.02)
        print(json.dumps(ids), flush=True)
        time.sleep(600)


def fetch(tool: str, folder: str, ids: list[str]) -> list[Any]:
    """What a new process gets of the calls of a session that was killed."""
    if tool == "runner":
        from runner import Executor

        with Executor(WORKERS[FETCH], state_dir=f"{folder}/state") as ex:
            return [ex.attach(each).result(60) for each in ids]
    import submitit

    return [submitit.LocalJob(f"{folder}/submitit", each).result() for each in ids]


def main(tool: str, what: str, count: str, folder: str) -> None:
    if what == KILLED:
        killed(tool, folder)
    elif what == FETCH:
        print(json.dumps(fetch(tool, folder, json.loads(count))))
    else:
        print(json.dumps(work(tool, what, int(count), folder)))


if __name__ == "__main__":
    # A tool's workers import this file by its name.
    sys.path.insert(0, str(Path(__file__).parent))
    main(*sys.argv[1:])
