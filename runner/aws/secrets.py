"""Secrets by their references, read from SSM's Parameter Store and from Secrets Manager.

Owns what an answer means for a variable. A value is in what ``read`` returns and nowhere else: in
no message, and in no exception. Needs ssm:GetParameters, secretsmanager:GetSecretValue, and
kms:Decrypt where a key isn't AWS's own. boto3 is imported with the first call.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.errors import RunnerError
from runner.model.fields import MAX_ARGUMENT_BYTES
from runner.model.secrets import SECRETS_MANAGER, SSM, SecretReference, parse_reference

CONNECT_TIMEOUT = 2
READ_TIMEOUT = 4
ATTEMPTS = 2
"""Seconds, and how often: who waits for a secret holds a place that another job could have."""

BATCH = 10
"""Names of one GetParameters (SSM API reference)."""

_NEEDS = {SSM: "ssm:GetParameters", SECRETS_MANAGER: "secretsmanager:GetSecretValue"}
_WHAT = {SSM: "parameter", SECRETS_MANAGER: "secret"}
_PASSING = frozenset({ErrorKind.PASSING, ErrorKind.CONFLICT, ErrorKind.EXPIRED})
_STALE = frozenset({ErrorKind.EXPIRED, ErrorKind.DENIED, ErrorKind.NO_CREDENTIALS})
"""After these the next call reads credentials anew."""


class SecretError(RunnerError):
    """A secret can't be had; the message names its reference. ``passing``: not now."""

    def __init__(self, reference: str, kind: ErrorKind, why: str) -> None:
        super().__init__(f"{reference}: {why}")
        self.kind = kind

    @property
    def passing(self) -> bool:
        """Whether it may come by itself."""
        return self.kind in _PASSING


