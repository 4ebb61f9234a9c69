"""What tests of several folders share: a world of one's own for the real commands."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import postgres_server
import pytest
from account import Account, Laptop, account
from cloud import Cloud
from ec2_faults import RudeEc2
from elsewhere import Elsewhere
from imds import Imds
from installed import Server, build_bundle, install
from lab import Machine, build_root, what_is_missing
from launched import Launched
from postgres_server import PostgresServer
from s3_endpoint import Endpoint
from world import World

# Begun in the background, by nohup or a CI's shell: what tests start is to hear what they send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for ignored in (signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.SIG_DFL)

# Should the tests run on EC2: its notices are not for their daemons.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: tests run side by side, and nobody is to wait for the last one alone."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all tests of a session. Where there can be none: skipped, but never in CI."""
    if missing := postgres_server.what_is_missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    made = PostgresServer()
    yield made
    made.close()


@pytest.fixture(scope="session")
def aws() -> Iterator[Account]:
    """moto's, with a server of its own; each test has a bucket and queues of its own."""
    with account() as made:
        yield made


@pytest.fixture(scope="session")
def lab_root() -> Path:
    """The file system of the lab's machines. Where there can be none: skipped, but never in CI."""
    if missing := what_is_missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return build_root()


@pytest.fixture
def machine(lab_root: Path) -> Iterator[Callable[..., Machine]]:
    """Makes machines, which are not yet booted; all of them are gone at the test's end."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Machine(lab_root, **options))


@pytest.fixture(scope="session")
def bundle(lab_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an operator installs."""
    return build_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def installed_root(lab_root: Path, bundle: Path) -> Iterator[Path]:
    """The lab's root with the bundle installed, for many machines."""
    with Machine(lab_root) as made:
        install(made, bundle)
        yield made.disk


@pytest.fixture
def server(installed_root: Path) -> Iterator[Callable[..., Server]]:
    """Makes machines with the product installed, which are not yet booted."""
    with ExitStack() as stack:
        yield lambda **options: Server(stack.enter_context(Machine(installed_root, **options)))


@pytest.fixture
def imds() -> Iterator[Imds]:
    """A metadata service, on loopback."""
    made = Imds()
    yield made
    made.close()


@pytest.fixture
def elsewhere(tmp_path: Path, endpoint: Endpoint) -> Iterator[Elsewhere]:
    """A laptop, and a machine on EC2 for it to ask."""
    made = Elsewhere(tmp_path, endpoint)
    yield made
    made.close()


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """An account that says no; each test says anew what its role may."""
    made = Cloud()
    yield made
    made.close()


@pytest.fixture
def launched(cloud: Cloud, bundle: Path) -> Launched:
    """Makes launches in that account."""
    return Launched(cloud, bundle)


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
