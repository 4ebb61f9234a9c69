"""How a machine stands, in words: why it can't be asked, since when, and what to do next.

Pure: EC2's and SSM's answers go in. The words in quotation marks are EC2's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.aws.ec2 import Machine
from runner.aws.errors import AwsError, ErrorKind
from runner.aws.ssm import Ping
from runner.errors import UnreachableError
from runner.model.durations import format_duration
from runner.targets.ec2 import names
from runner.targets.ec2.observe.machine_lookup import ResolvedTarget, is_login_trouble

BOOTING = 300.0
"""Seconds after its start in which it is no wonder that SSM doesn't know an instance: registration
takes tens of seconds to minutes."""


class AwsAway(UnreachableError):
    """Neither the machine nor S3 could be asked: that says nothing about the queue."""


@dataclass(frozen=True, slots=True)
class Reachability:
    """``why`` nobody there can be asked, and what to do about it. ``ends``: for good."""

    why: str
    advice: tuple[str, ...] = ()
    ends: bool = False


def of_machine(
    found: ResolvedTarget, now: float, *, ended: bool | None = None
) -> Reachability | None:
    """What EC2 says against asking it; None if it runs. ``ended``: whether the queue has; None if
    that isn't known."""
    machine = found.machine
    if machine is None:
        return None if found.may_run else _unknown(found, ended)
    queue = found.queue_id or "QUEUE"
    name, since = machine.instance_id, _ago(now - machine.launched)
    match machine.state:
        case "running":
            return None
        case "pending":
            return Reachability(f"{name} is booting, for {since}", ("ask again in a minute",))
        case "stopping" | "stopped" if ended:
            end = f"it isn't needed any more: runner terminate {name}"
            return Reachability(
                f"{name} is {machine.state}{_told(machine)}", (*_afterwards(queue, ended), end)
            )
        case "stopping" | "stopped" if machine.spot:
            then = "EC2 starts it again when it has room, and runner goes on by itself"
            return Reachability(
                f"{name} is {machine.state}{_told(machine)}",
                (then, f"elsewhere, at once: runner resume {queue}"),
            )
        case "stopping" | "stopped":
            start = f"aws ec2 start-instances --instance-ids {name} --region {found.region}"
            return Reachability(
                f"{name} is {machine.state}{_told(machine)}",
                (f"start it: {start}", f"or go on elsewhere: runner resume {queue}"),
            )
        case _:
            return Reachability(
                f"{name} is {machine.state}{_told(machine)}", _afterwards(queue, ended), True
            )


def _told(machine: Machine) -> str:
    return f': EC2 says "{machine.why}"' if machine.why else ""


def _afterwards(queue: str, ended: bool | None) -> tuple[str, ...]:
    results = f"its results and logs: runner results {queue}"
    match ended:
        case True:
            return (results,)
        case False:
            return (f"go on elsewhere: runner resume {queue}", results)
        case None:
            return (results, f"if the queue hasn't ended: runner resume {queue}")


def _unknown(found: ResolvedTarget, ended: bool | None) -> Reachability:
    queue = found.queue_id or "QUEUE"
    if found.trouble is not None:
        return Reachability(f"EC2 can't be asked: {found.trouble}", advice_of(found.trouble))
    who = found.instance_id or f"a machine of queue '{queue}'"
    return Reachability(
        f"EC2 in {found.region} doesn't know {who} (any more)",
        (*_afterwards(queue, ended), "or it is in another account: AWS_PROFILE"),
        ends=True,
    )


def advice_of(error: AwsError) -> tuple[str, ...]:
    """What to do about a failed call."""
    if is_login_trouble(error):
        return ("log in again (`aws sso login`, or new keys); the queue goes on meanwhile",)
    if error.kind is ErrorKind.DENIED:
        return ("see what is missing: runner doctor",)
    return ("try again in a minute",)


def of_ping(machine: Machine, ping: Ping | None, now: float) -> Reachability:
    """Why SSM can't reach a running machine."""
    up = max(0.0, now - machine.launched)
    name = machine.instance_id
    if ping is None and up < BOOTING:
        why = f"{name} runs for {_ago(up)}, and hasn't registered with SSM yet"
        return Reachability(why, ("that takes up to a few minutes: ask again",))
    if ping is None:
        return Reachability(
            f"{name} runs for {_ago(up)}, but SSM doesn't know it",
            ("its role lacks SSM's permissions, or it has no way to SSM: runner doctor",
             f"what it said at boot: {_console(machine)}"),
        )  # fmt: skip
    if ping.status == "Online":
        why = f"SSM knows {name}, but it took no command in time"
        return Reachability(
            why, ("ask again; it may have just lost its network, or be overloaded",)
        )
    heard = f", heard of {_ago(now - ping.last)} ago" if ping.last is not None else ""
    return Reachability(
        f"SSM has lost its connection to {name} ({ping.status}{heard})",
        ("its network is away, or it has no memory left: if that lasts, reboot it: "
         f"aws ec2 reboot-instances --instance-ids {name} --region {machine.region}",
         "runner adopts or resumes its jobs after that"),
    )  # fmt: skip


def not_installed(found: ResolvedTarget, machine: Machine, now: float) -> Reachability:
    """It answers, but has no runner: it is being set up, or that has failed."""
    up = max(0.0, now - machine.launched)
    why = f"{machine.instance_id} runs for {_ago(up)}, and runner isn't installed on it yet"
    advice = ["ask again in a minute" if up < BOOTING else "its set-up has failed, it seems"]
    store = found.store or "s3://BUCKET"
    if found.launch:
        bucket = store.removeprefix("s3://").partition("/")[0]
        log = f"s3://{bucket}/{names.launch_key(found.launch, 'bootstrap.log')}"
        advice.append(f"its log, once that has failed: aws s3 cp {log} -")
    advice.append(f"what it says: {_console(machine)}")
    return Reachability(why, tuple(advice))


def _console(machine: Machine) -> str:
    return (
        f"aws ec2 get-console-output --latest --output text --instance-id {machine.instance_id} "
        f"--region {machine.region}"
    )


def _ago(seconds: float) -> str:
    return format_duration(max(0, round(seconds)))
