"""The permissions that the documentation names are enough, and none of them is too much."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guarded import Guarded
from world import World

PAGE = Path(__file__).parents[2] / "docs/reference/permissions.md"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    guarded = Guarded()
    yield guarded
    guarded.endpoint.close()


def told(bucket: str) -> dict[str, Any]:
    """The policy as the documentation has it, for this bucket and a queue's default prefix."""
    found = re.search(r"```json\n(\{\"Version\".*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    text = found[1].replace("BUCKET", bucket).replace("PREFIX", "queues/q")
    policy: dict[str, Any] = json.loads(text)
    return policy


ACTIONS = [action for each in told("b")["Statement"] for action in each["Action"]]
NEEDED = [action for action in ACTIONS if action != "s3:ListMultipartUploadParts"]
"""Without that one a large file that was cut begins anew."""
JOB = {
    "job_id": "a",
    "command": "head -c 9000000 /dev/zero > big; echo x > small",
    "timeout": "1m",
    "result_paths": ["big", "small"],
}


def test_what_the_documentation_names_is_enough(world: World, guarded: Guarded) -> None:
    """Who follows the documentation would be refused."""
    guarded.allow(told(guarded.bucket))
    world.env.update(guarded.env)
    document = world.document(JOB, result_s3_bucket=guarded.bucket)
    done = world.call("run", document)
    assert done.returncode == 0, done
    assert "work goes on" not in done.stderr and "done without" not in done.stderr
    fetched = world.call("results", f"s3://{guarded.bucket}/queues/q", "--output", "back")
    assert fetched.returncode == 0, fetched
    assert (world.home / "back/a/big").stat().st_size == 9_000_000


@pytest.mark.parametrize("action", NEEDED)
def test_what_is_missing_is_named(world: World, guarded: Guarded, action: str) -> None:
    """A person would have to guess which of six permissions a role lacks."""
    policy = told(guarded.bucket)
    for statement in policy["Statement"]:
        statement["Action"] = [each for each in statement["Action"] if each != action]
    guarded.allow(policy)
    world.env.update(guarded.env)
    done = world.call("run", world.document(JOB, result_s3_bucket=guarded.bucket))
    assert done.returncode == 2, done
    assert f"needs the permission {action}" in done.stderr
    assert not world.state.exists()
