"""One queue, run here, on AWS Batch, and there by a coordinator: it comes to the same, to the byte
of its results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from on_batch import OnBatch, Reacting, account_with, real_commands
from place_comparison import outcome, stored_below
from place_documents import DOCUMENTS
from s3_endpoint import Endpoint

from runner.core.run_mode import RunMode
from runner.engine.batch import backend
from runner.model import settings as model_settings
from runner.model.document import dump_document, parse_document
from runner.results.layout import Layout
from runner.results.stores import open_store
from runner.service.batch_place import BatchRun
from runner.service.coordinator import CoordinatorRequest, coordinate
from runner.service.foreground import RunRequest, run
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext

FAN_OUT = Path(__file__).parents[2] / "examples" / "patterns" / "fan-out.yaml"


@pytest.fixture
def on_batch(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnBatch]:
    account = account_with(endpoint, second_s=1.0)
    for name, value in {**endpoint.env, **account.env}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(backend, "CLAIM_AGAIN", 0.05)
    yield OnBatch(account, endpoint.bucket(), tmp_path / "batch", real_commands)
    account.close()


def run_here(document: dict[str, Any], bucket: str, folder: Path) -> tuple[dict[str, Any], int]:
    """By processes of this machine, in a folder of its own."""
    (folder / "work").mkdir(parents=True)
    repository = QueueRepository(folder / "state", folder / "logs")
    settings = model_settings.Settings(
        folder / "state", folder / "logs", folder / "run", None, disk_reserve=0
    )
    context = RunContext({"PATH": "/usr/bin:/bin"}, str(folder / "work"))
    told = {**document, "queue_id": "q", "result_s3_bucket": bucket, "result_s3_prefix": "here"}
    request = RunRequest(parse_document(json.dumps(told).encode()), RunMode(), context)
    ended = run(repository, settings, request, Reacting())
    return json.loads(repository.queue_paths("q").projection.read_text()), int(ended.exit_code)


def run_by_coordinator(
    document: dict[str, Any], on_batch: OnBatch, endpoint: Endpoint, folder: Path
) -> tuple[dict[str, Any], int]:
    """By a coordinator on a host that knows nothing: all that it goes by is in the store."""
    where = f"s3://{on_batch.bucket}/by-coordinator"
    told = {**document, "queue_id": "q", "result_s3_bucket": on_batch.bucket}
    queue = parse_document(json.dumps({**told, "result_s3_prefix": "by-coordinator"}).encode())
    with closing(open_store(where)) as store:
        store.put_bytes(Layout.document_key, dump_document(queue).encode())
    settings = replace(
        on_batch.settings,
        state_dir=folder / "state",
        log_dir=folder / "logs",
        run_dir=folder / "run",
        control_interval=0.2,
    )
    batch = BatchRun(on_batch.options(), settings)
    context = RunContext({}, None, heartbeat=1.0)
    repository = QueueRepository(settings.state_dir, settings.log_dir)
    code = coordinate(repository, settings, CoordinatorRequest(where, context, batch), Reacting())
    return json.loads(endpoint.read(on_batch.bucket, "by-coordinator/queue-state.json")), int(code)


def everywhere(
    document: dict[str, Any], on_batch: OnBatch, endpoint: Endpoint, folder: Path
) -> tuple[object, object, object]:
    """What a document comes to here, on AWS Batch, and there by a coordinator."""
    state, code = run_here(document, on_batch.bucket, folder / "here")
    here = outcome(state, code, stored_below(endpoint, on_batch.bucket, "here"))
    ended = on_batch.run_document({**document, "result_s3_prefix": "there"})
    there = outcome(
        on_batch.whole_state(),
        int(ended.exit_code),
        stored_below(endpoint, on_batch.bucket, "there"),
    )
    state, code = run_by_coordinator(document, on_batch, endpoint, folder / "coordinator")
    stored = stored_below(endpoint, on_batch.bucket, "by-coordinator")
    return here, there, outcome(state, code, stored)


@pytest.mark.share
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_queue_comes_to_the_same_here_and_there(
    name: str, on_batch: OnBatch, endpoint: Endpoint, tmp_path: Path
) -> None:
    """The same document would mean one thing on a machine, and another on AWS Batch."""
    text = json.dumps(DOCUMENTS[name]).replace("BUCKET", on_batch.bucket)
    here, there, coordinated = everywhere(json.loads(text), on_batch, endpoint, tmp_path)
    assert there == here
    assert coordinated == here


def test_a_fan_out_comes_to_the_same_here_and_there(
    on_batch: OnBatch, endpoint: Endpoint, tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    """Samples would get others' parts, or the merge would miss some."""
    count = max(2, scaled(200))
    text = FAN_OUT.read_text().replace("200", str(count))
    document = {**yaml.safe_load(text), "queue_id": "q"}
    here, there, coordinated = everywhere(document, on_batch, endpoint, tmp_path)
    assert there == here
    assert coordinated == here
    total = endpoint.read(on_batch.bucket, "there/jobs/merge/total.txt")
    assert total == f"{count} samples, sum 40504500\n".encode()
