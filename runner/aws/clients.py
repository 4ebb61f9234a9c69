"""How a client is made: once, in whichever thread first needs it, and anew when its keys expired.

boto3 takes 0.3 s to import and to make its first client, so nothing here is imported before.
"""

from __future__ import annotations

import os
import re
import threading
from typing import Any

from runner.aws.errors import AwsError, ErrorKind, calling
from runner.aws.platform import on_ec2
from runner.aws.request_body import begin_sending
from runner.errors import UsageError
from runner.model.messages import quoted

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60
"""Seconds without a byte, of one attempt."""

S3_READ_TIMEOUT = 30
"""The same for S3: each hung call keeps one of a few threads for so long."""

S3_LONG_READ_TIMEOUT = 120
"""The same where S3 puts an object together. It sends blanks meanwhile (API reference,
"CompleteMultipartUpload"); a store that is compatible with it may not."""

ATTEMPTS = 3

USER_AGENT = "queue-runner"

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}")

_METADATA = {"metadata_service_timeout": 2, "metadata_service_num_attempts": 5}
"""Seconds of one attempt, and attempts; a setting of the user's is left as it is."""

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")

_making = threading.Lock()
"""boto3's default session makes no two clients at once (its guide, "Multithreading")."""


def make_client(
    service: str,
    region: str | None = None,
    *,
    connect: float = CONNECT_TIMEOUT,
    read: float = READ_TIMEOUT,
    attempts: int = ATTEMPTS,
    own_session: bool = False,
) -> Any:
    """A client of any service but S3; seconds are of one attempt.

    Credentials, profile, endpoint and, where ``region`` is None, the region are boto3's own
    settings. ``own_session``: they are read anew for this client, and it may be made in any thread.
    Raises AwsError for settings that can't be used.
    """
    with calling(lambda error: error):
        from botocore.config import Config

        config = Config(
            connect_timeout=connect,
            read_timeout=read,
            retries={"mode": "standard", "total_max_attempts": attempts},
            user_agent_extra=USER_AGENT,
        )
        try:
            with _making:
                session = _new_session() if own_session else _shared_session()
                return session.client(service, region_name=region, config=config)
        except ValueError as error:  # an endpoint that is no URL
            raise AwsError(ErrorKind.INVALID, "InvalidEndpoint", str(error)) from error


def _shared_session() -> Any:
    """boto3's default session, ours from its first use on."""
    import boto3

    if boto3.DEFAULT_SESSION is None:
        boto3.DEFAULT_SESSION = _new_session()
    return boto3.DEFAULT_SESSION


def _new_session() -> Any:
    """A session of boto3's own settings, with patience for the metadata service where there is one.

    botocore asks it once, waits for a second, and takes silence for a machine without a role.
    """
    import boto3
    from botocore.session import get_session

    core = get_session()
    if on_ec2(os.environ):
        for name, patience in _METADATA.items():
            if core.get_config_variable(name) == 1:  # its default, of both
                core.set_config_variable(name, patience)
    return boto3.session.Session(botocore_session=core)


def configured_region() -> str | None:
    """The region of boto3's own settings; None where they name none. Raises AwsError."""
    with calling(lambda error: error):
        return _new_session().region_name or None


def region_of(given: str | None) -> str:
    """The region that was given, else boto3's own. Raises UsageError where there is none."""
    region = given or configured_region()
    if not region or not _REGION.fullmatch(region):
        what = f"{quoted(region)} is no region" if region else "no region is named"
        raise UsageError(f"{what}: --region, AWS_REGION or `aws configure` names one")
    return region


class S3Client:
    """One S3 client, shared by threads. Region, proxies and CA bundles are boto3's own settings."""

    def __init__(
        self, connections: int, region: str | None = None, *, long_reads: bool = False
    ) -> None:
        self._connections = connections
        self._long_reads = long_reads
        self._region = region
        self._lock = threading.Lock()
        self._client: Any = None
        self._configured: bool | None = None

    @property
    def compatible_only(self) -> bool:
        """Whether another endpoint than AWS's own was named: it may know less than S3 does."""
        if any(os.environ.get(name) for name in ENDPOINT_VARIABLES):
            return True
        if self._configured is None:
            self._configured = _names_endpoint()
        return self._configured

    def get(self) -> Any:
        """The client. Raises botocore's errors, or AwsError, for settings that can't be used."""
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def forget(self, used: Any) -> None:
        """Make a new client the next time: ``used`` has credentials that have expired.

        A new session reads files and variables again; a role's keys renew themselves.
        """
        with self._lock:
            if self._client is used:
                self._client = None

    def _make(self) -> Any:
        from botocore.config import Config

        # AWS compares a body with the checksum that is sent along: no need to hash it once more for
        # the signature. Not every S3-compatible store knows such checksums, but each checks the
        # SHA-256 that is signed (measured: 1.7 GB/s, where the MD5 they know too takes 0.7).
        checksums: dict[str, Any] = {"s3": {"payload_signing_enabled": self.compatible_only}}
        if self.compatible_only:
            checksums |= {
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            }
        config = Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=S3_LONG_READ_TIMEOUT if self._long_reads else S3_READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=self._connections,
            user_agent_extra=USER_AGENT,
            **checksums,
        )
        session = _new_session()
        # S3 answers for every region's buckets, with a redirect that botocore follows.
        region = self._region or session.region_name or "us-east-1"
        try:
            client = session.client("s3", region_name=region, config=config)
        except ValueError as error:  # an endpoint that is no URL
            raise AwsError(ErrorKind.INVALID, "InvalidEndpoint", str(error)) from error
        client.meta.events.register("before-send.s3", begin_sending)
        return client


def _names_endpoint() -> bool:
    """Whether the profile in ~/.aws/config names an endpoint, for S3 or for all services.

    SDKs and Tools Reference Guide, "Service-specific endpoints". A file that can't be read is told
    when the client is made.
    """
    from botocore.exceptions import BotoCoreError
    from botocore.session import get_session

    session = get_session()
    try:
        profile = session.get_scoped_config()
        services = session.full_config.get("services", {}).get(profile.get("services"), {})
    except BotoCoreError:
        return False
    of_s3 = services.get("s3", {})
    return bool(profile.get("endpoint_url") or of_s3.get("endpoint_url"))
