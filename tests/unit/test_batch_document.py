"""What AWS Batch honours of a document: a word on every field, every limit, every empty edge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_document import raw

from runner.batch import document_check
from runner.batch.document_check import BatchFacts, check_for_batch, notes, refused
from runner.errors import DocumentError
from runner.model.document import QueueSpec, parse_document
from runner.model.fields import JOB_FIELDS, QUEUE_FIELDS

FACTS = BatchFacts(store=True, image="python:3.12")
FARGATE = BatchFacts(store=True, image="i", fargate=True)
EC2 = BatchFacts(store=True, image="i", fargate=False)
CARRIED = "jobs: on EC2 each takes 2 vCPUs and 512MiB more, for the containers that carry its files"
MEMORY: dict[str, Any] = {"resources": {"memory": "1.5GiB", "cpus": 1}}
"""With what carries files it is one of Fargate's pairs, and nothing has to be told."""


def queue(*jobs: dict[str, Any], **fields: Any) -> QueueSpec:
    named = [{"job_id": f"j{n}", **MEMORY, **job} for n, job in enumerate(jobs)]
    return parse_document(raw(named, **{"max_parallel_jobs": "fit", **fields}))


def test_every_field_has_its_word() -> None:
    """A field that somebody adds would be passed over on AWS Batch in silence."""
    assert set(document_check.QUEUE_TABLE) == set(QUEUE_FIELDS)
    assert set(document_check.JOB_TABLE) == set(JOB_FIELDS)


SAID: dict[str, Any] = {
    "mounts": ["/d"],
    "image_options": ["--init-path"],
    "image_pull": "always",
    "keep_background": True,
    "create_working_directory": True,
    "pools": {"p": 1},
    "expands": "fan.json",
}
"""A value of each field that a table refuses."""


def test_every_refusal_of_the_tables_is_told() -> None:
    """The table would say that a field is refused, and a document that has it would be taken."""
    for name, why in document_check.QUEUE_TABLE.items():
        if why:
            assert refused(queue({}, **{name: SAID[name]}), FACTS) == [f"{name}: {why}"]
    for name, why in document_check.JOB_TABLE.items():
        if why:
            told = refused(queue({}, {name: SAID[name]}), FACTS)
            assert told == [f'jobs[1].{name}: {why} (job "j1")']
    taken = queue({"resources": {"p": 1}}, pools={"p": 1})
    assert [line.partition(":")[0] for line in refused(taken, FACTS)] == ["pools"]


def test_all_is_told_at_once_and_with_exit_2() -> None:
    """A document would have to be mended field by field."""
    some = queue({"image": ""}, {"keep_background": True, "env": {"AWS_BATCH_X": "1"}})
    with pytest.raises(DocumentError) as caught:
        check_for_batch(some, BatchFacts())
    assert [line.partition(":")[0] for line in caught.value.errors] == [
        "result_s3_bucket",
        "jobs[0].image",
        "jobs[1].keep_background",
        "jobs[1].env.AWS_BATCH_X",
    ]
    assert refused(queue({}, result_s3_bucket="bucket", image="i"), BatchFacts()) == []


REFUSED: list[tuple[dict[str, Any], BatchFacts, str]] = [
    ({"resources": {"memory": "2MiB"}}, EC2, "resources.memory: 2MiB: AWS Batch needs at least"),
    ({"resources": {"gpus": 1, "memory": "8GiB"}}, FARGATE, ".gpus: Fargate has no GPUs"),
    ({"resources": {"memory": "300GiB"}}, FARGATE, "resources: 1.5 vCPUs and 307,712 MiB: Fargate"),
    ({"timeout": "337h"}, FARGATE, ".timeout: 337h0m0s: Fargate ends every job after 336h0m0s"),
    ({"batch": {"shm": "1GiB"}}, FARGATE, ".batch.shm: Fargate's /dev/shm has no size of its own"),
    ({"batch": {"ephemeral_storage": "30GiB"}}, EC2, ".batch.ephemeral_storage: is Fargate's"),
    (
        {},
        BatchFacts(True, "i", fair_share=True),
        ".batch.share: is missing: the job queue shares fairly, and needs it of each job",
    ),
    (
        {"batch": {"share": "a"}},
        BatchFacts(True, "i", fair_share=False),
        ".batch.share: the job queue has no fair-share policy, and takes none",
    ),
    (
        {"batch": {"priority": 1}},
        BatchFacts(True, "i", fair_share=False),
        ".batch.priority: the job queue has no fair-share policy",
    ),
]


@pytest.mark.parametrize(("job", "facts", "told"), REFUSED)
def test_limits_are_checked_before_a_request_is_sent(
    job: dict[str, Any], facts: BatchFacts, told: str
) -> None:
    """A job would be taken by AWS Batch, and fail there or never start."""
    (line,) = refused(queue(job), facts)
    assert line.startswith("jobs[0]") and told in line


