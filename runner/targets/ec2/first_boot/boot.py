"""Makes a machine of the image it has: fetches what was launched, installs it, submits the queue.

It runs on what every cloud image has: Python 3.6 and its standard library. So it speaks to the
metadata service, S3 and EC2 by itself. `boot.py boot` does it all; `report WHY` stores the log of
what failed; `end` gives the spot request back before the machine goes. Each may be cut at any
moment: a timer that it doesn't know of ends the machine.
"""

import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, Callable, Dict, List, Optional
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit

PLACE = "/var/lib/runner-boot"
LOG = "/var/log/runner-bootstrap.log"
METADATA = "http://169.254.169.254"
AWAY = 240.0
"""Seconds for which a service that doesn't answer, or answers 5xx, is asked again."""
DENIED = 10.0
"""Seconds for which a refusal isn't believed: a new role's rights take their time to spread."""
SKEW = 60.0
"""Seconds by which a clock may be wrong before it is told. S3 refuses after 15 minutes."""
# What would change the kernel below a GPU driver, or hold the package manager's lock.
UPGRADES = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "unattended-upgrades.service",
    "dnf-automatic.timer",
    "dnf-automatic-install.timer",
    "packagekit.service",
)


ENDED = ("completed", "failed", "cancelled")


class Failed(Exception):
    """Why the machine can't be made ready; for people."""


class Missing(Failed):
    """There is no such object."""


class Over(Exception):
    """Another machine has done what this one was launched for."""


class Again(Exception):
    """Not now; it is worth other tries for so many seconds in all."""

    def __init__(self, why: str, patience: float = AWAY) -> None:
        Exception.__init__(self, why)
        self.patience = patience


def say(text: str) -> None:
    """To the console, by way of cloud-init, and into the log."""
    print("runner boot: " + text)
    sys.stdout.flush()
    with open(LOG, "a") as log:
        log.write("runner boot: " + text + "\n")


def patiently(what: str, act: Callable[[], Any]) -> Any:
    """Try until it is done; patience counts from the first refusal. Raises Failed."""
    since, pause, said = None, 0.25, ""  # type: Optional[float], float, str
    while True:
        try:
            return act()
        except Again as error:
            why, patience = str(error), error.patience
        except Failed as error:
            raise Failed(f"{what}: {error}")
        now = time.monotonic()
        since = now if since is None else since
        if now - since >= patience:
            raise Failed(f"{what}: {why}")
        if why != said:
            said = why
            say(f"{what}: {why}; it is tried again")
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


# -- HTTP ------------------------------------------------------------------------------------


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A signature is for one host."""

    def redirect_request(self, *_: Any) -> None:
        return None


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
OPENER = urllib.request.build_opener(NoRedirect)


class Metadata:
    """The instance's metadata, IMDSv2."""

    def __init__(self) -> None:
        told = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        self._base = (told or METADATA).rstrip("/")
        self._token = ""

    def get(self, path: str) -> str:
        """Raises Again; also for what is not there (yet)."""
        try:
            if not self._token:
                age = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
                self._token = self._ask("PUT", "/latest/api/token", age)
            token = {"X-aws-ec2-metadata-token": self._token}
            return self._ask("GET", "/latest/meta-data/" + path, token)
        except (OSError, HTTPException) as error:
            if getattr(error, "code", 0) == 404:
                raise Again(f"the metadata service has no {path} yet")
            self._token = ""
            raise Again(f"the metadata service: {error}")

    def _ask(self, method: str, path: str, headers: Dict[str, str]) -> str:
        request = urllib.request.Request(self._base + path, headers=headers, method=method)
        with DIRECT.open(request, timeout=3) as answer:
            return str(answer.read().decode())


