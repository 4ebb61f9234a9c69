"""The first container of an attempt: what COMMAND needs is made ready, then the attempt is claimed.

Until the claim nothing is written that another could mind: where this container dies, or another
is there already, the start never was. After it COMMAND may begin, in the next container.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runner.aws.secrets import SecretError, Secrets
from runner.batch.container.placement import (
    NotPlacedError,
    place_checkpoint,
    place_inputs,
    place_outputs,
)
from runner.batch.container.shell_text import (
    environment_text,
    parsed,
    patterns_text,
    settings_text,
)
from runner.batch.container.staged import Staged
from runner.batch.container.storing import store_attempt
from runner.batch.container.task import OvertakenError, Task, load_task, patiently, say
from runner.batch.container.volume import Volume
from runner.batch.records import BatchEnd, BatchStored, EndKind, Writer, to_bytes
from runner.errors import RunnerError
from runner.files import replace_file
from runner.results.download.inputs import InputError
from runner.results.layout import Layout
from runner.results.path_map import SAME
from runner.results.s3.store import S3Store
from runner.results.set_aside import AsideRequest, set_aside
from runner.results.store import StoreError

READY, TAKEN, SUPERSEDED, NOT_RUNNABLE, FAILED = 0, 3, 4, 5, 1
"""Exit codes: COMMAND may begin; another has the claim; a later driver has the queue; it is
claimed, and can't be run; a mistake, of the environment or of ours."""


def stage(environment: Mapping[str, str], volume: Volume, *, in_image: bool = False) -> int:
    """All of it, in whichever state an earlier try has left the volume; an exit code.

    ``in_image``: COMMAND runs in this very container. Raises RunnerError, OSError.
    """
    if (volume.main / "begun").exists():
        return READY  # this very job's COMMAND: what is to be claimed is
    volume.make()
    task = patiently(lambda: load_task(environment, volume.root / "submission.json"), say)
    try:
        patiently(task.check_epoch, say)
        nonce = volume.nonce()
        patiently(lambda: task.look_at_claim(nonce), say)
        staged = _prepare(environment, task, volume, in_image=in_image)
        patiently(task.check_epoch, say)
        patiently(lambda: task.claim(nonce), say)
    except OvertakenError as error:
        say(str(error))
        return SUPERSEDED if error.superseded else TAKEN
    if staged.refused is None:
        # Not before the claim: another container of this attempt may be the one that runs.
        staged = replace(staged, refused=_set_aside(task, volume, in_image=in_image))
    replace_file(volume.root / "submission.json", [to_bytes(task.submission)], mode=0o600)
    staged.write(volume)
    if staged.refused is not None:
        kind = EndKind.UNSTAGED if staged.unstaged else EndKind.NOT_RUNNABLE
        token = task.entry.token
        end = BatchEnd(Writer.CONTAINER, token, kind, time.time(), message=staged.refused)
        if staged.unstaged:
            # As on one machine it is no attempt, so it has no logs either.
            patiently(lambda: task.put_end(end), say)
            patiently(lambda: task.put_stored(BatchStored(token, end, True)), say)
        else:
            store_attempt(task, volume, end, say)
        return NOT_RUNNABLE
    return READY


def _set_aside(task: Task, volume: Volume, *, in_image: bool) -> str | None:
    """Move former results out of COMMAND's way, where its volumes hold any; what went wrong."""
    folder = task.working_directory(volume.work)
    within = [
        each.text
        for each in parsed(task.fresh_paths("clear"), folder)
        if in_image or not volume.is_elsewhere(each.folder)
    ]
    first = task.entry.attempt == 1
    wanted = AsideRequest(task.name, tuple(within), folder, task.checkpoints, first, own=volume.own)
    try:
        set_aside(wanted)
    except OSError as error:
        return f"former results can't be moved aside: {error}"
    return None


def _prepare(
    environment: Mapping[str, str], task: Task, volume: Volume, *, in_image: bool
) -> Staged:
    """Files, secrets and what main.sh reads. Raises OvertakenError never, OSError."""
    paths = SAME if in_image else volume.to_be_placed()
    work = volume.work
    begun = time.monotonic()
    stores: dict[str, S3Store] = {}
    lock = threading.Lock()

    def store_of(bucket: str) -> S3Store:
        with lock:
            return stores.setdefault(bucket, S3Store(bucket))

    try:
        restored = patiently(lambda: place_outputs(task, work, paths), say)
        record = volume.root / "inputs.json"
        patiently(lambda: place_inputs(task, work, paths, record, store_of), say)
        took = time.monotonic() - begun if task.submission.input_paths else 0.0
        found = patiently(lambda: place_checkpoint(task, work, paths), say)
        secrets = _secrets(environment, task)
    except InputError as error:
        return Staged(refused=str(error), unstaged=True)
    except NotPlacedError as error:
        return Staged(refused=str(error))
    except SecretError as error:
        return Staged(refused=f"secret {error}")
    except StoreError as error:  # one that would be refused again
        return Staged(refused=str(error))
    finally:
        for store in stores.values():
            store.close()
    variables = variables_of(task, volume, secrets)
    submission = task.submission
    text = environment_text(variables, submission.command, submission.shell)
    replace_file(volume.main / "environment", [text], mode=_readable_by_main())
    replace_file(volume.main / "settings", [settings_text(task.working_directory(work))])
    if not in_image:
        meant = parsed((*task.kept, *task.checkpoints), task.working_directory(work))
        elsewhere = [each for each in meant if volume.is_elsewhere(each.folder)]
        replace_file(volume.main / "patterns", [patterns_text(elsewhere)])
    shutil.copyfile(Path(__file__).with_name("main.sh"), volume.main / "main.sh")
    return Staged(took, restored, found.files, found.lost)


def _readable_by_main() -> int:
    """The image says as which user COMMAND runs: no other container than its own can look."""
    return 0o644 if os.geteuid() == 0 else 0o600


def _secrets(environment: Mapping[str, str], task: Task) -> dict[str, str]:
    """The values of ``secret_env``. Raises SecretError for one that never can be had."""
    wanted = task.submission.secret_env
    if not wanted:
        return {}
    secrets = Secrets(lambda: environment.get("AWS_REGION"))

    def read() -> dict[str, str]:
        try:
            return secrets.read(wanted)
        except SecretError as error:
            if error.passing:
                raise StoreError(f"secret {error}") from None
            raise

    return patiently(read, say)


def variables_of(task: Task, volume: Volume, secrets: Mapping[str, str]) -> dict[str, str]:
    """What COMMAND has in its environment on top of its image's."""
    submission, index = task.submission, task.entry.index
    exchange = Layout().exchange_prefix(task.name, submission.run_id)
    found = {
        **submission.env,
        **secrets,
        "JOB_ID": submission.job_id,
        "JOB_ATTEMPT": str(task.entry.attempt),
        "QUEUE_ID": submission.queue_id,
        "RUNNER_WORK_DIR": task.working_directory(volume.work),
        "RUNNER_SPOT_NOTICE": str(volume.root / "spot-notice"),
        "RUNNER_EXCHANGE": f"{submission.store}/{exchange}",
    }
    if index is not None:
        found |= {"RUNNER_ARRAY_INDEX": str(index), "AWS_BATCH_JOB_ARRAY_INDEX": str(index)}
    return found


def main() -> int:
    """The container's process."""
    # As process 1 it would ignore it. Nothing is claimed that isn't durable.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    os.umask(0o022)
    try:
        return stage(os.environ, Volume.from_environment(os.environ))
    except (RunnerError, OSError) as error:
        say(str(error))
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
