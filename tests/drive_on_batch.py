"""A driver of a queue on AWS Batch in a process of its own, which a test may kill:
`python drive_on_batch.py STATE_FOLDER DOCUMENT`. It exits as `runner run` does."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]


def main() -> int:
    import batch_stand_in

    from runner.core.run_mode import RunMode
    from runner.engine.batch import backend, survivors
    from runner.engine.batch.intents import BatchDefaults
    from runner.model.document import parse_document
    from runner.model.settings import Settings
    from runner.service.batch_place import BatchRun, BatchRunOptions
    from runner.service.foreground import RunRequest, run
    from runner.service.queue_repository import QueueRepository
    from runner.service.session import RunContext

    backend.CLAIM_AGAIN = survivors.SEARCH_AGAIN = 0.1
    survivors.PATIENCE = 3.0
    folder, document = Path(sys.argv[1]), Path(sys.argv[2])
    settings = Settings(
        folder / "state", folder / "logs", folder / "run", None, disk_reserve=0, heartbeat=1.0
    )
    role = "arn:aws:iam::123456789012:role/jobs"
    defaults = BatchDefaults("queue", image="local/deb", job_role=role)
    options = BatchRunOptions(defaults, batch_stand_in.commands, every=0.05)
    batch = BatchRun(options, settings)
    request = RunRequest(
        parse_document(document.read_bytes()), RunMode(), RunContext({}, "/"), batch=batch
    )
    repository = QueueRepository(settings.state_dir, settings.log_dir)
    return int(run(repository, settings, request, _Silent()).exit_code)


class _Silent:
    def opened(self, session: object) -> None: ...
    def story(self, entries: object) -> None: ...
    def say(self, message: str) -> None:
        print(message, file=sys.stderr)

    def closed(self) -> None: ...


if __name__ == "__main__":
    sys.exit(main())
