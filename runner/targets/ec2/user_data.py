"""What a new machine does first: a stand-in until the real one is merged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Shipped:
    """An object in the bucket, and the sha256 of its bytes."""

    key: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Boot:
    """All that user-data needs to know."""

    region: str
    bucket: str
    launch: str
    queue_id: str
    bundle: Shipped
    document: Shipped
    workdir: Shipped | None
    settings: Mapping[str, str]
    expires: int
    keep_on_failure: int


def user_data(boot: Boot) -> bytes:
    """Ready for RunInstances."""
    return f"#!/bin/bash\n# {json.dumps(asdict(boot))}\n".encode()