class Aws:
    """Signed calls with the credentials of the instance's role."""

    def __init__(self, metadata: Metadata, region: str) -> None:
        self.metadata = metadata
        self.region = region
        self._keys = {}  # type: Dict[str, str]
        self._skew = 0.0

    def keys(self) -> Dict[str, str]:
        """Raises Again as long as there are none."""
        if not self._keys:
            path = "iam/security-credentials/"
            try:
                role = self.metadata.get(path).split()[0]
                told = json.loads(self.metadata.get(path + role))
                self._keys = {name: told[name] for name in ("AccessKeyId", "SecretAccessKey")}
                self._keys["Token"] = told.get("Token", "")
            except (IndexError, KeyError, ValueError) as error:
                raise Again(f"the role has no credentials yet ({error!r})")
        return self._keys

    def open(
        self,
        service: str,
        method: str,
        url: str,
        body: Optional[bytes] = None,
        patience: float = 60,
    ) -> Any:
        """The answer of one call, to be read and closed. Raises Again, Failed."""
        headers = self._signed(service, method, url, body or b"")
        request = urllib.request.Request(url, data=body, headers=headers, method=method)
        try:
            return OPENER.open(request, timeout=patience)
        except HTTPError as error:
            self._refused(error)
        except (OSError, HTTPException) as error:
            raise Again("{}: {}".format(urlsplit(url).netloc, getattr(error, "reason", error)))

    def _refused(self, error: HTTPError) -> None:
        try:
            text = error.read(65536).decode(errors="replace")
        except (OSError, HTTPException):
            text = ""
        code, message = _tag(text, "Code"), _tag(text, "Message")
        why = " ".join(filter(None, (str(error.code), code, message)))
        region = error.headers.get("x-amz-bucket-region")
        if self._learn_time(error.headers.get("Date")):
            raise Again("this machine's clock was wrong")
        if region and region != self.region:
            self.region = region
            raise Again(f"the bucket is in {region}")
        if code in ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "RequestExpired"):
            self._keys = {}
            raise Again(why, DENIED)
        if error.code in (401, 403):
            raise Again(why + " (the instance's role has to allow it)", DENIED)
        if error.code >= 500 or error.code in (408, 409, 429) or "SlowDown" in code:
            raise Again(why)
        raise Missing(why) if error.code == 404 else Failed(why)

    def _learn_time(self, date: Optional[str]) -> bool:
        """Whether the clock turns out to be another one than was thought."""
        try:
            theirs = parsedate_to_datetime(date or "").timestamp()
        except (TypeError, ValueError):
            return False
        skew = theirs - time.time()
        if abs(skew - self._skew) < SKEW:
            return False
        self._skew = skew
        way = "behind" if skew > 0 else "ahead of"
        say(f"this machine's clock is {abs(skew):.0f} s {way} the server's")
        return True

    def _signed(self, service: str, method: str, url: str, body: bytes) -> Dict[str, str]:
        """AWS Signature Version 4 (AWS General Reference, "Signing AWS API requests")."""
        keys, parts = self.keys(), urlsplit(url)
        now = time.gmtime(time.time() + self._skew)
        stamp, day = time.strftime("%Y%m%dT%H%M%SZ", now), time.strftime("%Y%m%d", now)
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": parts.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        kind = (
            "application/x-www-form-urlencoded; charset=utf-8" if service == "ec2" else "text/plain"
        )
        headers["content-type"] = kind  # without one urllib says that it is a form
        if keys["Token"]:
            headers["x-amz-security-token"] = keys["Token"]
        names = ";".join(sorted(headers))
        lines = [method, parts.path or "/", parts.query]
        lines += [f"{name}:{headers[name]}" for name in sorted(headers)]
        canonical = "\n".join([*lines, "", names, digest])
        scope = "/".join((day, self.region, service, "aws4_request"))
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        key = ("AWS4" + keys["SecretAccessKey"]).encode()
        for word in scope.split("/"):
            key = hmac.new(key, word.encode(), "sha256").digest()
        told = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashed))
        signature = hmac.new(key, told.encode(), "sha256").hexdigest()
        headers["authorization"] = (
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}".format(
                keys["AccessKeyId"], scope, names, signature
            )
        )
        del headers["host"]  # urllib writes the same one
        return headers

    def endpoint(self, service: str) -> Optional[str]:
        """What stands in for AWS's own endpoint."""
        own = os.environ.get("AWS_ENDPOINT_URL_" + service.upper())
        told = own or os.environ.get("AWS_ENDPOINT_URL")
        return told.rstrip("/") if told else None

    def domain(self) -> str:
        return "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"


def _tag(text: str, name: str) -> str:
    found = re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL)
    return found.group(1) if found else ""


# -- S3, and the spot request ----------------------------------------------------------------


