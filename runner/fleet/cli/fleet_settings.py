"""What the commands of the fleet are told by flags, variables and ``.env``: which database, where.

Every ``BEC_X`` has a ``RUNNER_FLEET_X`` beside it, which wins. A flag wins over both, a variable
over the file ``.env`` in the folder that the command was called in.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from runner.errors import UsageError
from runner.fleet.database import FleetDatabase, open_database
from runner.model.messages import quoted
from runner.model.settings import Settings, load_settings
from runner.store.paths import home_folder

DATABASE = "RUNNER_FLEET"
"""The variable that names the database: a folder, or ``postgresql://…``."""

SOURCE_BUCKET = "archive.tbrc.org"
"""As the guide has it."""

READ = ("BEC_", "RUNNER_", "AWS_")
"""What is taken from ``.env``: nothing else of it concerns runner."""


@dataclass(frozen=True, slots=True)
class FleetEnvironment:
    """The variables, those of ``.env`` among them. ``own``: as tasks have them, less secrets."""

    own: Mapping[str, str]
    all: Mapping[str, str]

    def get(self, name: str) -> str | None:
        """``RUNNER_FLEET_<name>``, else ``BEC_<name>``; an empty one is as good as none."""
        return self.all.get(f"RUNNER_FLEET_{name}") or self.all.get(f"BEC_{name}") or None

    @property
    def region(self) -> str | None:
        """The region of the queues and buckets, if any is named."""
        return self.get("REGION") or self.all.get("AWS_REGION") or None


def environment() -> FleetEnvironment:
    """As of now. Raises UsageError for a ``.env`` that can't be read."""
    own = dict(os.environ)
    file = _dotenv(Path(".env"))
    for name, value in file.items():
        if name.startswith("AWS_"):
            os.environ.setdefault(name, value)  # boto3 reads no other place
    return FleetEnvironment({**_for_tasks(file), **own}, {**file, **own})


def _for_tasks(file: Mapping[str, str]) -> dict[str, str]:
    """What of ``.env`` is for tasks, too, as if it had been exported."""
    return {name: value for name, value in file.items() if not name.startswith("RUNNER_")}


def _dotenv(path: Path) -> dict[str, str]:
    """``NAME=value`` lines, ``export`` before them or not; quotes around a value are dropped."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: can't be read: {error}") from None
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name, value = name.strip(), value.strip()
        if not name.startswith(READ):
            continue
        if not equals:
            raise UsageError(f"{path}:{number}: is not NAME=value")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[name] = value
    return found


def add_database(parser: argparse.ArgumentParser) -> None:
    """Which fleet."""
    parser.add_argument(
        "--database",
        metavar="DIR|postgresql://…",
        help=f"the fleet's database (default: {DATABASE}, else BEC_SQL_HOST and so on, else a "
        "folder of this machine)",
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """Where the manifests of volumes are."""
    parser.add_argument(
        "--s3-source-bucket",
        metavar="B",
        help="the bucket of images and manifests, told to tasks as S3_SOURCE_BUCKET (default: "
        f"BEC_SOURCE_S3_BUCKET, else {SOURCE_BUCKET})",
    )


def source_bucket(arguments: argparse.Namespace, found: FleetEnvironment) -> str:
    """The one that is meant."""
    return arguments.s3_source_bucket or found.get("SOURCE_S3_BUCKET") or SOURCE_BUCKET


def settings(**overrides: str | None) -> Settings:
    """The runner's own settings."""
    return load_settings(
        os.environ,
        root=os.geteuid() == 0,
        home=home_folder(os.environ),
        overrides={name: value for name, value in overrides.items() if value is not None},
    )


def address(arguments: argparse.Namespace, found: FleetEnvironment) -> str:
    """Which database is meant. Raises UsageError."""
    if arguments.database is not None:
        return str(arguments.database)
    if given := found.all.get(DATABASE) or found.get("DATABASE"):
        return given
    if host := found.get("SQL_HOST"):
        return postgres_address(host, found)
    return str(settings().state_dir / "fleet")


def postgres_address(host: str, found: FleetEnvironment) -> str:
    """Of the seed's five variables, and three more about TLS and tokens."""
    port = found.get("SQL_PORT") or "5432"
    if not port.isdecimal():
        raise UsageError(f"BEC_SQL_PORT: {quoted(port)} is no port")
    user, password = found.get("SQL_USER") or "postgres", found.get("SQL_PASSWORD")
    secret = f":{quote(password, safe='')}" if password else ""
    name = found.get("SQL_DATABASE") or "pipeline_v1"
    query = {
        "sslmode": found.get("SQL_SSLMODE"),
        "sslrootcert": found.get("SQL_SSLROOTCERT"),
        "iam": found.get("SQL_IAM"),
    }
    told = {key: value for key, value in query.items() if value}
    more = f"?{urlencode(told, quote_via=quote, safe='')}" if told else ""
    return f"postgresql://{quote(user, safe='')}{secret}@{host}:{port}/{quote(name, safe='')}{more}"


@contextmanager
def opened(
    arguments: argparse.Namespace, found: FleetEnvironment, patience: float | None = None
) -> Iterator[FleetDatabase]:
    """The database that is meant, its schema checked; ``patience``: see open_database."""
    database = open_database(address(arguments, found), patience)
    try:
        database.check_schema()
        yield database
    finally:
        database.close()
