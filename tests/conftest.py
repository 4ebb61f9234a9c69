"""What tests of several folders share: a world of one's own for the real commands."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_endpoint import Endpoint
from world import World

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background, by nohup or a CI's shell: what tests start is to hear Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Should the tests run on EC2: its notices are not for their daemons.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A clean folder with settings of its own; whatever was started in it is ended."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def endpoint() -> Iterator[Endpoint]:
    """One S3 endpoint for all tests of a session; each takes a bucket of its own."""
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()
