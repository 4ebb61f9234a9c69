"""What a launch is asked for: flags as they were given, checked on their own, all at once.

Pure: it asks nobody. Whether EC2 has such things is ``preflight``'s business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runner.errors import UsageError
from runner.model.durations import format_duration, parse_duration
from runner.model.messages import quoted

DISK = 30
"""GiB of the root volume where nothing was asked for; more if the image has more."""

LONGEST_DISK = 16_384
"""GiB of a gp3 volume (EBS User Guide, "General Purpose SSD volumes")."""

SLACK = 3600.0
"""Seconds that a machine may live beyond its queue: for its boot, and for who looks at it."""

LONG = 168 * 3600.0
"""Seconds. A default lifetime doubles the queue's time only up to here: a week."""

SHORTEST = 300.0
"""Seconds. To boot, to install and to store the last results takes minutes: a machine that lives
no longer is paid for, and runs nothing."""

MOST_TAGS = 40
"""Of a user's; EC2 takes 50 a resource, and some are ours."""

OWN_TAGS = "runner:"

ON_COMPLETE = ("terminate", "stop", "none")

_TYPE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")
_IDS = {name: re.compile(rf"{name}-[0-9a-f]{{8,17}}") for name in ("ami", "sg", "subnet")}
_ROLE = re.compile(r"[\w+=,.@-]{1,128}|arn:aws[a-z-]*:iam::[0-9]{12}:instance-profile/[!-~]{1,512}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """A launch as it was asked for. Times in seconds; ``disk`` in GiB, None is not given.

    ``lifetime_why``: words on where ``max_lifetime`` comes from. ``public_ip``: None is what the
    subnet says. ``keep_on_failure``: None is no longer than after a success.
    ``notify_if_lost``: a schedule is to tell of the machine if it dies.
    """

    types: tuple[str, ...]
    max_lifetime: float
    lifetime_why: str = ""
    region: str | None = None
    spot: bool = False
    fallback: bool = False
    disk: int | None = None
    image: str | None = None
    groups: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    role: str | None = None
    key_name: str | None = None
    job_user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    on_complete: str = "terminate"
    keep_on_failure: float | None = None
    public_ip: bool | None = None
    notify_if_lost: bool = False

    @property
    def markets(self) -> tuple[str, ...]:
        """``spot``, ``on-demand``: in the order they are tried."""
        if not self.spot:
            return ("on-demand",)
        return ("spot", "on-demand") if self.fallback else ("spot",)


def launch_request_of(flags: Mapping[str, Any], global_timeout: float) -> LaunchRequest:
    """What a command line asks for, for a queue that may take ``global_timeout`` seconds.

    ``flags`` by their long names, with ``_`` for ``-``; None is not given.

    Raises UsageError with a line for every flag that is wrong.
    """
    reader = _Reader(flags)
    spot, fallback = bool(flags.get("spot")), bool(flags.get("fallback_on_demand"))
    on_complete = flags.get("on_complete") or "terminate"
    if fallback and not spot:
        reader.errors.append("--fallback-on-demand: is for --spot; without it all is on demand")
    if spot and on_complete == "stop":
        reader.errors.append(
            "--on-complete stop: a spot machine can't be stopped once its request is cancelled; "
            "give terminate or none"
        )
    lifetime, why = _lifetime(reader.one("max_lifetime", _long_enough), global_timeout)
    wanted = LaunchRequest(
        types=reader.many("instance_type", _type) or (),
        max_lifetime=lifetime,
        lifetime_why=why,
        region=reader.one("region", _matching(_REGION, "a region such as us-east-1")),
        spot=spot,
        fallback=fallback,
        disk=reader.one("disk_size", _disk),
        image=reader.one("ami", _id("ami")),
        groups=reader.many("security_group", _id("sg")) or (),
        subnets=reader.many("subnet", _id("subnet")) or (),
        role=reader.one("iam_role", _role),
        key_name=reader.one("key_name", _plain),
        job_user=reader.one("job_user", _matching(_USER, "the name of a user")),
        tags=reader.tags("tag"),
        on_complete=on_complete,
        keep_on_failure=reader.one("keep_on_failure", parse_duration),
        public_ip=False if flags.get("no_public_ip") else None,
        notify_if_lost=bool(flags.get("notify_if_lost")),
    )
    if not wanted.types and not any("--instance-type" in error for error in reader.errors):
        reader.errors.append(
            "--instance-type: is required, such as t3.medium or g5.xlarge,g6.xlarge"
        )
    if reader.errors:
        raise UsageError("\n".join(reader.errors))
    return wanted


def _lifetime(given: float | None, global_timeout: float) -> tuple[float, str]:
    if given is not None:
        return given, "--max-lifetime"
    double = 2 * global_timeout + SLACK
    bound = max(LONG, global_timeout + SLACK)
    if double <= bound:
        return double, f"2 × global_timeout + {format_duration(SLACK)}"
    if bound == LONG:
        return bound, "a week; --max-lifetime allows more"
    return bound, f"global_timeout + {format_duration(SLACK)}"


def _long_enough(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < SHORTEST:
        raise ValueError(
            f"{quoted(text)} is over before a job has run: at least {format_duration(SHORTEST)}, "
            "for the machine boots and installs in that time"
        )
    return seconds


class _Reader:
    """Reads flags one by one; what is wrong with them comes together in ``errors``."""

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self._flags = flags
        self.errors: list[str] = []

    def one(self, name: str, read: Callable[[str], T]) -> T | None:
        value = self._flags.get(name)
        return None if value is None else self._read(name, value, read)

    def many(self, name: str, read: Callable[[str], T]) -> tuple[T, ...] | None:
        """A list with commas; each thing once."""
        value = self._flags.get(name)
        if value is None:
            return None
        found = [self._read(name, part.strip(), read) for part in value.split(",")]
        return tuple(dict.fromkeys(each for each in found if each is not None))

    def tags(self, name: str) -> dict[str, str]:
        made: dict[str, str] = {}
        for text in self._flags.get(name) or ():
            pair = self._read(name, text, _tag)
            if pair is None:
                continue
            if pair[0] in made:
                self.errors.append(f"--{name}: {quoted(pair[0])} is given twice")
            made[pair[0]] = pair[1]
        if len(made) > MOST_TAGS:
            self.errors.append(f"--{name}: {len(made)} tags; at most {MOST_TAGS}")
        return made

    def _read(self, name: str, text: str, read: Callable[[str], T]) -> T | None:
        try:
            return read(text)
        except ValueError as error:
            self.errors.append(f"--{name.replace('_', '-')}: {error}")
            return None


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{quoted(text)} is not {what}")
        return text

    return read


def _id(kind: str) -> Callable[[str], str]:
    return _matching(_IDS[kind], f"an id such as {kind}-0123456789abcdef0")


_type = _matching(_TYPE, "an instance type such as t3.medium")
_role = _matching(_ROLE, "the name or ARN of an instance profile")


def _plain(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > 255:
        raise ValueError(f"{quoted(text)} is not the name of a key pair")
    return text


def _disk(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= LONGEST_DISK:
        raise ValueError(f"{quoted(text)} is not a number of GiB from 1 to {LONGEST_DISK:,}")
    return int(text)


def _tag(text: str) -> tuple[str, str]:
    """EC2 User Guide, "Tag restrictions": lengths, and the prefix aws:."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ValueError(f"{quoted(text)} is not KEY=VALUE")
    if key.lower().startswith("aws:") or key.startswith(OWN_TAGS):
        raise ValueError(f"{quoted(key)}: tags that begin with aws: or {OWN_TAGS} aren't yours")
    if len(key) > 128 or len(value) > 256:
        raise ValueError(f"{quoted(key)} is too long: a key has 128 characters, a value 256")
    return key, value
