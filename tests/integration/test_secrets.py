"""Secrets read by reference: from moto as AWS answers, from a stub where AWS would be rude."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from imds import Imds
from s3_endpoint import Endpoint
from secrets_stub import (
    DENIED,
    EXPIRED,
    GET_PARAMETERS,
    GET_SECRET,
    HANG,
    INTERNAL,
    THROTTLED,
    Fault,
    Raw,
    SecretsStub,
)

from runner.aws.errors import ErrorKind
from runner.aws.secrets import SecretError, Secrets, unfit, value_of
from runner.core.actions import StartAttempt
from runner.engine import secret_fetches as fetching
from runner.engine.secret_fetches import (
    Delayed,
    Fetched,
    Ready,
    SecretFetches,
    SecretRefused,
    find_region,
)

VALUE = "hunter2-hunter2"
ENVIRONMENT = {"AWS_REGION": "us-east-1"}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretsStub]:
    """This process talks to it."""
    stub = SecretsStub()
    for name, value in stub.env.items():
        monkeypatch.setenv(name, value)
    yield stub
    stub.close()


def secrets_in(region: str | None = "us-east-1") -> Secrets:
    return Secrets(lambda: region)


def refused(secrets: Secrets, **wanted: str) -> SecretError:
    with pytest.raises(SecretError) as caught:
        secrets.read(wanted)
    error = caught.value
    assert VALUE not in str(error) and VALUE not in repr(error)
    return error


# -- as AWS answers --------------------------------------------------------------------------


@pytest.fixture
def aws(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Clients that store secrets in moto, by service; this process reads there."""
    import boto3

    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    return {
        name: boto3.session.Session().client(name, region_name="eu-west-1")
        for name in ("ssm", "secretsmanager")
    }


def test_what_is_stored_is_what_a_variable_gets(aws: dict[str, Any]) -> None:
    """A password with a line feed, or a key of a database's secret, would come out changed."""
    odd = "a b\n'\"$HOME\té😀\n"
    aws["ssm"].put_parameter(Name="/t/odd", Value=odd, Type="SecureString")
    aws["ssm"].put_parameter(Name="plain", Value="one", Type="String")
    aws["ssm"].put_parameter(Name="plain", Value="two", Type="String", Overwrite=True)
    arn = aws["secretsmanager"].create_secret(
        Name="t/db", SecretString='{"user": "me", "port": 5432, "tls": true, "none": ""}'
    )["ARN"]
    found = secrets_in("eu-west-1").read(
        {
            "ODD": "ssm:/t/odd",
            "OLD": "ssm:plain:1",
            "NEW": "ssm:plain",
            "USER": "secretsmanager:t/db#user",
            "PORT": f"secretsmanager:{arn}#port",
            "TLS": "secretsmanager:t/db#tls",
            "NONE": "secretsmanager:t/db#none",
            "ALL": "secretsmanager:t/db",
        }
    )
    assert found["ODD"] == odd and (found["OLD"], found["NEW"]) == ("one", "two")
    assert (found["USER"], found["PORT"], found["TLS"], found["NONE"]) == ("me", "5432", "true", "")
    assert found["ALL"].startswith('{"user"')


def test_an_arns_region_wins_over_the_machines(aws: dict[str, Any]) -> None:
    """A secret of another region could not be named at all."""
    arn = aws["secretsmanager"].create_secret(Name="t/there", SecretString="there")["ARN"]
    assert ":eu-west-1:" in arn
    assert secrets_in("us-west-2").read({"A": f"secretsmanager:{arn}"}) == {"A": "there"}
    error = refused(secrets_in("us-west-2"), A="secretsmanager:t/there")
    assert str(error) == "secretsmanager:t/there: there is no such secret in us-west-2"


def test_a_binary_secret_is_refused_in_words(aws: dict[str, Any]) -> None:
    """A job would get base64, or a traceback."""
    aws["secretsmanager"].create_secret(Name="t/binary", SecretBinary=b"\x00\x01")
    error = refused(secrets_in("eu-west-1"), A="secretsmanager:t/binary")
    assert not error.passing
    assert str(error) == "secretsmanager:t/binary: is binary; a variable takes a text only"


def test_a_machine_is_in_its_own_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine where nobody has set a region, no secret could be named without an ARN."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with closing(Imds()) as imds:
        imds.data["placement/region"] = "ap-south-1"
        for name, value in imds.env.items():
            monkeypatch.setenv(name, value)
        assert find_region({}) == "ap-south-1"
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
        assert find_region({}) == "eu-north-1"
        assert find_region({"AWS_REGION": "eu-west-3"}) == "eu-west-3"