class Bucket:
    """The launch's bucket."""

    def __init__(self, aws: Aws, name: str) -> None:
        self._aws = aws
        self._name = name

    def fetch(self, key: str, sha256: str, target: str) -> int:
        """Bring an object, which must be what the launch has sent; its size. Raises Failed."""
        return int(patiently(f"s3://{self._name}/{key}", lambda: self._fetch(key, sha256, target)))

    def _fetch(self, key: str, sha256: str, target: str) -> int:
        size, digest = 0, hashlib.sha256()
        try:
            with self._aws.open("s3", "GET", self._url(key)) as answer, open(target, "wb") as file:
                expected = int(answer.headers.get("Content-Length", -1))
                for block in iter(lambda: answer.read(1 << 20), b""):
                    file.write(block)
                    digest.update(block)
                    size += len(block)
        except (OSError, HTTPException) as error:
            if getattr(error, "filename", None) == target or getattr(error, "errno", None) == 28:
                raise Failed(f"{target}: {error}")
            raise Again(f"broken off after {size} bytes: {error}")
        if 0 <= expected != size:
            raise Again(f"broken off after {size} of {expected} bytes")
        if digest.hexdigest() != sha256:
            told = "isn't what was launched: its sha256 is {}, not {}"
            raise Again(told.format(digest.hexdigest(), sha256), 0.3)
        return size

    def text(self, key: str) -> bytes:
        """What a small object holds; nothing where there is none. Raises Failed."""
        return bytes(patiently(f"s3://{self._name}/{key}", lambda: self._text(key)))

    def _text(self, key: str) -> bytes:
        try:
            with self._aws.open("s3", "GET", self._url(key)) as answer:
                return bytes(answer.read())
        except Missing:
            return b""
        except (OSError, HTTPException) as error:
            raise Again(f"broken off: {error}")

    def stored_at(self, key: str) -> float:
        """When an object was stored, by S3's clock. Raises Failed."""
        return float(patiently(f"s3://{self._name}/{key}", lambda: self._stored_at(key)))

    def _stored_at(self, key: str) -> float:
        try:
            with self._aws.open("s3", "HEAD", self._url(key)) as answer:
                return parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
        except (TypeError, ValueError, Missing) as error:
            raise Failed(f"{key}: no time of it: {error}")
        except (OSError, HTTPException) as error:
            raise Again(f"broken off: {error}")

    def store(self, key: str, body: bytes) -> None:
        """Raises Failed."""
        what = f"storing s3://{self._name}/{key}"
        patiently(what, lambda: self._aws.open("s3", "PUT", self._url(key), body).close())

    def _url(self, key: str) -> str:
        path = quote(key, safe="/-_.~")
        base = self._aws.endpoint("s3")
        if base is None and "." not in self._name:
            host = f"{self._name}.s3.{self._aws.region}.{self._aws.domain()}"
            return f"https://{host}/{path}"
        base = base or f"https://s3.{self._aws.region}.{self._aws.domain()}"
        return f"{base}/{self._name}/{path}"


def cancel_spot_request(metadata: Metadata) -> None:
    """Have EC2 launch no other machine for this one. Raises Again, Failed."""
    if metadata.get("instance-life-cycle") != "spot":
        return
    instance = metadata.get("instance-id")
    aws = Aws(metadata, metadata.get("placement/region"))
    told = _ec2(aws, Action="DescribeInstances", **{"InstanceId.1": instance})
    request = _tag(told, "spotInstanceRequestId")
    if not request:
        own = {"Filter.1.Name": "instance-id", "Filter.1.Value.1": instance}
        request = _tag(
            _ec2(aws, Action="DescribeSpotInstanceRequests", **own), "spotInstanceRequestId"
        )
    if request:
        _ec2(aws, Action="CancelSpotInstanceRequests", **{"SpotInstanceRequestId.1": request})
        say(f"spot request {request} is cancelled")


def _ec2(aws: Aws, **parameters: str) -> str:
    url = aws.endpoint("ec2") or f"https://ec2.{aws.region}.{aws.domain()}"
    body = urlencode(sorted({"Version": "2016-11-15", **parameters}.items())).encode()
    with aws.open("ec2", "POST", url + "/", body, 20) as answer:
        return str(answer.read().decode())


# -- what is told of it ----------------------------------------------------------------------


