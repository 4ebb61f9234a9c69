"""The rest of an account, which the ECS agent asks for a task: keys of roles, and secrets.

``NoServices`` has none; ``MotoServices`` asks a moto server, which may enforce IAM.
"""

from __future__ import annotations

import functools
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

TASKS = "ecs-tasks.amazonaws.com"
"""Whom a role must trust that a task is to have."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Temporary keys of a role. ``expires``: seconds since the epoch."""

    role: str
    access_key: str
    secret: str
    token: str
    expires: float


class CannotAssume(Exception):
    """The role isn't there, or doesn't trust ECS."""


class NoSecret(Exception):
    """A secret can't be had; the text says whose answer that is, and what it was."""


class Services(Protocol):
    """What a task needs of AWS beside Batch."""

    @property
    def env(self) -> Mapping[str, str]:
        """The variables by which an SDK in a container finds it."""

    def keys(self, role: str, session: str) -> Keys:
        """Keys of a role, by its ARN. Raises ``CannotAssume``."""

    def secret(self, value_from: str, keys: Keys) -> str:
        """What an ARN or a parameter's name stands for, read with these keys. Raises
        ``NoSecret``."""


class NoServices:
    """Any role can be had, and its keys open nothing; there are no secrets."""

    env: Mapping[str, str] = {}

    def __init__(self, lifetime_s: float = 3600.0) -> None:
        self._lifetime_s = lifetime_s

    def keys(self, role: str, session: str) -> Keys:
        token = f"token-{session}-{uuid.uuid4()}"
        return Keys(role, "ASIATEST", "test", token, time.time() + self._lifetime_s)

    def secret(self, value_from: str, keys: Keys) -> str:
        raise NoSecret(f"there is no account that could hold {value_from}")


class MotoServices:
    """``admin``: access key and secret of a user who may do everything, where IAM is enforced.

    Without one nothing is denied, and roles need not be there. ``lifetime_s``: of a role's keys.
    """

    def __init__(
        self,
        url: str,
        region: str = "us-east-1",
        admin: tuple[str, str] | None = None,
        lifetime_s: float = 3600.0,
    ) -> None:
        self._url = url
        self._region = region
        self._admin = admin
        self._lifetime_s = lifetime_s
        self._given: dict[str, str] = {}

    @property
    def env(self) -> Mapping[str, str]:
        return {
            "AWS_ENDPOINT_URL": self._url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,169.254.170.2",
        }

    def keys(self, role: str, session: str) -> Keys:
        expires = time.time() + self._lifetime_s
        if self._admin is None:
            return Keys(role, "test", "test", "test", expires)
        name = role.rpartition("/")[2]
        try:
            found = self._as_admin("iam").get_role(RoleName=name)["Role"]
        except ClientError as error:
            raise CannotAssume(role) from error
        if TASKS not in json.dumps(found["AssumeRolePolicyDocument"]):
            raise CannotAssume(role)
        # moto gives a role that trusts a service to nobody. It goes by the last word of an ARN, and
        # compares no trust where it knows no role of the whole of it.
        by = f"{role.rpartition('/')[0]}/taken-by-ecs/{name}"
        answer = self._as_admin("sts").assume_role(RoleArn=by, RoleSessionName=session)
        told = answer["Credentials"]
        self._given[told["AccessKeyId"]] = name
        return Keys(
            role, told["AccessKeyId"], told["SecretAccessKey"], told["SessionToken"], expires
        )

    def secret(self, value_from: str, keys: Keys) -> str:
        known = (keys.access_key, keys.secret, keys.token)
        if value_from.startswith("arn:aws:secretsmanager:"):
            return _of_secrets_manager(self._client("secretsmanager", *known), value_from)
        return _of_parameter_store(self._client("ssm", *known), value_from)

    def policies_of(self, access_key: str) -> tuple[str, list[dict[str, Any]]]:
        """The ARN of whoever has a key, and the policies: inline, and managed ones of the account's
        own; no policies for a key that nobody has."""
        iam = self._as_admin("iam")
        if (role := self._given.get(access_key)) is not None:
            kind, name = "role", role
        else:
            try:
                told = iam.get_access_key_last_used(AccessKeyId=access_key)
            except ClientError:
                return f"unknown key {access_key}", []
            kind, name = "user", str(told["UserName"])
        of = {"RoleName" if kind == "role" else "UserName": name}
        found = [
            getattr(iam, f"get_{kind}_policy")(PolicyName=each, **of)["PolicyDocument"]
            for each in getattr(iam, f"list_{kind}_policies")(**of)["PolicyNames"]
        ]
        for each in getattr(iam, f"list_attached_{kind}_policies")(**of)["AttachedPolicies"]:
            version = iam.get_policy(PolicyArn=each["PolicyArn"])["Policy"]["DefaultVersionId"]
            told = iam.get_policy_version(PolicyArn=each["PolicyArn"], VersionId=version)
            found.append(told["PolicyVersion"]["Document"])
        return f"arn:aws:iam::123456789012:{kind}/{name}", found

    @functools.cache  # noqa: B019 - as long as the account is
    def _as_admin(self, service: str) -> Any:
        assert self._admin is not None
        return self._client(service, *self._admin)

    def _client(self, service: str, access_key: str, secret: str, token: str | None = None) -> Any:
        return boto3.session.Session().client(
            service,
            endpoint_url=self._url,
            region_name=self._region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}),
        )


def _of_secrets_manager(client: Any, value_from: str) -> str:
    """``…:secret:NAME[:KEY:STAGE:VERSION]`` (ECS Developer Guide, "Secrets Manager secrets")."""
    parts = value_from.split(":")
    arn, rest = ":".join(parts[:7]), [*parts[7:], "", "", ""]
    which = {"VersionStage": rest[1], "VersionId": rest[2]}
    try:
        answer = client.get_secret_value(
            SecretId=arn, **{name: value for name, value in which.items() if value}
        )
    except ClientError as error:
        raise NoSecret(
            "unable to retrieve secret from asm: service call has been retried 1 time(s): failed to"
            f" fetch secret {arn} from secrets manager: {_told(error)}"
        ) from error
    text = str(answer["SecretString"])
    if not rest[0]:
        return text
    found = json.loads(text)
    if rest[0] not in found:
        raise NoSecret(
            "unable to retrieve secret from asm: retrieved secret from Secrets Manager did not"
            f" contain json key {rest[0]}"
        )
    return str(found[rest[0]])


def _of_parameter_store(client: Any, value_from: str) -> str:
    name = value_from
    if value_from.startswith("arn:"):
        rest = value_from.partition(":parameter")[2]
        name = rest if rest.count("/") > 1 else rest[1:]
    try:
        answer = client.get_parameters(Names=[name], WithDecryption=True)
    except ClientError as error:
        raise NoSecret(
            "unable to retrieve secrets from ssm: service call has been retried 1 time(s):"
            f" {_told(error)}"
        ) from error
    if not answer["Parameters"]:
        raise NoSecret(f"unable to retrieve secrets from ssm: invalid parameters: {name}")
    return str(answer["Parameters"][0]["Value"])


def _told(error: ClientError) -> str:
    told = error.response["Error"]
    return f"{told['Code']}: {told['Message']}"