def test_another_job_queue_has_rules_of_its_own() -> None:
    """A job for a queue without shares would be refused for those of the document's queue."""
    job = {"batch": {"queue": "other"}}
    assert refused(queue(job), BatchFacts(True, "i", fair_share=True)) == []


NOTES: list[tuple[dict[str, Any], BatchFacts, str]] = [
    (
        {"resources": {}},
        EC2,
        "jobs[0].resources: says nothing of memory: on AWS Batch the job gets",
    ),
    ({"resources": {"cpus": 0.5, "memory": "1GiB"}}, EC2, "0.5 CPUs are 1 on EC2: it takes whole"),
    (
        {"resources": {"cpus": 3, "memory": "5GiB"}},
        FACTS,
        "jobs[0].resources: 3 CPUs and 5GiB make a Fargate task of 4 vCPUs and 8GiB (0.5",
    ),
    ({"resources": {"gpus": 1, "memory": "8GiB"}}, FACTS, "has GPUs: the job queue has to be one"),
    ({"resources": {"memory": "500GiB"}}, FACTS, "1 CPUs and 500GiB are more than Fargate has"),
    ({"batch": {"shm": "1GiB"}}, FACTS, ".batch.shm: is EC2's: the job queue has to be one of EC2"),
    ({"batch": {"ephemeral_storage": "30GiB"}}, FACTS, ".batch.ephemeral_storage: is Fargate's"),
    ({"array": 1}, EC2, "jobs[0].array: of one element is submitted as a plain job"),
    ({"timeout": "337h"}, FACTS, "jobs[0].timeout: 337h0m0s: on Fargate a job ends after 336h"),
    ({"term_grace": "2m"}, FARGATE, "2m0s are 1m30s on Fargate, which waits no"),
    ({"working_directory": "/srv"}, EC2, '.working_directory: "/srv" has to be in the image'),
]


@pytest.mark.parametrize(("job", "facts", "told"), NOTES)
def test_what_is_done_otherwise_is_told(job: dict[str, Any], facts: BatchFacts, told: str) -> None:
    """Somebody would pay for what they didn't ask for, or miss what they did."""
    assert [line for line in notes(queue(job), facts) if told in line], notes(queue(job), facts)
    assert notes(queue(MEMORY), EC2) == [CARRIED]


def test_one_by_one_is_told_with_the_flag_that_changes_it() -> None:
    """Two hundred samples would run one after another on a service made for thousands."""
    line, *others = notes(queue({}, {}, max_parallel_jobs=1), EC2)
    assert line.startswith("max_parallel_jobs: is 1") and "--max-parallel fit" in line
    assert others == notes(queue({}, max_parallel_jobs=1), EC2) == [CARRIED]


def test_each_edge_that_hands_on_nothing_is_named() -> None:
    """A job would look for a file in vain that lies in a container long gone."""
    some = [
        {},
        {"depends_on": ["j0"], "result_paths": ["r"]},
        {"depends_on": ["j1", "j0"], "output_paths": ["o"]},
        {"depends_on": ["j2"]},
    ]
    assert notes(queue(*some), EC2) == [
        CARRIED,
        'jobs[0]: "j0" declares neither result_paths nor output_paths, so it hands no files on to '
        '"j1", "j2"',
    ]
    shared = BatchFacts(True, "i", "efs:fs-01234567", fargate=False)
    assert notes(queue(*some), shared) == [CARRIED]
    many = queue({}, *({"depends_on": ["j0"]} for _ in range(25)))
    assert notes(many, EC2)[1].endswith('"j20" and 5 more')


def test_the_guides_page_shows_what_is_said() -> None:
    """Who follows the guide would see other words, or be refused."""
    page = (Path(__file__).parents[2] / "docs/guides/batch-document.md").read_text()
    (document,) = re.findall(r"^```json\n(.*?)^```$", page, re.M | re.S)
    shown = parse_document(document.encode())
    told = notes(shown, BatchFacts())
    assert refused(shown, BatchFacts()) == [] and len(told) == 5
    assert all(f"runner validate: warning: {line}\n" in page for line in told)


def test_what_an_image_holds_is_not_cleared() -> None:
    """A user would take the files of the image for moved aside, as they are everywhere else."""
    job = {"result_paths": ["a", {"path": "/opt/out/*", "fresh": "clear"}]}
    (told,) = [line for line in notes(queue(job), FARGATE) if "cleared" in line]
    assert told.startswith('jobs[0].result_paths[1]: "/opt/out/*" is cleared where')
    shared = BatchFacts(store=True, image="i", fargate=True, shared="efs:fs-1")
    assert not [line for line in notes(queue(job), shared) if "cleared" in line]