class Story:
    """The phases of this boot and when each was over, for who launched the machine."""

    def __init__(self, told: Dict[str, Any]) -> None:
        self._told = told

    @classmethod
    def begun(cls, boot: Dict[str, Any]) -> "Story":
        about = {"version": 1, "outcome": "booting", "error": None, "instance_id": None}
        about.update({name: boot[name] for name in ("launch", "queue_id", "expires")})
        about.update({"booted": booted(), "phases": []})
        story = cls(about)
        story.over("user-data")
        return story

    @classmethod
    def kept(cls) -> "Story":
        with open(PLACE + "/bootstrap.json") as file:
            return cls(json.load(file))

    def over(self, phase: str) -> None:
        now, phases = time.time(), self._told["phases"]
        before = phases[-1]["at"] if phases else self._told["booted"]
        phases.append({"phase": phase, "at": round(now, 2), "seconds": round(now - before, 2)})
        say(f"{phase} ({now - before:.1f} s)")
        self.tell()

    def tell(self, **more: Any) -> None:
        self._told.update(more)
        with open(PLACE + "/bootstrap.json.new", "w") as file:
            json.dump(self._told, file)
        os.rename(PLACE + "/bootstrap.json.new", PLACE + "/bootstrap.json")

    def text(self) -> bytes:
        return json.dumps(self._told, indent=1).encode() + b"\n"


def booted() -> float:
    """When the machine's first process began: seconds since the epoch."""
    with open("/proc/1/stat", "rb") as file:
        ticks = int(file.read().rpartition(b")")[2].split()[19])
    with open("/proc/uptime") as uptime:
        up = float(uptime.read().split()[0])
    return round(time.time() - up + ticks / os.sysconf("SC_CLK_TCK"), 2)


def read_log() -> bytes:
    with open(LOG, "rb") as file:
        return file.read()[-4000000:]


# -- the phases ------------------------------------------------------------------------------


