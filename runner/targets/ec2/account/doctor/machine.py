"""All that is looked at on a machine that runner is installed on, by root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, calling
from runner.aws.platform import on_ec2
from runner.errors import NotFoundError, RunnerError
from runner.host.jobs_unit import UNIT as JOBS_UNIT
from runner.host.metadata import InstanceMetadata, MetadataError
from runner.model.settings import Settings
from runner.results.stores import is_s3
from runner.service.job_user import check_folders, job_user
from runner.service.queue_repository import QueueRepository
from runner.service.result_stores import opened, wanted
from runner.targets.ec2.account.doctor.findings import Check, Finding, examine, fail, ok, warn
from runner.targets.ec2.account.doctor.notices import check_targets

INSTALLED = Path("/opt/runner")

SERVICE = "runner.service"
LIFETIME_TIMER = "runner-lifetime.timer"
AGENTS = ("amazon-ssm-agent.service", "snap.amazon-ssm-agent.amazon-ssm-agent.service")
"""The second is how Ubuntu's images have it."""

OLDEST_SYSTEMD = 249
"""Ubuntu 22.04's: with less it was never tried."""

_CALL = 5.0
"""Seconds for one call of systemctl."""

_CGROUPS = Path("/sys/fs/cgroup")

_GIB = 1024**3


def is_one() -> bool:
    """Whether this is a machine that runner is installed on, and we may look at all of it."""
    return os.geteuid() == 0 and INSTALLED.is_dir()


def examine_machine(load: Callable[[], Settings]) -> list[Finding]:
    """Everything. ``load`` reads the settings; where they can't be read the rest is told."""
    checks: dict[str, Check] = {
        "service": _service,
        "jobs' unit": _jobs_unit,
        "lifetime guard": _lifetime_timer,
        "systemd": _systemd,
        "SSM agent": _agent,
        "metadata": _metadata,
        "credentials": _credentials,
    }
    try:
        settings = load()
    except RunnerError as error:
        todo = f"mend the file; `systemctl restart {SERVICE}`"
        return [fail("settings", str(error), todo), *examine(checks)]
    more: dict[str, Check] = {
        "job user": partial(_job_user, settings),
        "disk": partial(_disk, settings),
        "results": partial(_results, settings),
        "notices": partial(check_targets, settings),
    }
    file = settings.config_file
    read = f"{file} is readable" if file else "no file: there is no home folder to look for one in"
    return [ok("settings", read), *examine(checks | more)]


# -- systemd ---------------------------------------------------------------------------------


def _shown(unit: str) -> dict[str, str]:
    """What systemd says of a unit; a unit that isn't there is ``LoadState=not-found``."""
    names = "LoadState,ActiveState,SubState,Result,NRestarts,ControlGroup,StatusText"
    words = ["systemctl", "show", unit, f"--property={names}"]
    text = subprocess.run(words, capture_output=True, text=True, timeout=_CALL).stdout
    return dict(line.partition("=")[::2] for line in text.splitlines())


def _service() -> list[Finding]:
    shown = _shown(SERVICE)
    if shown.get("ActiveState") == "active":
        again = int(shown.get("NRestarts") or 0)
        says = f"active: {shown.get('StatusText') or shown.get('SubState')}"
        if again:
            todo = "`journalctl -u runner -p warning` says why"
            return [warn("service", f"{says}; it was started again {again} times", todo)]
        return [ok("service", says)]
    says = f"{shown.get('ActiveState', 'unknown')} ({shown.get('Result', 'no reason given')})"
    return [fail("service", says, "`journalctl -u runner -n 5`; then `systemctl start runner`")]


def _jobs_unit() -> list[Finding]:
    shown = _shown(JOBS_UNIT)
    if shown.get("ActiveState") != "active":
        says = f"{JOBS_UNIT} is {shown.get('ActiveState', 'unknown')}: jobs live in the service"
        return [
            fail("jobs' unit", says, f"`systemctl start {JOBS_UNIT}`, then restart the service")
        ]
    folder = _group(shown.get("ControlGroup", ""))
    there = _words(folder / "cgroup.controllers") if folder else set()
    missing = [name for name in ("memory", "cpu", "pids") if name not in there]
    if missing:
        says = f"active, but without {', '.join(missing)}: no peak of memory, no fence for forks"
        return [warn("jobs' unit", says, "cgroup v2 with all controllers (cgroups(7))")]
    return [ok("jobs' unit", "active, with memory, cpu and pids")]


def _group(path: str) -> Path | None:
    """A unit's folder: below the unified mount, which may be beside cgroup v1's."""
    for mount in (_CGROUPS, _CGROUPS / "unified"):
        if path and (mount / path.lstrip("/") / "cgroup.controllers").exists():
            return mount / path.lstrip("/")
    return None


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text().split())
    except OSError:
        return set()


