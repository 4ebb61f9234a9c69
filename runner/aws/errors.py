"""What an answer of AWS, or the lack of one, means for us: one place that reads error codes.

boto3 is imported late: whoever catches nothing pays nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from typing import Any

from runner.aws.platform import on_ec2
from runner.errors import RunnerError


class ErrorKind(Enum):
    """What can be done about a failed call."""

    DENIED = "denied"
    MISSING = "missing"
    CONFLICT = "conflict"
    UNSUPPORTED = "unsupported"
    EXPIRED = "expired"
    NO_CREDENTIALS = "no credentials"
    INVALID = "invalid"
    CAPACITY = "capacity"
    QUOTA = "quota"
    PASSING = "passing"


class AwsError(RunnerError):
    """A call to AWS failed; ``kind`` says what that means, ``code`` is AWS's own word for it."""

    def __init__(self, kind: ErrorKind, code: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code


_CODES: dict[str, ErrorKind] = {
    "InvalidObjectState": ErrorKind.INVALID,  # it is in an archive; S3 says so with a 403
    **dict.fromkeys(
        ("AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "403",
         "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId",
         "UnauthorizedOperation", "AccessDeniedException", "KMS.AccessDeniedException",
         "UnrecognizedClientException", "InvalidSignatureException"),
        ErrorKind.DENIED,
    ),
    **dict.fromkeys(
        ("NoSuchBucket", "NoSuchKey", "NoSuchUpload", "NotFound", "404", "NoSuchVersion"),
        ErrorKind.MISSING,
    ),
    **dict.fromkeys(
        ("PreconditionFailed", "ConditionalRequestConflict", "412", "409", "InvalidRange"),
        ErrorKind.CONFLICT,
    ),
    **dict.fromkeys(
        ("NotImplemented", "MethodNotAllowed", "405", "501", "UnsupportedOperation"),
        ErrorKind.UNSUPPORTED,
    ),
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired",
         "InvalidToken"),
        ErrorKind.EXPIRED,
    ),
    **dict.fromkeys(
        ("InsufficientInstanceCapacity", "InsufficientHostCapacity", "SpotMaxPriceTooLow",
         "InsufficientReservedInstanceCapacity", "UnfulfillableCapacity", "Unsupported",
         "InsufficientCapacity", "InsufficientFreeAddressesInSubnet", "InsufficientVolumeCapacity"),
        ErrorKind.CAPACITY,
    ),
    **dict.fromkeys(
        ("MaxSpotInstanceCountExceeded", "VcpuLimitExceeded", "InstanceLimitExceeded",
         "VolumeLimitExceeded", "SpotInstanceCountLimitExceeded", "MaxIOPSLimitExceeded",
         "NetworkInterfaceLimitExceeded"),
        ErrorKind.QUOTA,
    ),
    **dict.fromkeys(
        ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "InvalidAMIID.NotFound",
         "InvalidSpotInstanceRequestID.NotFound", "ParameterNotFound", "InvocationDoesNotExist",
         "ResourceNotFoundException", "NoSuchEntity",
         "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"),
        ErrorKind.MISSING,
    ),
    **dict.fromkeys(
        ("RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException",
         "RequestThrottled", "OverLimit", "PurgeQueueInProgress", "QueueDeletedRecently",
         "AWS.SimpleQueueService.PurgeQueueInProgress",
         "AWS.SimpleQueueService.QueueDeletedRecently"),
        ErrorKind.PASSING,
    ),
    "AuthFailure": ErrorKind.DENIED,
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": ErrorKind.DENIED,
}  # fmt: skip
"""S3 API reference, "Error responses"; KMS's and STS's codes come through S3. A HEAD has no body,
so botocore tells the HTTP status instead. EC2: "Error codes for the Amazon EC2 API"; "Unsupported"
is a type that an Availability Zone hasn't, so the next one may. SSM says 400 for its throttling,
SQS 403 for a purge that goes on."""

_STATUS = {
    403: ErrorKind.DENIED,
    404: ErrorKind.MISSING,
    405: ErrorKind.UNSUPPORTED,
    501: ErrorKind.UNSUPPORTED,
    409: ErrorKind.CONFLICT,
    412: ErrorKind.CONFLICT,
}


