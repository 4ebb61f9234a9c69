"""An installation, or an upgrade: checks, what is put into place, and the service's start."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from .files import replace_link, sha256, sync, write
from .foreign import claim, first_settings, see_that_it_fits, see_whose_jobs, wanted
from .places import (
    BUNDLE,
    CURRENT,
    KINDS,
    SERVED,
    SETTINGS,
    VERSIONS,
    InstallRefused,
    links,
    unit_files,
)
from .record import InstallRecord, Thing
from .removal import remove_all
from .system import booted, call, runs
from .versions import make_version, remove_old, sweep


def install(*, start: bool, adopt: bool) -> None:
    """Raises InstallRefused before anything is written.

    A first installation that fails leaves nothing.
    """
    version, sums = checked()
    name = f"{version}-{hashlib.sha256(sums + sys.version.encode()).hexdigest()[:12]}"
    record = InstallRecord.read()
    things = claim(record, wanted(name), adopt=adopt)
    if warning := see_whose_jobs():
        print(f"install.sh: {warning}", file=sys.stderr)
    see_that_it_fits(things, name)
    before = dict(record.things)
    if str(VERSIONS) in before:
        sweep()
    news = not is_in_place(name, things)
    try:
        record.intend(things)
        make_version(name)
        put_in_place(record, things, name, news)
    except BaseException:
        sweep()
        if str(CURRENT) not in before:
            remove_all(record, [key for key in record.things if key not in before])
        raise
    record.settle(things)
    if start:
        call("systemctl", "enable", "--quiet", "runner.service", "runner-lifetime.timer")
        if booted():
            serve(name, news)
    # What an older version had, and this one hasn't: its timer last, when the new one runs.
    files = [key for key, thing in record.things.items() if thing.kind in ("file", "link")]
    remove_all(record, [key for key in files if key not in things and key != str(SETTINGS)])
    remove_old(record, name)
    already = "" if news else " already"
    print(f"runner {version} is installed{already}{' and runs' if start and booted() else ''}")


def checked() -> tuple[str, bytes]:
    """The bundle's version and its list of sums, if it is whole and for this machine."""
    try:
        sums = (BUNDLE / "SHA256SUMS").read_bytes()
        for line in sums.decode().splitlines():
            digest, _, name = line.partition("  ")
            if sha256((BUNDLE / name).read_bytes()) != digest:
                raise InstallRefused(f"{BUNDLE / name} is damaged: it isn't what SHA256SUMS says")
    except OSError as error:
        raise InstallRefused(
            f"this bundle isn't whole: {error.filename}: {error.strerror}"
        ) from None
    version, arch = (BUNDLE / "VERSION").read_text().split()
    if arch != platform.machine():
        raise InstallRefused(f"this bundle is for {arch}, and this machine is {platform.machine()}")
    for tool in ("systemctl", "systemd-sysusers", "systemd-tmpfiles"):
        if shutil.which(tool) is None:
            raise InstallRefused(f"runner needs systemd, and there is no {tool} here")
    return version, sums


def put_in_place(record: InstallRecord, things: Mapping[str, Thing], name: str, news: bool) -> None:
    """What the version, which is there already, is used by."""
    if news:
        # Before anything changes: killed after that, the next call restarts the service.
        SERVED.unlink(missing_ok=True)
    ours = {place: source for place, source in unit_files().items() if str(place) in things}
    for place, source in ours.items():
        set_aside_if_changed(record, place)
        write(place, source.read_bytes())
    replace_link(CURRENT, f"versions/{name}")
    for link, target in links().items():
        replace_link(link, target)
    rules = {kind: [str(p) for p in ours if p.parent == folder] for kind, folder in KINDS.items()}
    call("systemd-sysusers", *rules["systemd/sysusers.d/"])
    if not SETTINGS.exists():
        write(SETTINGS, first_settings())
    if booted():
        # Each boot does it, too.
        call("systemd-tmpfiles", "--create", *rules["systemd/tmpfiles.d/"])
        call("systemctl", "daemon-reload")


def set_aside_if_changed(record: InstallRecord, place: Path) -> None:
    """A file of ours that was edited is put back; what it said stays beside it."""
    if place.exists() and sha256(place.read_bytes()) not in record.things[str(place)].marks:
        aside = place.with_name(f"{place.name}.changed")
        place.rename(aside)
        sync(place.parent)
        print(f"install.sh: {place} was changed, and is put back; see {aside}", file=sys.stderr)


def is_in_place(name: str, things: Mapping[str, Thing]) -> bool:
    """Whether the service was started with this very version and these units."""
    ours = {place: source for place, source in unit_files().items() if str(place) in things}
    try:
        there = all(place.read_bytes() == source.read_bytes() for place, source in ours.items())
        return there and os.readlink(CURRENT) == f"versions/{name}" and SERVED.read_text() == name
    except OSError:
        return False


def serve(name: str, news: bool) -> None:
    """Have the service run, with what is installed now."""
    if not news and runs("runner.service"):
        call("systemctl", "start", "runner-lifetime.timer")
        return
    # Also the first start. Living jobs go on, and are adopted by the new version.
    call("systemctl", "restart", "runner.service", "runner-lifetime.timer")
    write(SERVED, name.encode())