class Secrets:
    """Reads secrets with this machine's credentials; threads may share it.

    ``find_region`` is asked, until it knows, for the region of references that name none.
    """

    def __init__(self, find_region: Callable[[], str | None]) -> None:
        self._find_region = find_region
        self._region: str | None = None
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str], Any] = {}

    def read(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """The values of variables, by references. Raises SecretError for the first that fails.

        Each place is asked once, so that two keys of one secret are of one version.
        """
        places = {text: parse_reference(text) for text in wanted.values()}
        found = self._parameters({t: at for t, at in places.items() if at.service == SSM})
        found |= self._secrets({t: at for t, at in places.items() if at.service != SSM})
        for name, text in wanted.items():
            if fault := unfit(name, found[text]):
                raise SecretError(text, ErrorKind.INVALID, fault)
        return {name: found[text] for name, text in wanted.items()}

    # -- the Parameter Store -----------------------------------------------------------------

    def _parameters(self, places: dict[str, SecretReference]) -> dict[str, str]:
        found: dict[str, str] = {}
        for batch in _batches(places):
            found |= self._batch(batch)
        return found

    def _batch(self, batch: dict[str, SecretReference]) -> dict[str, str]:
        text, place = next(iter(batch.items()))
        names = {at.name: text for text, at in batch.items()}
        try:
            answer = self._call(place, "get_parameters", Names=[*names], WithDecryption=True)
        except AwsError as error:
            if len(batch) > 1 and error.kind not in _PASSING:
                # One of them is the reason: which?
                return self._one_by_one(batch)
            raise self._refused(text, place, error) from None
        for name in answer.get("InvalidParameters") or ():
            missing = names.get(name, text)
            raise self._missing(missing, batch[missing])
        values = {each.get("Name"): each.get("Value") for each in answer.get("Parameters") or ()}
        if len(batch) == 1:
            # By ARN or with a version it was asked for by another name than it answers to.
            values = dict.fromkeys(names, next(iter(values.values()), None))
        return {text: _told(text, values.get(name)) for name, text in names.items()}

    def _one_by_one(self, batch: dict[str, SecretReference]) -> dict[str, str]:
        found: dict[str, str] = {}
        for text, place in batch.items():
            found |= self._batch({text: place})
        return found

    # -- Secrets Manager ---------------------------------------------------------------------

    def _secrets(self, places: dict[str, SecretReference]) -> dict[str, str]:
        whole: dict[str, str] = {}
        found: dict[str, str] = {}
        for text, place in places.items():
            if place.name not in whole:
                whole[place.name] = self._secret(text, place)
            secret = whole[place.name]
            found[text] = secret if place.key is None else value_of(text, secret, place.key)
        return found

    def _secret(self, text: str, place: SecretReference) -> str:
        try:
            answer = self._call(place, "get_secret_value", SecretId=place.name)
        except AwsError as error:
            raise self._refused(text, place, error) from None
        if "SecretString" not in answer and "SecretBinary" in answer:
            raise SecretError(text, ErrorKind.INVALID, "is binary; a variable takes a text only")
        return _told(text, answer.get("SecretString"))

    # -- calls -------------------------------------------------------------------------------

    def _call(self, place: SecretReference, operation: str, **parameters: Any) -> dict[str, Any]:
        try:
            with calling(lambda error: error):
                client = self._client(place)
                answer: dict[str, Any] = getattr(client, operation)(**parameters)
        except AwsError as error:
            if error.kind in _STALE:
                with self._lock:
                    self._clients.clear()
            raise
        return answer

    def _client(self, place: SecretReference) -> Any:
        with self._lock:
            where = (place.service, place.region or self._own_region())
            if where not in self._clients:
                self._clients[where] = make_client(
                    *where,
                    connect=CONNECT_TIMEOUT,
                    read=READ_TIMEOUT,
                    attempts=ATTEMPTS,
                    own_session=True,
                )
            return self._clients[where]

    def _own_region(self) -> str:
        self._region = self._region or self._find_region()
        if self._region is None:
            # As for credentials: the metadata service may know in a moment.
            why = "no region is named: AWS_REGION or the ARN of the secret names one"
            raise AwsError(ErrorKind.NO_CREDENTIALS, "NoRegion", why)
        return self._region

    def _missing(self, text: str, place: SecretReference) -> SecretError:
        why = f"there is no such {_WHAT[place.service]} in {place.region or self._region}"
        return SecretError(text, ErrorKind.MISSING, why)

    def _refused(self, text: str, place: SecretReference, error: AwsError) -> SecretError:
        if error.kind is ErrorKind.MISSING:
            return self._missing(text, place)
        why = str(error)
        if error.kind is ErrorKind.DENIED:
            why += f"; it needs {_NEEDS[place.service]}, and kms:Decrypt for a key of your own"
        return SecretError(text, error.kind, why)


def _batches(places: dict[str, SecretReference]) -> Iterator[dict[str, SecretReference]]:
    """Plain names go together; an ARN, or a version, is answered under another name: alone."""
    plain = [(text, at) for text, at in places.items() if ":" not in at.name]
    yield from (dict(plain[i : i + BATCH]) for i in range(0, len(plain), BATCH))
    yield from ({text: at} for text, at in places.items() if ":" in at.name)


def _told(text: str, value: Any) -> str:
    if not isinstance(value, str):
        raise SecretError(text, ErrorKind.PASSING, "the answer holds no value")
    return value


def value_of(text: str, secret: str, key: str) -> str:
    """One value of a secret that is a JSON object; numbers and booleans as JSON writes them."""
    try:
        found = json.loads(secret, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SecretError(text, ErrorKind.INVALID, "is not a JSON object, so it has no keys")
    if key not in found:
        raise SecretError(text, ErrorKind.INVALID, "its JSON object has no such key")
    value = found[key]
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise SecretError(
            text, ErrorKind.INVALID, "what its key holds is neither a text nor a number"
        )
    return value


def unfit(name: str, value: str) -> str | None:
    """Why a value can't be a variable's, without a word of it; an empty one can."""
    if "\0" in value:
        return "holds a NUL character, which no variable can"
    try:
        size = len(name) + 1 + len(value.encode())
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate)"
    if size > MAX_ARGUMENT_BYTES:
        return f"is too long: {size:,} bytes with its name, at most {MAX_ARGUMENT_BYTES:,}"
    return None