_LONGEST = 300
"""Characters of an error that are told."""

_LONGEST_MESSAGE = 2_000
"""The same where it is AWS's own: a refusal may hold a text that only AWS can decode."""


def part_of(answer: Any, operation: str, *path: str | int) -> Any:
    """What AWS always tells. Raises AwsError where an answer hasn't it: a proxy's page, say, that
    comes with status 200. Whether the call had its effect isn't known then."""
    found = answer
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            text = f"{operation} was answered without {path[-1]}: is this AWS?"
            raise AwsError(ErrorKind.PASSING, "Unreadable", text) from None
    return found


def translate(error: Exception) -> AwsError | None:
    """Our error for one that boto3 raised; None for what isn't about AWS: a bug, a local file."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions as bc
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    if isinstance(error, AwsError):
        return error
    if isinstance(error, bc.ClientError):
        return _of_answer(error)
    if isinstance(error, bc.NoCredentialsError | bc.PartialCredentialsError):
        return AwsError(ErrorKind.NO_CREDENTIALS, "NoCredentials", _without_credentials())
    if isinstance(error, bc.CredentialRetrievalError | bc.MetadataRetrievalError):
        return AwsError(ErrorKind.PASSING, type(error).__name__, _line(error))
    if isinstance(error, bc.HTTPClientError | bc.IncompleteReadError | bc.FlexibleChecksumError):
        return AwsError(ErrorKind.PASSING, type(error).__name__, _line(error))
    if isinstance(error, bc.ResponseStreamingError | bc.ConnectionError):
        return AwsError(ErrorKind.PASSING, type(error).__name__, _line(error))
    if isinstance(error, bc.ParamValidationError | bc.NoRegionError | bc.ProfileNotFound):
        return AwsError(ErrorKind.INVALID, type(error).__name__, _line(error))
    # Not all that boto3 raises is botocore's: a page that isn't S3's, a body that ends too soon.
    if isinstance(error, bc.BotoCoreError | ResponseParserError | Boto3Error | HTTPError):
        return AwsError(ErrorKind.PASSING, type(error).__name__, _line(error))
    return None


def _without_credentials() -> str:
    """botocore says no more, and takes a metadata service that is silent for one without a role."""
    told = "there are no AWS credentials"
    if on_ec2(os.environ):
        told += ": this instance has no role, or its metadata service doesn't answer"
    return told


def _of_answer(error: Any) -> AwsError:
    told = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(told.get("Code") or status)
    known = _CODES.get(code) or _STATUS.get(status)
    kind = known or ErrorKind.PASSING
    if known is None and 400 <= status < 500 and status not in (408, 429):
        kind = ErrorKind.INVALID
    if code in ("RequestTimeout", "SlowDown", "RequestTimeTooSkewed", "BadDigest", "IncompleteBody",
                "XAmzContentChecksumMismatch", "InvalidDigest"):  # fmt: skip
        kind = ErrorKind.PASSING  # the bytes were lost on the way, or S3 is busy: 4xx all the same
    message = _cut(str(told.get("Message") or ""), _LONGEST_MESSAGE).rstrip(".")
    if code == "InvalidSignatureException" and ("expired" in message or "not yet" in message):
        kind = ErrorKind.PASSING  # a clock that isn't set yet; S3 has a code of its own for it
    return AwsError(kind, code, f"{code}: {message}" if message and message != code else code)


def _line(error: Exception) -> str:
    """One line: of an answer that can't be parsed botocore's message has all of the body."""
    return _cut(str(error), _LONGEST)


def _cut(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[:length]} …"


def calling(error_of: Callable[[AwsError], Exception]) -> Translated:
    """A context in which boto3's errors become what ``error_of`` makes of ours."""
    return Translated(error_of)


class Translated:
    """See ``calling``. A class, for it stands around every call."""

    __slots__ = ("_error_of",)

    def __init__(self, error_of: Callable[[AwsError], Exception]) -> None:
        self._error_of = error_of

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception) and (ours := translate(error)) is not None:
            raise self._error_of(ours) from error