def test_no_region_at_all_is_told(aws: dict[str, Any]) -> None:
    """A laptop without settings would only say that an endpoint can't be reached."""
    error = refused(secrets_in(None), A="ssm:/a")
    assert "AWS_REGION or the ARN of the secret names one" in str(error)


# -- what is asked ---------------------------------------------------------------------------


def test_parameters_are_asked_for_by_tens(stub: SecretsStub) -> None:
    """A job with many would be slow to start, and the account's rate soon used up."""
    stub.parameters = {f"/p/{n}": str(n) for n in range(23)}
    found = secrets_in().read({f"V{n}": f"ssm:/p/{n}" for n in range(23)})
    assert found == {f"V{n}": str(n) for n in range(23)}
    assert [len(call["Names"]) for call in stub.calls(GET_PARAMETERS)] == [10, 10, 3]


def test_two_keys_of_a_secret_are_of_one_version(stub: SecretsStub) -> None:
    """A rotation between two calls would give a user's name and another's password."""
    stub.secrets = {"db": {"SecretString": '{"user": "u", "password": "p"}'}}
    wanted = {"U": "secretsmanager:db#user", "P": "secretsmanager:db#password"}
    assert secrets_in().read(wanted) == {"U": "u", "P": "p"}
    assert len(stub.calls(GET_SECRET)) == 1


