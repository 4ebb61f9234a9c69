"""The Executor beside what a user would pick instead, in one run: ``executors.py [CALLS]``.

Prints a Markdown table for docs/explanation/benchmarks.md. Needs joblib, dask[distributed] and
submitit; those that are missing are left out.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from measure import floor

WORKERS = 2


def noop() -> None:
    pass


def peak() -> float:
    """MiB at most of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(submit: Callable[..., Any], calls: int) -> tuple[float, float, float]:
    """Milliseconds for each of: one call after another, many no-ops, many `true`s."""
    submit(noop).result()
    start = time.perf_counter()
    for _ in range(20):
        submit(noop).result()
    one = (time.perf_counter() - start) / 20
    found = [one]
    for call in ((noop,), (subprocess.call, ["true"])):
        start = time.perf_counter()
        for future in [submit(*call) for _ in range(calls)]:
            future.result()
        found.append((time.perf_counter() - start) / calls)
    return tuple(each * 1000 for each in found)  # type: ignore[return-value]


def runner_executor(calls: int) -> tuple[float, float, float]:
    from runner import Executor

    with Executor(WORKERS) as ex:
        one, many, _ = timed(ex.submit, calls)
        start = time.perf_counter()
        for future in [ex.submit_command("true") for _ in range(calls)]:
            future.result()
        return one, many, (time.perf_counter() - start) / calls * 1000


def fresh_pool(calls: int) -> tuple[float, float, float]:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(
        WORKERS, max_tasks_per_child=1, mp_context=get_context("spawn")
    ) as pool:
        return timed(pool.submit, calls)


def warm_pool(calls: int) -> tuple[float, float, float]:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as pool:
        return timed(pool.submit, calls)


def joblib_loky(calls: int) -> tuple[float, float, float]:
    from joblib.externals.loky import get_reusable_executor

    return timed(get_reusable_executor(WORKERS).submit, calls)


def dask_local(calls: int) -> tuple[float, float, float]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        return timed(lambda *call: client.submit(*call, pure=False), calls)


def submitit_local(calls: int) -> tuple[float, float, float]:
    import submitit

    with tempfile.TemporaryDirectory() as folder:
        local = submitit.LocalExecutor(folder=folder)
        return timed(local.submit, max(4, calls // 20))


CASES = {
    "runner.Executor": (runner_executor, "jobs that run go on; the queue and its results stay"),
    "ProcessPoolExecutor, a process for each call": (fresh_pool, "nothing"),
    "ProcessPoolExecutor, processes used again": (warm_pool, "nothing"),
    "joblib (loky)": (joblib_loky, "nothing"),
    "dask LocalCluster": (dask_local, "nothing"),
    "submitit LocalExecutor": (submitit_local, "jobs that run, and their results"),
}


HEAD = "| | one after another | no-ops | `true` | parent's peak | `kill -9` of the parent leaves |"


def main(calls: int) -> None:
    if len(sys.argv) > 2:
        found = CASES[sys.argv[2]][0](calls)
        print(" | ".join([*(f"{each:.1f} ms" for each in found), f"{peak():.0f} MiB"]))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"the durable floor: {floor(Path(folder), 200) * 1000:.1f} ms")
    print(HEAD)
    print("|---|---|---|---|---|---|")
    for name, (_, leaves) in CASES.items():
        program = [sys.executable, __file__, str(calls), name]
        done = subprocess.run(program, capture_output=True, text=True)
        if done.returncode:
            print(f"{name}: {done.stderr.strip()[-200:]}", file=sys.stderr)
            continue
        print(f"| {name} | {done.stdout.strip()} | {leaves} |", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
