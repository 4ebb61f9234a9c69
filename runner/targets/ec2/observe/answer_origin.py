"""Where an answer comes from: the instance, the age of a stored state, what works on the queue.

Pure: the time is given.
"""

from __future__ import annotations

from runner.targets.ec2.observe import reachability
from runner.targets.ec2.observe.cost import cost_of, price_in
from runner.targets.ec2.observe.machine_lookup import ResolvedTarget
from runner.targets.ec2.observe.reachability import Reachability
from runner.targets.port import Answer
from runner.targets.stored_status import Seen


def instance_view(found: ResolvedTarget, now: float) -> Answer:
    """The instance for programs, without what isn't known. ``now``: seconds since the epoch."""
    told: Answer = {"instance_id": found.instance_id, "region": found.region}
    if (machine := found.machine) is not None:
        spent = cost_of(machine, price_in(machine.tags), now, found.launched)
        told |= {
            "state": machine.state,
            "why": machine.why or None,
            "instance_type": machine.instance_type,
            "zone": machine.zone,
            "spot": machine.spot,
            "hours": None if spent.hours is None else round(spent.hours, 4),
            "price_per_hour": spent.price,
            "cost": None if spent.dollars is None else round(spent.dollars, 4),
            "cost_since_restart": spent.at_least or None,
        }
    return {name: value for name, value in told.items() if value is not None}


def origin_of(
    seen: Seen, found: ResolvedTarget | None, standing: Reachability | None, now: float
) -> Answer:
    """Fields of a queue's summary that was read from S3: ``source``, ``instance``, and ``worker``
    or ``queued``, as far as EC2 knows.

    ``found`` None: EC2 has not answered yet. ``standing``: why the machine isn't asked.
    """
    source: Answer = {"from": "s3", "age_seconds": round(seen.age_now, 1), "at": seen.at}
    if standing is not None:
        if found is not None:
            # What to do depends on whether the queue has ended.
            standing = reachability.of_machine(found, now, ended=seen.ended) or standing
        source |= {"why": standing.why, "next": list(standing.advice)}
    instance = instance_view(found, now) if found is not None else {}
    return {"source": source, "instance": instance, **({} if seen.ended else _worker(found))}


def _worker(found: ResolvedTarget | None) -> Answer:
    """What works on a queue that has not ended; empty where nothing does."""
    if found is None:
        return {"worker": "its machine (EC2 is being asked)"}
    machine = found.machine
    if machine is None and found.trouble is not None:
        return {"worker": "its machine, for all that is known"}
    if machine is None or machine.gone:
        return {}
    if machine.state in ("pending", "running"):
        return {"worker": f"{machine.instance_id}, as far as S3 and EC2 know"}
    return {"queued": f"EC2, for {machine.instance_id}"} if machine.spot else {}
