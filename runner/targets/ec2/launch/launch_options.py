"""How a queue was launched: the flags as they were given, kept in the bucket beside its document.

What a replacement is like, where nothing else is asked for. Its sha256 is in the launch's record,
in the index and on the laptop: what the bucket has counts only if it is what the launch wrote. Keys
that aren't known are ignored. It has no secrets: a command line shows more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from runner.errors import RecordError, UsageError
from runner.model.records import Name, Rule, matching, parse, whole
from runner.targets.ec2.launch.user_data import Shipped

NAME = "launch.json"
"""Below names.launch_key."""

VERSION = 1

LARGEST = 64 * 1024
"""Bytes; a command line of all flags has some hundred."""

_PACKED = matching(
    r"runner/(?:launches|schedules)/[0-9a-z-]+/workdir\.tar\.gz", "a work folder's key"
)
_SHA256 = matching(r"[0-9a-f]{64}", "a sha256")


@dataclass(frozen=True, slots=True)
class _Flags:
    """Of `launch`, what a replacement has too, as argparse gives it."""

    instance_type: str | None = None
    spot: bool | None = None
    fallback_on_demand: bool | None = None
    disk_size: str | None = None
    ami: str | None = None
    security_group: str | None = None
    subnet: str | None = None
    no_public_ip: bool | None = None
    iam_role: str | None = None
    key_name: str | None = None
    job_user: str | None = None
    tag: tuple[str, ...] = ()
    on_complete: str | None = None
    keep_on_failure: str | None = None
    max_lifetime: str | None = None
    notify_if_lost: bool | None = None


FLAGS = tuple(each.name for each in fields(_Flags))

OF_REGION = ("ami", "security_group", "subnet", "key_name")
"""Those that mean nothing in another region."""


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """One launch as it was asked for. ``flags`` by their long names, with ``_`` for ``-``."""

    region: str
    flags: Mapping[str, Any] = field(default_factory=dict)
    workdir: Shipped | None = None

    def encode(self) -> bytes:
        """As it is stored."""
        told: dict[str, Any] = {"version": VERSION, "region": self.region, "flags": self.flags}
        if self.workdir is not None:
            told["workdir"] = {"key": self.workdir.key, "sha256": self.workdir.sha256}
        return f"{json.dumps(told)}\n".encode()


def launch_options_of(
    given: Mapping[str, Any], region: str, workdir: Shipped | None
) -> LaunchOptions:
    """The options of a command line; flags that were not given are left out."""
    return LaunchOptions(
        region, {n: v for n in FLAGS if (v := given.get(n)) not in _NOT_GIVEN}, workdir
    )


def sha256_of(data: bytes) -> str:
    """What the launch's record keeps of stored options."""
    return hashlib.sha256(data).hexdigest()


def known(data: bytes, sha256: str | None, place: str) -> LaunchOptions:
    """The options that are stored at ``place``, if they are what the launch wrote.

    ``sha256``: what the launch's record says of it. Raises UsageError for another one, and where
    nothing says what it was; RecordError for what no runner has written.
    """
    if sha256 != (found := sha256_of(data)):
        says = f"has {sha256}" if sha256 else "says nothing of it"
        raise UsageError(
            f"{place} is not what the launch wrote: its sha256 is {found}, and the launch's record "
            f"{says}\nnothing of it is used: who can write to the bucket could choose image, role "
            f"and key of the machine\nlook at it; once it is removed (aws s3 rm {place}), the "
            "replacement is what flags say: --instance-type T …"
        )
    return parse_launch_options(data, place)


@dataclass(frozen=True, slots=True)
class _Packed:
    key: Annotated[str, Rule(_PACKED)]
    sha256: Annotated[str, Rule(_SHA256)]


@dataclass(frozen=True, slots=True)
class _Stored:
    version: Annotated[int, Rule(whole(VERSION, VERSION))]
    region: Name
    flags: _Flags
    workdir: _Packed | None = None


def parse_launch_options(data: bytes, place: str) -> LaunchOptions:
    """What was stored. Raises RecordError, which begins with ``place``, for anything else."""
    if len(data) > LARGEST:
        raise RecordError(
            f"{place}: is no file of launch options: it has more than {LARGEST:,} bytes"
        )
    told = parse(_Stored, data, place)
    flags = {n: v for n in FLAGS if (v := getattr(told.flags, n)) not in _NOT_GIVEN}
    if "tag" in flags:
        flags["tag"] = list(flags["tag"])
    workdir = None if told.workdir is None else Shipped(told.workdir.key, told.workdir.sha256)
    return LaunchOptions(told.region, flags, workdir)


_NOT_GIVEN: tuple[object, ...] = (None, False, (), [])


def replacement(options: LaunchOptions, given: Mapping[str, Any], region: str) -> dict[str, Any]:
    """The flags of a replacement: the first launch's, and over them what is ``given``.

    ``on_demand`` in ``given`` takes back what the first launch's options say of the market.
    """
    moved = region != options.region
    flags = {n: v for n, v in options.flags.items() if not (moved and n in OF_REGION)}
    if given.get("on_demand"):
        flags = {n: v for n, v in flags.items() if n not in ("spot", "fallback_on_demand")}
        if flags.get("on_complete") == "stop" and options.flags.get("spot"):
            del flags["on_complete"]
    for name in FLAGS:
        value = given.get(name)
        if name == "tag" and value:
            value = _tags(flags.get("tag", ()), value)
        if value not in (None, False):
            flags[name] = value
    return flags


def _tags(before: list[str], given: list[str]) -> list[str]:
    """Given ones stand in for those of the same key."""
    keys = {text.partition("=")[0] for text in given}
    return [text for text in before if text.partition("=")[0] not in keys] + list(given)