def run(words: List[str], seconds: float, what: str = "", **more: str) -> None:
    """A command, its output in the log; ``what``: its name for people. Raises Failed."""
    what = what or "`{}`".format(" ".join(words))
    say("$ " + " ".join(words))
    with open(LOG, "ab") as log:
        start = log.tell()
        try:
            code = subprocess.call(
                words,
                env={**os.environ, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{what} took more than {seconds:.0f} s")
        except OSError as error:
            raise Failed(f"{what}: {error}")
    if code:
        with open(LOG, "rb") as log:
            log.seek(start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        raise Failed("{} failed ({}): {}".format(what, code, " / ".join(lines[-3:])))


def fetch(boot: Dict[str, Any], bucket: Bucket) -> None:
    for name in ("bundle", "document", "workdir"):
        if boot[name] is not None:
            size = bucket.fetch(boot[name]["key"], boot[name]["sha256"], PLACE + "/" + name)
            say(f"{name}: {size} bytes")


def see_that_there_is_work(boot: Dict[str, Any], bucket: Bucket) -> None:
    """A spot request that opened again boots a machine for a queue that may have ended long ago.

    To run that once more would cost as much as the first time. Raises Over.
    """
    key = boot.get("state_key")
    try:
        told = json.loads(bucket.text(key).decode() or "{}") if key else {}
        if told.get("queue_id") != boot["queue_id"] or told.get("status") not in ENDED:
            return
        # What was there before the launch is another run's: this machine is to begin a new one.
        former = bucket.stored_at(str(key)) <= bucket.stored_at(boot["document"]["key"])
    except (Failed, ValueError, AttributeError, RecursionError) as error:
        say(f"nobody can tell whether the queue has ended already: {error}")
        return
    if former:
        say("the queue had ended before this launch: {}".format(told["status"]))
        return
    raise Over("queue {} has ended already: {}".format(told["queue_id"], told["status"]))


def need_python() -> None:
    """A Python that runner runs on: the image's, or the distribution's. Raises Failed."""
    if whole_python():
        return
    if os.path.exists("/usr/bin/dnf"):
        words = ["dnf", "install", "-y", "python3.11"]
    elif os.path.exists("/usr/bin/apt-get"):
        lock = "-oDPkg::Lock::Timeout=300"
        run(["apt-get", lock, "update"], 300)
        words = ["apt-get", lock, "install", "-y", "--no-install-recommends", "python3.11"]
    else:
        raise Failed("this image has no Python >= 3.11, and neither dnf nor apt-get to get one")
    for left in (2, 1, 0):
        try:
            run(words, 600, DEBIAN_FRONTEND="noninteractive")
            break
        except Failed as error:
            if not left:
                raise
            say(f"{error}; it is tried again")
            time.sleep(5)
    if not whole_python():
        raise Failed("there is still no whole Python >= 3.11 after `{}`".format(" ".join(words)))


def whole_python() -> bool:
    check = "import sys; assert sys.version_info >= (3, 11); import sqlite3, ssl, zipfile"
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        try:
            if subprocess.call([name, "-I", "-c", check], stderr=subprocess.DEVNULL) == 0:
                return True
        except OSError:
            continue
    return False


def stop_upgrades() -> None:
    """Nothing but runner changes this machine from now on; as far as that can be had."""
    folders = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
    there = [
        unit for unit in UPGRADES if any(os.path.exists(f"{folder}/{unit}") for folder in folders)
    ]
    if there:
        try:
            run(["systemctl", "mask", "--now", *there], 60)
        except Failed as error:
            say(str(error))


def install() -> None:
    """Unpack the bundle, and call what it brings. Raises Failed."""
    try:
        with tarfile.open(PLACE + "/bundle", "r:gz") as archive:
            top = archive.getnames()[0].split("/")[0]
            archive.extractall(PLACE + "/unpacked")
    except (tarfile.TarError, OSError, EOFError, IndexError) as error:
        raise Failed(f"the bundle can't be unpacked: {error}")
    run(["sh", f"{PLACE}/unpacked/{top}/install.sh", "--no-start"], 300, "the installation")


def boot_up() -> None:
    """All of it. Raises Failed, Over."""
    with open(PLACE + "/boot.json") as file:
        boot = json.load(file)
    story = Story.begun(boot)
    metadata = Metadata()
    aws = Aws(metadata, boot["region"])
    patiently("the role's credentials", aws.keys)
    story.tell(instance_id=patiently("the instance's id", lambda: metadata.get("instance-id")))
    story.over("credentials")
    bucket = Bucket(aws, boot["bucket"])
    # A role that may not write would cost hours of work: said now, and not at its end.
    bucket.store(boot["report_key"], story.text())
    try:
        see_that_there_is_work(boot, bucket)
    except Over as over:
        story.tell(outcome="over", error=str(over), ended=round(time.time(), 2))
        bucket.store(boot["report_key"], story.text())
        raise
    fetch(boot, bucket)
    story.over("fetched")
    stop_upgrades()
    need_python()
    story.over("python")
    install()
    story.over("installed")
    arrive = ["/opt/runner/current/bin/python", "-I", "-m", "runner.targets.ec2.arrival", PLACE]
    run(arrive, 900, "the start")
    story.over("submitted")
    shutil.rmtree(PLACE + "/unpacked", ignore_errors=True)
    for name in ("bundle", "workdir"):
        if os.path.exists(f"{PLACE}/{name}"):
            os.remove(f"{PLACE}/{name}")
    story.tell(outcome="ready")
    for key, body in ((boot["report_key"], story.text()), (boot["log_key"], read_log())):
        try:
            bucket.store(key, body)
        except Failed as error:
            say(str(error))


def report(why: str) -> None:
    """What failed, to where whoever launched it looks. Raises Failed."""
    with open(PLACE + "/boot.json") as file:
        boot = json.load(file)
    try:
        story = Story.kept()
    except (OSError, ValueError):
        story = Story.begun(boot)
    story.tell(outcome="failed", error=why, ended=round(time.time(), 2))
    bucket = Bucket(Aws(Metadata(), boot["region"]), boot["bucket"])
    for key, body in ((boot["log_key"], read_log()), (boot["report_key"], story.text())):
        bucket.store(key, body)


def main(words: List[str]) -> int:
    try:
        if words[:1] == ["boot"]:
            boot_up()
        elif words[:1] == ["report"]:
            report(words[1])
        else:
            patiently("the spot request", lambda: cancel_spot_request(Metadata()))
    except (Failed, Over) as error:
        say(str(error))
        with open(PLACE + "/why", "w") as file:
            file.write(str(error))
        return 3 if isinstance(error, Over) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
