"""What has to be reached or installed: AWS's endpoints, our SSM documents, the session plugin."""

from __future__ import annotations

import os
import shutil
import socket
from typing import Any
from urllib.parse import urlsplit

from runner.aws.clients import S3Client, make_client
from runner.aws.errors import AwsError, ErrorKind, calling, part_of
from runner.targets.ec2 import names
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok, warn

CONNECT_TIMEOUT = 3.0
"""Seconds for a name and a connection: what is far answers within one."""

SERVICES = ("ec2", "ssm", "s3", "iam")


def check_endpoints(region: str) -> list[Finding]:
    """Whether a connection can be had to each service, or to the proxy that stands before them."""
    if proxy := os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        trouble = _connect(proxy)
        if trouble:
            return [fail("endpoints", f"the proxy {proxy}: {trouble}", "mend HTTPS_PROXY")]
        return [ok("endpoints", f"reached through the proxy {proxy}")]
    found = []
    for service in SERVICES:
        url = _url(service, region)
        if trouble := _connect(url):
            todo = f"let port 443 of {urlsplit(url).hostname} through, or mend DNS"
            found.append(fail("endpoints", f"{service}: {url}: {trouble}", todo))
    return found or [ok("endpoints", f"{', '.join(SERVICES)} can be reached")]


def _url(service: str, region: str) -> str:
    client = S3Client(1, region).get() if service == "s3" else make_client(service, region)
    return str(client.meta.endpoint_url)


def _connect(url: str) -> str | None:
    """What stands in the way; None if nothing does."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_TIMEOUT).close()
    except socket.gaierror:
        return f"the name {parts.hostname} isn't known to DNS"
    except TimeoutError:
        return f"no connection within {CONNECT_TIMEOUT:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    return None


def check_documents(region: str) -> list[Finding]:
    """Whether machines can be asked by documents of our own."""
    check, missing, old = "SSM documents", [], []
    with calling(lambda error: error):
        client = make_client("ssm", region, connect=4, read=8, attempts=2)
    for name in (names.LOOK_DOCUMENT, names.ACT_DOCUMENT):
        try:
            with calling(lambda error: error):
                answer: dict[str, Any] = client.describe_document(Name=name)
            found = part_of(answer, "DescribeDocument", "Document")
        except AwsError as error:
            if error.kind is ErrorKind.DENIED:
                return [warn(check, f"{name} can't be seen: ssm:DescribeDocument is missing")]
            if error.code not in ("InvalidDocument", "InvalidDocumentException"):
                return [fail(check, str(error), "try again")]
            missing.append(name)
            continue
        if found.get("Status") not in ("Active", None):
            missing.append(name)
        elif found.get("DefaultVersion") != found.get("LatestVersion"):
            old.append((name, str(found["LatestVersion"])))
    if missing:
        says = f"{' and '.join(missing)} not in {region}: machines are asked by AWS-RunShellScript"
        return [warn(check, says, f"`runner setup --region {region}`")]
    if old:
        name, latest = old[0]
        todo = f"`aws ssm update-document-default-version --region {region} --name {name}"
        says = f"{name}: an older version than {latest} is the default"
        return [warn(check, says, f"{todo} --document-version {latest}`")]
    return [ok(check, f"{names.LOOK_DOCUMENT} and {names.ACT_DOCUMENT} are in {region}")]


def check_plugin() -> list[Finding]:
    """Whether `runner shell` can open a session."""
    if found := shutil.which("session-manager-plugin"):
        return [ok("session plugin", found)]
    todo = "only `runner shell` needs it: install the Session Manager plugin for the AWS CLI"
    return [warn("session plugin", "session-manager-plugin isn't installed", todo)]
