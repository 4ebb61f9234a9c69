"""Which regions a verb asks, and asking them all at once.

A region that fails is told with its reason and never left out silently: what isn't listed there may
cost money all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError
from runner.aws.timeouts import PATIENCE, together, within
from runner.errors import UsageError
from runner.model.messages import quoted

ALL = "all"

_REGION = re.compile(r"[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RegionAnswer(Generic[_T]):
    """What each region answered, in the order they were asked in, and which failed with what."""

    answers: list[tuple[Ec2, _T]]
    failed: list[tuple[str, str]]


def parse_regions(text: str | None) -> list[str] | None:
    """``R[,R2…|all]``: the regions named, [] for all of them, None for boto3's own choice.

    Raises UsageError.
    """
    if text is None:
        return None
    named = [word.strip() for word in text.split(",")]
    if ALL in named:
        if named != [ALL]:
            raise UsageError(f"--region: {quoted(ALL)} is all of them; give it alone")
        return []
    for word in named:
        if not _REGION.fullmatch(word):
            raise UsageError(f"--region: {quoted(word)} is no region such as eu-west-1, or all")
    return list(dict.fromkeys(named))


def _of_region(region: str | None) -> Ec2:
    """A client beside many others: they share boto3's session."""
    return Ec2(region, own_session=False)


def clients(
    regions: Sequence[str] | None, make: Callable[[str | None], Ec2] = _of_region
) -> list[Ec2]:
    """A client for each region; see parse_regions. Raises UsageError where nobody says which,
    AwsError where all of them are meant and EC2 doesn't name them."""
    if regions:
        return [make(region) for region in regions]
    first = make(None)
    try:
        _ = first.region
    except AwsError as error:
        if error.code != "NoRegionError":
            raise
        raise UsageError("no region is set: give --region, or set AWS_REGION") from error
    if regions is None:
        return [first]
    return [make(region) for region in within(PATIENCE, first.regions)]


def ask(
    clients: Sequence[Ec2], question: Callable[[Ec2], _T], patience: float = PATIENCE
) -> RegionAnswer[_T]:
    """Put one question to all regions at once; one that is silent for ``patience`` seconds has
    failed."""
    for ec2 in clients:
        # What boto3 loads for the first client is none of a region's silence.
        _ = ec2.client
    answers: list[tuple[Ec2, _T]] = []
    failed: list[tuple[str, str]] = []
    found = together([partial(question, ec2) for ec2 in clients], patience)
    for ec2, answer in zip(clients, found, strict=True):
        if isinstance(answer, AwsError):
            failed.append((ec2.region, str(answer)))
        elif isinstance(answer, Exception):
            raise answer
        else:
            answers.append((ec2, answer))
    return RegionAnswer(answers, failed)
