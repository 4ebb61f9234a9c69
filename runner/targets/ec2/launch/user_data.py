"""What a new machine is told to do at its first boot: one script, with what it is to fetch.

Owns the form of the user-data. The two programs in it are ``first_boot/boot.sh``, which arms the
lifetime guard and needs nothing but systemd, and the package beside it, which does the rest.
Whoever may ask EC2 for an instance's user-data can read it: there is no secret in it.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from runner.bundle.bare_files import bare_files
from runner.errors import UsageError
from runner.model.settings import Settings, load_settings
from runner.targets.ec2 import names

LIMIT = 16 * 1024
"""Bytes of user-data, before base64 (EC2 User Guide, "Run commands at launch")."""

PATIENCE = 1800
"""Seconds from the lifetime guard to READY; what takes longer has failed."""

_PROGRAMS = Path(__file__).parent.parent / "boot" / "first_boot"
_END = "END_OF_PROGRAM"


@dataclass(frozen=True, slots=True)
class Shipped:
    """An object in the launch's bucket, and what it must be."""

    key: str
    sha256: str


@dataclass(frozen=True, slots=True)
class BootFiring:
    """What a firing's machine is told beside the rest. ``name``: the schedule's; ``parent``: the
    key prefix below which each firing has its own; ``overlap``: ``allow`` or ``skip``;
    ``lifetime``: seconds from its first boot."""

    name: str
    parent: str
    overlap: str
    lifetime: int


@dataclass(frozen=True, slots=True)
class BootConfig:
    """All that a machine has to know. ``region`` is the bucket's, as far as the laptop knows.

    ``settings``: keys of runner.toml and their values, as text; ``max_lifetime`` is not among them:
    the machine reckons it from ``expires`` (seconds since the epoch). ``keep_on_failure``: seconds
    that a machine stays for a look when it could not be set up. ``state_key``: the queue's state in
    the bucket; if that says that it has ended since the launch, the machine ends at once.
    ``again``: the flags of its `submit`, for a queue that is to be mended.

    ``firing``: of a schedule's machines, which have no ``expires``: ``launch`` and ``queue_id``
    have the schedule's part then, and the machine adds the time of its firing.
    """

    region: str
    bucket: str
    launch: str
    queue_id: str
    bundle: Shipped
    document: Shipped
    workdir: Shipped | None
    settings: Mapping[str, str]
    expires: int
    keep_on_failure: int
    state_key: str | None = None
    again: Sequence[str] = ()
    firing: BootFiring | None = None


def user_data(boot: BootConfig) -> bytes:
    """The bytes for RunInstances (boto3 encodes them); the same for the same boot.

    Raises UsageError for a setting that the daemon would refuse, and for what is too large for EC2.
    """
    _check(boot)
    script = _script(boot).encode()
    # cloud-init unpacks it. No time in it: two tries of one launch must send the same request.
    packed = gzip.compress(script, compresslevel=9, mtime=0)
    data = min(script, packed, key=len)
    if len(data) >= LIMIT:
        raise UsageError(
            f"the user-data would have {len(data):,} bytes, and EC2 takes fewer than {LIMIT:,}: "
            "shorten the settings or names that go with the launch"
        )
    return data


def _check(boot: BootConfig) -> None:
    known = {field.name for field in fields(Settings)} - {"config_file", "machine_run_dir"}
    for key in boot.settings:
        if key not in known:
            raise UsageError(f"{key}: there is no such setting")
    # As the daemon will read them, on a machine that is paid for.
    load_settings({}, root=True, home=Path("/"), config=Path(os.devnull), overrides=boot.settings)


def _script(boot: BootConfig) -> str:
    told = asdict(replace(boot, settings=dict(boot.settings)))
    told["log_key"] = names.launch_key(boot.launch, "bootstrap.log")
    told["report_key"] = names.launch_key(boot.launch, "bootstrap.json")
    at = time.strftime("at %Y-%m-%d %H:%M:%S UTC", time.gmtime(boot.expires))
    parts = {
        "@EXPIRES@": f"+{boot.firing.lifetime}" if boot.firing else str(int(boot.expires)),
        "@CALENDAR@": f"{boot.firing.lifetime} s after its first boot" if boot.firing else at,
        "@KEEP@": str(math.ceil(max(0, boot.keep_on_failure))),
        "@PATIENCE@": str(PATIENCE),
        "@PROGRAM@": "\n".join(
            (
                _here_documents("runner/bundle/bare", bare_files()),
                _here_documents("first_boot", sorted(_PROGRAMS.glob("*.py"))),
            )
        ),
        # One line of ASCII: nothing in it can end the here-document, or mean anything to a shell.
        "@BOOT_JSON@": json.dumps(told, sort_keys=True),
    }
    script = (_PROGRAMS / "boot.sh").read_text()
    for mark, text in parts.items():
        script = script.replace(mark, text, 1)
    return script


def _here_documents(folder: str, files: Sequence[Path]) -> str:
    """Commands that write these files; the first that can't be written ends the function."""
    return "\n".join(
        f"    cat > $place/{folder}/{file.name} <<'{_END}' || return\n{file.read_text()}{_END}"
        for file in files
    )