def test_the_one_that_is_denied_is_named(stub: SecretsStub) -> None:
    """Of ten parameters a person would not know which one lacks its permission."""
    stub.parameters = {"/a": "1", "/b": "2", "/c": "3"}
    stub.fail(GET_PARAMETERS, DENIED)  # of all three
    real = stub._good

    def only_b_is_denied(target: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if request["Names"] == ["/b"]:
            return 400, {"__type": "AccessDeniedException", "message": "not authorized"}
        return real(target, request)

    stub._good = only_b_is_denied  # type: ignore[method-assign]
    error = refused(secrets_in(), A="ssm:/a", B="ssm:/b", C="ssm:/c")
    needs = "it needs ssm:GetParameters, and kms:Decrypt for a key of your own"
    assert str(error) == f"ssm:/b: AccessDeniedException: not authorized; {needs}"
    assert error.kind is ErrorKind.DENIED and not error.passing


@pytest.mark.parametrize(
    ("fault", "passing"),
    [
        (THROTTLED, True),
        (INTERNAL, True),
        (EXPIRED, True),
        (Fault(400, "InvalidSignatureException", "Signature expired: 1 is now earlier"), True),
        (Raw(b"<html>a hotel's page</html>"), True),
        (Raw(b"{}"), True),
        (DENIED, False),
        (Fault(400, "UnrecognizedClientException", "The security token is invalid"), False),
        (Fault(400, "InvalidSignatureException", "does not match"), False),
        (Fault(400, "DecryptionFailure"), False),
        (Fault(400, "InvalidRequestException", "it was marked for deletion"), False),
        (Fault(400, "ResourceNotFoundException"), False),
    ],
)
def test_what_passes_and_what_is_final(
    stub: SecretsStub, fault: Fault | Raw, passing: bool
) -> None:
    """A busy minute of AWS would fail a night's work, or a wrong policy hold it up all night."""
    stub.secrets = {"s": {"SecretString": VALUE}}
    stub.parameters = {"/s": VALUE}
    stub.always = {GET_SECRET: fault, GET_PARAMETERS: fault}
    secrets = secrets_in()
    assert refused(secrets, A="secretsmanager:s").passing is passing
    assert refused(secrets, A="ssm:/s").passing is passing
    stub.always = {}
    assert secrets.read({"A": "secretsmanager:s", "B": "ssm:/s"}) == {"A": VALUE, "B": VALUE}


def test_new_credentials_are_seen(stub: SecretsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys renewed on a laptop would not help before a new start."""
    stub.parameters = {"/s": VALUE}
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    secrets = secrets_in()
    error = refused(secrets, A="ssm:/s")
    assert error.kind is ErrorKind.NO_CREDENTIALS and "there are no AWS credentials" in str(error)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new")
    assert secrets.read({"A": "ssm:/s"}) == {"A": VALUE}


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (VALUE, "is not a JSON object, so it has no keys"),
        (f'["{VALUE}"]', "is not a JSON object, so it has no keys"),
        ("[" * 60_000, "is not a JSON object, so it has no keys"),
        (f'{{"other": "{VALUE}"}}', "its JSON object has no such key"),
        (f'{{"k": ["{VALUE}"]}}', "what its key holds is neither a text nor a number"),
        ('{"k": null}', "what its key holds is neither a text nor a number"),
    ],
)
def test_a_key_that_is_not_there_is_told_without_the_secret(secret: str, why: str) -> None:
    """The secret itself would stand in the state, in S3 and on the screen."""
    with pytest.raises(SecretError) as caught:
        value_of("secretsmanager:s#k", secret, "k")
    error: BaseException | None = caught.value
    assert str(error) == f"secretsmanager:s#k: {why}"
    while error is not None:
        assert VALUE not in f"{error!r} {vars(error)}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a\0b", "holds a NUL character"),
        ("a\ud800", "holds half a character"),
        ("x" * 131_071, "is too long: 131,073 bytes with its name, at most 131,071"),
        ("é" * 65_535, "is too long: 131,072 bytes"),
        ("", None),
        ("x" * 131_069, None),
    ],
)
def test_what_no_variable_can_hold(text: str, why: str | None) -> None:
    """The start would end in a bug's words, or be tried without end."""
    found = unfit("A", text)
    assert found is None if why is None else found is not None and found.startswith(why)


# -- an attempt that waits -------------------------------------------------------------------


def action(job: int = 0, token: str = "t") -> StartAttempt:
    return StartAttempt(job, 1, token, 0, 0)


def fetched(wanted: dict[str, str], times: int = 1) -> list[Fetched]:
    """What the engine is told of so many tries of one job."""

    async def run() -> list[Fetched]:
        told: asyncio.Queue[Fetched] = asyncio.Queue()
        fetches = SecretFetches(
            {"AWS_REGION": "us-east-1"}, lambda _, found: told.put_nowait(found)
        )
        found = []
        for _ in range(times):
            fetches.begin(action(), wanted)
            found.append(await told.get())
        fetches.close()
        return found

    return asyncio.run(run())


def test_values_show_in_no_repr(stub: SecretsStub) -> None:
    """A log line of the event loop, or of a bug, would hold them."""
    stub.parameters = {"/s": VALUE}
    (found,) = fetched({"A": "ssm:/s"})
    assert isinstance(found, Ready) and found.values == {"A": VALUE}
    assert VALUE not in repr(found)


def test_a_try_ends_in_time_whatever_hangs(
    stub: SecretsStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dead endpoint would keep the only place of a queue for as long as it is dead."""
    monkeypatch.setattr(fetching, "PATIENCE", 0.2)
    stub.always = {GET_PARAMETERS: HANG}
    (found,) = fetched({"A": "ssm:/s"})
    stub.release()
    assert isinstance(found, Delayed) and found.seconds >= 0.5
    assert found.reason.startswith("fetching secrets: no answer for")


def test_no_credentials_are_final_only_after_a_while(
    stub: SecretsStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metadata service that is late after a boot would fail every job; a laptop without keys
    would wait for the queue's whole time."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    *first, last = fetched({"A": "ssm:/s"}, times=5)
    assert all(isinstance(found, Delayed) for found in first)
    assert last == SecretRefused("secret ssm:/s: there are no AWS credentials")


def test_a_bugs_words_are_not_told(stub: SecretsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of an error that nobody thought of may hold the secret."""

    def broken(*_: Any) -> None:
        raise UnicodeEncodeError("utf-8", VALUE, 0, 1, "x")

    monkeypatch.setattr("runner.aws.secrets.unfit", broken)
    stub.parameters = {"/s": VALUE}
    (found,) = fetched({"A": "ssm:/s"})
    assert found == SecretRefused("secrets: an error of runner's own: UnicodeEncodeError")


def test_thousands_that_lack_their_secrets_are_not_all_asked_for_each_minute() -> None:
    """An outage of AWS would keep processor and disk busy with starts that come to nothing."""

    async def delays() -> list[float]:
        fetches = SecretFetches(ENVIRONMENT, lambda *_: None)
        found = [fetches._delayed(job, "busy").seconds for job in range(10_000)]
        fetches.close()
        return found

    found = asyncio.run(delays())
    assert found[0] <= 1.0 and found[-1] >= 1000.0


def test_who_is_called_off_is_not_told(stub: SecretsStub) -> None:
    """An attempt that was cancelled would start all the same."""
    stub.always = {GET_PARAMETERS: HANG}
    stub.parameters = {"/s": base64.b64encode(b"x").decode()}

    async def run() -> list[Fetched]:
        told: list[Fetched] = []
        fetches = SecretFetches(ENVIRONMENT, lambda _, found: told.append(found))
        fetches.begin(action(token="gone"), {"A": "ssm:/s"})
        await asyncio.get_running_loop().run_in_executor(None, stub.wait_hanging)
        assert fetches.call_off("gone") and not fetches.call_off("gone")
        stub.release()
        answered = asyncio.Event()
        fetches._then = lambda *_: (told.append(_[1]), answered.set())[0]
        fetches.begin(action(token="next"), {"A": "ssm:/s"})
        await answered.wait()
        fetches.close()
        return told

    told = asyncio.run(run())
    assert len(told) == 1 and isinstance(told[0], Ready)
