"""A worker that kills itself between two steps, as `runner-fleet worker` would be killed there.

    python fleet_worker.py ADDRESS JOB STATE LEASE STEP NUMBER [CONCURRENCY]

Its process gets SIGKILL when it has come to STEP for the NUMBER-th time; with STEP ``-`` it works
until nothing is left.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from runner.errors import RunnerError
from runner.fleet.database import open_database
from runner.fleet.task_store import store_address
from runner.fleet.worker import WorkerOptions
from runner.fleet.worker_process import WorkerSetup, run_workers
from runner.model.settings import load_settings


def main(
    address: str, name: str, state: str, lease: str, step: str, number: str, concurrency: str = "1"
) -> None:
    left = int(number)

    def on_step(reached: str) -> None:
        nonlocal left
        if reached == step:
            left -= 1
            if left == 0:
                print(f"killed at {step}", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

    folders = {"state_dir": state, "log_dir": f"{state}/logs"}
    settings = load_settings({}, root=False, home=Path(state), overrides=folders)
    environ = {**os.environ, "WORKER_PID": str(os.getpid())}
    options = WorkerOptions(poll_wait=0.3, lease=float(lease), shutdown_after_empty=1)
    database = open_database(address, float(lease))
    job = database.job(name)
    results = store_address(job, database.folder)
    assert results is not None
    setup = WorkerSetup(settings, environ, options, int(concurrency))
    run_workers(database, job, results, setup, lambda text: print(text, flush=True), on_step)
    database.close()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RunnerError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(error.exit_code)
