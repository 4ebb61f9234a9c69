"""What a coordinator's job runs in tests: the real coordinator, quick, with stand-ins for the
containers of its queue's jobs.

It is run as `python3 coordinator_job.py` in a folder of its own, with RUNNER_STORE as Batch hands
it over.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TESTS = Path(__file__).parent
JOB_ROLE = "arn:aws:iam::123456789012:role/jobs"


def main() -> int:
    import batch_stand_in

    from runner.cli.show.run_view import watcher_for
    from runner.core.run_mode import parse_run_mode
    from runner.engine.batch import backend, survivors
    from runner.engine.batch.intents import BatchDefaults
    from runner.model.settings import load_settings
    from runner.results.stores import open_store
    from runner.service.batch_place import BatchRun, BatchRunOptions
    from runner.service.coordinator import CoordinatorRequest, coordinate
    from runner.service.queue_repository import QueueRepository
    from runner.service.session import RunContext
    from runner.targets.batch.launch_record import stored_launch

    backend.CLAIM_AGAIN = survivors.SEARCH_AGAIN = 0.05
    survivors.PATIENCE = 2.0  # jobs are listed at once
    where, own = os.environ["RUNNER_STORE"], os.environ["AWS_BATCH_JOB_ID"]
    launch = stored_launch(open_store(where))
    assert launch is not None
    settings = load_settings(
        {"RUNNER_CONTROL_INTERVAL": "100ms", "RUNNER_DISK_RESERVE": "1"},
        root=False,
        home=Path.cwd(),
        overrides={"state_dir": Path.cwd() / "state"},
    )
    target = BatchDefaults("queue", region=launch.region, image="local/deb", job_role=JOB_ROLE)
    options = BatchRunOptions(target, batch_stand_in.commands, None, every=0.05)
    request = CoordinatorRequest(
        where,
        RunContext({}, None, heartbeat=0.5, instance=lambda: own),
        BatchRun(options, settings),
        own,
        launch=launch.launch,
        again=parse_run_mode(launch.again),
        document=launch.document,
    )
    repository = QueueRepository(settings.state_dir, settings.log_dir)
    watcher = watcher_for(json_output=False)
    return int(coordinate(repository, settings, request, watcher))


if __name__ == "__main__":
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    from runner.errors import RunnerError

    try:
        code = main()
    except RunnerError as error:
        print(f"runner coordinate: {error}", file=sys.stderr)
        code = int(error.exit_code)
    sys.stdout.flush()
    os._exit(code)