def _lifetime_timer() -> list[Finding]:
    shown = _shown(LIFETIME_TIMER)
    if shown.get("ActiveState") == "active":
        return [ok("lifetime guard", "its timer runs")]
    says = f"{LIFETIME_TIMER} is {shown.get('ActiveState', 'unknown')}: nothing ends this machine"
    return [fail("lifetime guard", says, f"`systemctl enable --now {LIFETIME_TIMER}`")]


def _systemd() -> list[Finding]:
    words = ["systemctl", "--version"]
    text = subprocess.run(words, capture_output=True, text=True, timeout=_CALL).stdout
    found = re.search(r"systemd (\d+)", text)
    if found is None:
        return [warn("systemd", "its version isn't known")]
    if int(found[1]) < OLDEST_SYSTEMD:
        return [warn("systemd", f"{found[1]}: runner was never tried with less than 249")]
    return [ok("systemd", found[1])]


def _agent() -> list[Finding]:
    for unit in AGENTS:
        if _shown(unit).get("ActiveState") == "active":
            return [ok("SSM agent", "active")]
    there = [unit for unit in AGENTS if _shown(unit).get("LoadState") == "loaded"]
    todo = f"`systemctl enable --now {there[0]}`" if there else "install amazon-ssm-agent"
    says = "doesn't run: `runner status` from a laptop shows only what is in S3"
    return [warn("SSM agent", says, todo)]


# -- EC2 -------------------------------------------------------------------------------------


def _metadata() -> list[Finding]:
    metadata = InstanceMetadata.from_environment(os.environ)
    if metadata.disabled:
        return [warn("metadata", "switched off: no spot notice is seen")]
    try:
        instance = metadata.get("instance-id")
    except MetadataError as error:
        if not on_ec2(os.environ):
            return [warn("metadata", "this is no machine of EC2's: nothing announces its end")]
        todo = "aws ec2 modify-instance-metadata-options --http-endpoint enabled, from outside"
        return [fail("metadata", f"doesn't answer: {error}", todo)]
    return [ok("metadata", str(instance))]


def _credentials() -> list[Finding]:
    metadata = InstanceMetadata.from_environment(os.environ)
    try:
        role = metadata.get("iam/security-credentials/")
    except MetadataError:
        role = None
    if not role:
        todo = "give it the profile runner-instance (aws ec2 associate-iam-instance-profile)"
        return [warn("credentials", "this machine has no role", todo)]
    region = metadata.region()
    try:
        with calling(lambda error: error):
            arn = make_client("sts", region, connect=4, read=6).get_caller_identity()["Arn"]
    except AwsError as error:
        todo = "does the role still exist? has its profile a role? is the network there?"
        return [fail("credentials", f"the role {role.strip()}: {error}", todo)]
    return [ok("credentials", str(arn))]


# -- our own ---------------------------------------------------------------------------------


def _job_user(settings: Settings) -> list[Finding]:
    try:
        user = job_user(settings)
        check_folders(settings, user)
    except RunnerError as error:
        todo = f"mend {settings.config_file}; `systemctl restart {SERVICE}`"
        return [fail("job user", str(error), todo)]
    return [ok("job user", user.account.pw_name)]


def _disk(settings: Settings) -> list[Finding]:
    folder = settings.state_dir
    while not folder.exists():
        folder = folder.parent
    free, reserve = shutil.disk_usage(folder).free, settings.disk_reserve
    says = f"{free / _GIB:.1f} GiB free below {settings.state_dir}"
    todo = "make room (`runner prune`, old logs), or a larger disk"
    if free < reserve:
        return [fail("disk", f"{says}, less than disk_reserve: nothing new starts", todo)]
    if free < 2 * reserve or free < _GIB:
        return [warn("disk", says, todo)]
    return [ok("disk", says)]


def _results(settings: Settings) -> list[Finding]:
    """Whether the current queue's results can be stored; what the service tries before a queue."""
    repository = QueueRepository(settings.state_dir, settings.log_dir)
    try:
        entry = repository.find(None)
        where = wanted(repository.stored_document(entry.name)).where
    except NotFoundError:
        return [ok("results", "there is no queue yet")]
    if where is None or not is_s3(where):
        return [ok("results", f"queue {entry.name} has no bucket")]
    store = opened(wanted(repository.stored_document(entry.name)), settings)
    assert store is not None
    try:
        notes = store.prepare()
    except RunnerError as error:
        todo = "the role's policy (`runner setup --bucket …` adds a bucket), or the bucket's own"
        return [fail("results", str(error), todo)]
    finally:
        store.close()
    return [warn("results", note) for note in notes] or [ok("results", f"{where} can be used")]
