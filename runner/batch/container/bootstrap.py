"""Brings runner to a container whose image has only Python, and goes on as one of its programs.

It is sent as text in the container's command, with the modules of ``runner.bundle.bare``: Python
3.6 and its standard library. The bundle is kept in the job's volume, for its other containers.
"""

import json
import os
import re
import shutil
import sys
import tarfile
import urllib.request
import zipfile
from http.client import HTTPException
from typing import Dict, List

from runner.bundle.bare.aws import DIRECT, Aws, Metadata
from runner.bundle.bare.bucket import Bucket
from runner.bundle.bare.patience import Again, Failed
from runner.bundle.bare.telling import say

LITTLE_MEMORY = "MALLOC_ARENA_MAX"
"""With 1 an upload by many threads takes 124 MiB at its peak, and not 272 (glibc, measured with
files of 1 GB and 50 MB): a container's memory is a limit, and paid for."""

OLDEST = (3, 11)
"""Of Python, for runner itself."""

CREDENTIALS_HOST = "http://169.254.170.2"
"""Where a task finds its role's credentials (ECS Developer Guide, "Task IAM role")."""

RUN = (
    "import runpy,sys;sys.path.insert(0,sys.argv[1]);del sys.argv[:2];"
    "runpy.run_module(sys.argv[0],run_name='__main__',alter_sys=True)"
)
"""Runs a module of the package in the folder that is named first."""


class TaskAws(Aws):
    """Signed calls with the credentials of the task's role, or those of the environment."""

    def keys(self) -> Dict[str, str]:
        """Raises Again as long as there are none."""
        if not self._keys:
            own = {name: os.environ.get("AWS_" + name, "") for name in _OWN}
            if own["ACCESS_KEY_ID"]:
                self._keys = {said: own[name] for name, said in _OWN.items()}
            else:
                self._keys = self._of_task()
        return self._keys

    def _of_task(self) -> Dict[str, str]:
        path = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        url = os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        headers = {}
        if path:
            url = CREDENTIALS_HOST + path
        elif os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"):
            headers["Authorization"] = os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
        if not url:
            return Aws.keys(self)  # the host's role, where containers may ask for it
        try:
            request = urllib.request.Request(url, headers=headers)
            with DIRECT.open(request, timeout=5) as answer:
                told = json.loads(answer.read().decode())
            keys = {name: str(told[name]) for name in ("AccessKeyId", "SecretAccessKey")}
            keys["Token"] = str(told.get("Token") or "")
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            raise Again("credentials", f"the task's role has no credentials yet ({error!r})")
        return keys


_OWN = {
    "ACCESS_KEY_ID": "AccessKeyId",
    "SECRET_ACCESS_KEY": "SecretAccessKey",
    "SESSION_TOKEN": "Token",
}


def fetch(bundle: str, folder: str) -> None:
    """Have what ``s3://bucket/key#sha256`` holds unpacked in a folder. Raises Failed, OSError."""
    if os.path.exists(folder + "/whole"):
        return
    found = re.match(r"s3://([^/]+)/(.+)#([0-9a-f]{64})$", bundle)
    if not found:
        raise Failed("RUNNER_BUNDLE: is no s3://bucket/key#sha256")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    archive = folder + "/bundle.tar.gz"
    bucket = Bucket(TaskAws(Metadata(), region), found.group(1))
    bucket.fetch(found.group(2), found.group(3), archive)
    try:
        unpack(archive, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise Failed(f"the bundle can't be unpacked: {error}")
    os.remove(archive)
    with open(folder + "/whole", "w"):
        pass


def unpack(archive: str, folder: str) -> None:
    """The wheels of a bundle that are for this Python, as a folder of packages."""
    with tarfile.open(archive, "r:gz") as bundle:
        for member in bundle:
            name = os.path.basename(member.name)
            if not (member.isfile() and name.endswith(".whl") and suits(name)):
                continue
            check_processor(name, os.uname().machine)
            content = bundle.extractfile(member)
            assert content is not None
            with zipfile.ZipFile(content) as wheel:
                wheel.extractall(folder)


def suits(wheel: str) -> bool:
    """Whether a wheel is for this Python, by its name's tags (packaging specifications)."""
    python, abi = wheel[: -len(".whl")].split("-")[-3:-1]
    own = sys.version_info[:2]
    for tag in python.split("."):
        compiled = re.match(r"cp3([0-9]+)$", tag)
        if tag in ("py3", f"py3{own[1]}"):
            return True
        if compiled and (own == (3, int(compiled.group(1))) or "abi3" in abi.split(".")):
            return own >= (3, int(compiled.group(1)))
    return False


def check_processor(wheel: str, own: str) -> None:
    """Raise Failed for a wheel that is for another processor than this host's."""
    platform = wheel[: -len(".whl")].split("-")[-1]
    if platform == "any" or own in platform:
        return
    other = next((each for each in ("x86_64", "aarch64") if each in platform), platform)
    told = (
        "this bundle of runner is for {}, and this host's processor is {}: have `bundle` of "
        "[batch] name one for it, as s3://bucket/key#sha256, or use an agent_image that has runner "
        '(`bundle = "image"`)'
    )
    raise Failed(told.format(other, own))


def main(words: List[str]) -> None:
    """Become ``words``: a module of runner's, and its arguments."""
    folder = os.environ["RUNNER_VOLUME"] + "/package"
    bundle = os.environ.get("RUNNER_BUNDLE")
    try:
        if sys.version_info[:2] < OLDEST:
            told = "this image has Python {}.{}, and runner needs {}.{} or later"
            raise Failed(told.format(*(sys.version_info[:2] + OLDEST)))
        if bundle:
            os.makedirs(os.environ["RUNNER_VOLUME"], exist_ok=True)
            fetch(bundle, folder)
        os.environ.setdefault(LITTLE_MEMORY, "1")
        os.execv(sys.executable, [sys.executable, "-c", RUN, folder, *words])
    except (Failed, OSError) as error:
        say(str(error))
        sys.exit(1)
