"""An AWS account, an EC2 that is rude on demand, and a laptop that launches there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from account import Account, Laptop
from ec2_faults import RudeEc2


@pytest.fixture
def ec2(aws: Account) -> Iterator[RudeEc2]:
    """Stands before moto, and does as it does until it is told otherwise."""
    made = RudeEc2(aws.endpoint.port)
    yield made
    made.close()


@pytest.fixture
def laptop(aws: Account, ec2: RudeEc2, tmp_path: Path) -> Laptop:
    """A user's folder with a document; its calls go by way of ``ec2``."""
    made = Laptop(aws, tmp_path)
    made.url = ec2.url
    return made
