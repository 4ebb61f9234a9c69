"""A login by IAM tokens: a new one for each connection, over TLS only, to a server that checks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from runner.errors import UsageError
from runner.fleet.cli.fleet_settings import FleetEnvironment, postgres_address
from runner.fleet.connection import DatabaseAwayError
from runner.fleet.database import open_database
from runner.fleet.iam_login import IamLogin, split_login
from runner.fleet.records import JobOptions, TaskItem

HOST = "fleet.abc123.eu-central-1.rds.amazonaws.com"
ROLE = "worker_iam"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "AKIATESTS"), ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)


def test_a_token_is_what_rds_expects() -> None:
    """RDS would refuse it; it is the one that boto3's client of RDS makes."""
    import boto3

    address, login = split_login(f"postgresql://{ROLE}@{HOST}/db?iam=1")
    assert login is not None and address.endswith("/db?sslmode=verify-full")
    assert (login.host, login.port, login.user, login.region) == (HOST, 5432, ROLE, "eu-central-1")
    client = boto3.Session().client("rds", region_name="eu-central-1")
    for _ in range(9):  # both in the same second
        wanted = client.generate_db_auth_token(DBHostname=HOST, Port=5432, DBUsername=ROLE)
        if (token := login.token()) == wanted:
            break
    assert token == wanted
    parts = urlsplit(f"https://{token}")
    found = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert (parts.netloc, found["Action"], found["DBUser"]) == (f"{HOST}:5432", "connect", ROLE)
    assert found["X-Amz-Credential"].endswith("/eu-central-1/rds-db/aws4_request")
    assert found["X-Amz-Expires"] == "900" and len(found["X-Amz-Signature"]) == 64


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql://u:secret@h/d?iam=1", "has a password"),
        ("postgresql://u@h/d?iam=1&password=secret", "has a password"),
        ("postgresql://h/d?iam=1", "must name its user and one host"),
        ("postgresql://u@a,b/d?iam=1", "must name its user and one host"),
        ("postgresql://u@h/d?iam=1&sslmode=require", "sslmode=verify-full only"),
        ("postgresql://u@h/d?iam=yes", "is not 1, nor a region"),
    ],
)
def test_an_address_that_would_give_a_token_away_is_refused(address: str, told: str) -> None:
    """Whoever answers in the database's place would have a login for a quarter of an hour."""
    with pytest.raises(UsageError, match=told) as error:
        open_database(address)
    assert "secret" not in str(error.value)


def test_the_variables_ask_for_tokens() -> None:
    """Only who writes a whole address could do without a password."""
    names = {"BEC_SQL_USER": "u", "BEC_SQL_IAM": "1", "BEC_SQL_SSLROOTCERT": "/etc/rds.pem"}
    address, login = split_login(postgres_address(HOST, FleetEnvironment({}, names)))
    assert login is not None and (login.user, login.region) == ("u", "eu-central-1")
    assert "sslrootcert=/etc/rds.pem" in address and "sslmode=verify-full" in address
    assert split_login("postgresql://u:p@h/d?iam=0") == ("postgresql://u:p@h/d", None)
    assert split_login("postgresql://u:p@h/d")[1] is None


@pytest.fixture
def rds(postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A server that lets the role in with the newest token, which it learns as it is signed."""
    found: dict[str, Any] = {"tokens": []}
    name = postgres.database().rpartition("/")[2]
    sign = IamLogin.token

    def token(login: IamLogin) -> str:
        made = sign(login)
        found["tokens"].append(made)
        with postgres.connect() as connection:
            connection.execute(f"ALTER ROLE {ROLE} PASSWORD '{made}' VALID UNTIL 'infinity'")
        return made

    monkeypatch.setattr(IamLogin, "token", token)
    with postgres.connect() as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER")
    with postgres.tls(tmp_path) as certificate, postgres.checks_password_of(ROLE):
        found["certificate"] = certificate
        base = f"postgresql://{ROLE}@localhost:{postgres.port}/{name}"
        found["address"] = f"{base}?iam=us-east-1&sslrootcert={certificate}"
        found["plain"] = f"{base}?sslmode=verify-full&sslrootcert={certificate}"
        yield found
    with postgres.connect(name) as connection:
        connection.execute(f"REASSIGN OWNED BY {ROLE} TO postgres")
        connection.execute(f"DROP ROLE {ROLE}")


def test_a_token_is_the_password_and_is_renewed(rds: dict[str, Any], postgres: Any) -> None:
    """A worker would live for 15 minutes, or its database's password lie on each machine."""
    with pytest.raises(DatabaseAwayError):
        open_database(rds["plain"]).migrate()
    database = open_database(rds["address"])
    database.migrate()
    job = database.create_job("j", "{}", JobOptions(command="true")).id
    database.tasks.enqueue(job, [TaskItem("a")])
    assert len(rds["tokens"]) == 1, "one connection, one token"
    with postgres.connect() as connection:
        connection.execute(f"ALTER ROLE {ROLE} VALID UNTIL '2001-01-01'")  # it is over
        assert database.views.backlog(job).due == 1, "what is connected goes on"
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [ROLE]
        )
    with pytest.raises(DatabaseAwayError):
        database.views.backlog(job)
    assert database.views.backlog(job).due == 1
    other = database.another()
    assert other.views.backlog(job).due == 1
    assert len(rds["tokens"]) == 3
    assert not any(token in database.describe() for token in rds["tokens"])
    other.close()
    database.close()


def test_a_token_is_sent_to_no_other_server(rds: dict[str, Any]) -> None:
    """A name in DNS would be enough to get one."""
    for address in (
        rds["address"].replace("localhost", "127.0.0.1"),  # another name than the certificate's
        rds["address"].replace("sslrootcert=", "sslrootcert=/nowhere"),
    ):
        database = open_database(address)
        with pytest.raises(DatabaseAwayError, match="certificate") as told:
            database.migrate()
        assert "X-Amz-Signature" not in str(told.value)
        database.close()


def test_missing_credentials_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A traceback of botocore would be all that an operator sees."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    database = open_database(f"postgresql://{ROLE}@{HOST}/db?iam=1")
    with pytest.raises(DatabaseAwayError, match="no IAM token: "):
        database.migrate()
