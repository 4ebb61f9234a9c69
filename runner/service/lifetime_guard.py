"""The lifetime guard: ends the machine when it is time to, whether or not the daemon lives.

A timer of systemd calls it once a minute, for a moment. It decides with the standard library alone;
boto3 is needed to give a spot request back, and what can't be imported is as good as a network that
is away. Nothing is irrevocable before it is on the disk that it has begun.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace

from runner.aws.instance import Instance
from runner.aws.platform import on_ec2
from runner.core.machine_lifetime import Ending, Life, Moment, live_on, verdict
from runner.host import ec2_notices
from runner.host.machine_file import MachineFile, this_moment
from runner.host.metadata import InstanceMetadata, MetadataError

GIVE_UP_AFTER = 900.0
"""Seconds for which EC2 is asked again to forget a spot request, or to terminate the machine.

Powering off without that may cost a machine that EC2 launches anew, or one that is stopped and not
gone; staying on costs the whole machine, for as long as EC2 says no."""

Say = Callable[[str], None]


def end_if_due(
    file: MachineFile,
    environ: Mapping[str, str],
    say: Say,
    limits: Callable[[], tuple[float | None, str]] | None,
) -> bool:
    """End the machine if it is time to; False if that has to be tried again.

    ``limits`` gives the lifetime and what it ends with, as the settings have them; None where they
    can't be read: what is remembered of them holds. Raises StateError.
    """
    metadata = InstanceMetadata.from_environment(environ)
    in_cloud = on_ec2(environ) and not metadata.disabled
    instance = metadata.instance_id() if in_cloud else None
    now = this_moment()
    with file.changing() as change:
        machine = change.machine
        limit, what = limits() if limits is not None else _remembered(machine.life)
        machine = change.machine = live_on(machine, now, instance, limit, what)
        ending = verdict(machine, now)
        if ending is None:
            return True
        if in_cloud and (notice := _spot_notice(metadata)) is not None:
            # Powering off now would disable the spot request, as if a person had wanted that.
            say(f"{ending.why}, but there is a {notice}: EC2 ends the machine")
            return True
        change.machine = replace(machine, ending=ending)
    say(f"{ending.why}: the machine ends ({ending.what})")
    return _End(ending, now, say).run(metadata if in_cloud else None, instance)


def _remembered(life: Life | None) -> tuple[float | None, str]:
    return (life.limit, life.what) if life is not None else (None, "stop")


def _spot_notice(metadata: InstanceMetadata) -> str | None:
    """The notice that EC2 takes the machine away, if there is one that is about this boot."""
    try:
        text = metadata.get(ec2_notices.SPOT_PATH)
    except MetadataError:
        return None
    notice = ec2_notices.spot_notice(text) if text else None
    if notice is None or notice.action == "hibernate":
        return None
    moment, now = this_moment(), metadata.now
    left = notice.time - (moment.wall if now is None else now)
    return str(notice) if left >= -moment.uptime else None


class _End:
    """One try at the end."""

    def __init__(self, ending: Ending, now: Moment, say: Say) -> None:
        self._ending = ending
        self._patience = GIVE_UP_AFTER - (now.uptime - ending.since)
        self._say = say

    def run(self, metadata: InstanceMetadata | None, instance: str | None) -> bool:
        """False if it has to be tried again."""
        if metadata is not None and not self._settle(metadata, instance):
            return False
        return self._power_off()

    def _settle(self, metadata: InstanceMetadata, instance_id: str | None) -> bool:
        """Put things right with EC2; False as long as it is worth another try."""
        try:
            market = metadata.get("instance-life-cycle")
            region = metadata.get("placement/region")
            if instance_id is None:
                raise MetadataError("the metadata service names no instance")
        except MetadataError as error:
            return self._given_up(f"the metadata service doesn't answer ({error})")
        instance = Instance(instance_id, region)
        if market == "spot" and not self._ask("cancel the spot request", self._cancel, instance):
            # To terminate it with the request alive is to have EC2 launch the next machine.
            return self._given_up("the spot request could not be cancelled")
        if self._ending.what == "terminate":
            if not self._ask("terminate the machine", Instance.terminate, instance):
                return self._given_up("EC2 does not terminate the machine")
        return True

    def _cancel(self, instance: Instance) -> None:
        request = instance.cancel_spot_request()
        self._say(f"spot request {request} is cancelled" if request else "there is no spot request")

    def _ask(self, what: str, call: Callable[[Instance], None], instance: Instance) -> bool:
        try:
            call(instance)
        except Exception as error:
            # Also what a broken installation raises: the machine must end all the same.
            self._say(f"could not {what}: {type(error).__name__}: {error}")
            return False
        return True

    def _given_up(self, why: str) -> bool:
        if self._patience > 0:
            self._say(f"{why}; it is tried again for {self._patience:.0f} s")
            return False
        self._say(f"{why}; the machine is powered off all the same")
        return True

    def _power_off(self) -> bool:
        """Orderly: services stop, and interrupt and upload what still runs."""
        for words in (["systemctl", "poweroff"], ["shutdown", "-h", "now"]):
            try:
                done = subprocess.run(words, env=os.environ, check=False, timeout=30)
            except (OSError, subprocess.TimeoutExpired) as error:
                self._say(f"{' '.join(words)}: {error}")
                continue
            if done.returncode == 0:
                return True
            self._say(f"{' '.join(words)}: exit status {done.returncode}")
        return False
