"""What runs of ours in EC2, by EC2's own records: the tags that every launch sets at create.

Owns what is ours, what it has cost and when it is to be gone. It knows no file on this machine: an
instance that nobody here remembers is found all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from runner.aws.ec2 import ALIVE, Ec2, Machine, SpotRequest, filters_of
from runner.targets.ec2 import names
from runner.targets.ec2.observe.cost import BILLED, NOTHING, Cost, cost_of, price_in
from runner.timestamps import parse_rfc3339

WAITING = ("open", "active", "disabled")
"""States of a spot request for which EC2 may launch a machine: see SpotRequest.alive."""


@dataclass(frozen=True, slots=True)
class Owned:
    """An instance of ours with its spot request, or a spot request that has no living instance.

    The latter costs nothing yet: EC2 may launch a machine for it at any time.
    """

    region: str
    machine: Machine | None = None
    request: SpotRequest | None = None

    @property
    def id(self) -> str:
        """The instance's, else the request's."""
        if self.machine is not None:
            return self.machine.instance_id
        assert self.request is not None
        return self.request.request_id

    @property
    def tags(self) -> dict[str, str]:
        """The instance's, and its request's: EC2 need not tag what it launches again."""
        of_request = self.request.tags if self.request is not None else {}
        of_machine = self.machine.tags if self.machine is not None else {}
        return names.machine_tags({**of_request, **of_machine})

    @property
    def queue(self) -> str | None:
        """The queue it was launched for; None where it isn't ours."""
        return self.tags.get(names.QUEUE)

    @property
    def state(self) -> str:
        """EC2's word for its state."""
        if self.machine is not None:
            return self.machine.state
        assert self.request is not None
        return f"request {self.request.state}"

    @property
    def why(self) -> str:
        """EC2's words for why it stands so; of a stopped spot machine its request's too."""
        told = [self.machine.why] if self.machine is not None and self.machine.why else []
        request = self.request
        waiting = self.machine is None or self.machine.state in ("stopping", "stopped")
        if request is not None and waiting:
            told.append(": ".join(word for word in (request.status, request.message) if word))
        if self.machine is None:
            told.append("EC2 may launch a machine for it")
        return "; ".join(told)

    @property
    def alive(self) -> bool:
        """Whether it costs, or may cost, anything."""
        if self.machine is not None:
            return not self.machine.gone
        return self.request is not None and self.request.alive

    @property
    def may_cost(self) -> bool:
        """``alive``, or ended with a request for which EC2 may launch another."""
        return self.alive or (self.request is not None and self.request.alive)

    @property
    def stopped_itself(self) -> bool:
        """Whether its queue has ended and `--on-complete stop` has stopped it: its disk is kept,
        and EC2 does not start it again."""
        waits = self.request is not None and self.request.alive
        state = self.machine.state if self.machine is not None else ""
        stops = self.tags.get(names.TERMINATES) == "stop"
        return stops and state in ("stopping", "stopped") and not waits

    @property
    def billed(self) -> bool:
        """Whether it costs its price just now."""
        return self.machine is not None and self.machine.state in BILLED

    @property
    def instance_type(self) -> str:
        """Of the instance, or of what a request asks for; "" where EC2 doesn't tell."""
        if self.machine is not None:
            return self.machine.instance_type
        return self.request.instance_type if self.request is not None else ""

    @property
    def market(self) -> str:
        """``spot`` or ``on-demand``."""
        return "on-demand" if self.machine is not None and not self.machine.spot else "spot"

    @property
    def began(self) -> float | None:
        """Seconds since the epoch; None where EC2 doesn't tell."""
        if self.machine is not None:
            return self.machine.began or self.machine.launched or None
        return self.request.created if self.request is not None else None

    @property
    def expires(self) -> float | None:
        """When its lifetime is over, by its tag, or by the request's own end; None if never."""
        tagged = _moment(self.tags.get(names.EXPIRES))
        if tagged is None and (lifetime := self._lifetime) is not None and self.began is not None:
            return self.began + lifetime
        if tagged is None and self.machine is None and self.request is not None:
            return self.request.valid_until
        return tagged

    @property
    def _lifetime(self) -> float | None:
        """Seconds, of a machine that a schedule launched."""
        told = self.tags.get(names.LIFETIME, "")
        return float(told) if told.isascii() and told.isdigit() else None

    @property
    def price(self) -> float | None:
        """US dollars an hour, as the launch expected; None where nobody knew."""
        return price_in(self.tags)

    def cost(self, now: float) -> Cost:
        """What it has cost until ``now`` (seconds since the epoch), without its disk."""
        return NOTHING if self.machine is None else cost_of(self.machine, self.price, now)


def look(ec2: Ec2, *, ended: bool = False, queue: str | None = None) -> list[Owned]:
    """All of ours in one region, oldest first; ``ended``: also what is gone and still known.

    ``queue``: only what was launched for it. Three calls at most. Raises AwsError.
    """
    kinds = [{names.QUEUE: None}] if queue is None else names.tags_of(queue)
    machines, requests = [], []
    for tags in kinds:
        machines += ec2.machines(tags, () if ended else ALIVE)
        requests += ec2.spot_requests(Filters=filters_of(tags))
    return _with_machines(ec2, join(ec2.region, machines, requests))


def _with_machines(ec2: Ec2, found: list[Owned]) -> list[Owned]:
    """Requests with the instances that EC2 launched for them without our tags, if those live."""
    named = {
        one.request.instance_id
        for one in found
        if one.machine is None and one.request is not None and one.request.instance_id is not None
    }
    if not named:
        return found
    alive = {m.instance_id: m for m in ec2.machines_of(sorted(named)) if not m.gone}
    return [
        replace(one, machine=alive.get(one.request.instance_id or ""))
        if one.machine is None and one.request is not None
        else one
        for one in found
    ]


def join(region: str, machines: Iterable[Machine], requests: Iterable[SpotRequest]) -> list[Owned]:
    """Instances with their requests, then the living requests that have no living instance."""
    machines, requests = list(machines), list(requests)
    by_id = {request.request_id: request for request in requests}
    by_machine = {request.instance_id: request for request in requests if request.instance_id}
    owned, covered = [], set()
    for machine in machines:
        request = by_id.get(machine.spot_request or "") or by_machine.get(machine.instance_id)
        if machine.gone:
            request = None  # it may be alive, and stands for itself then
        owned.append(Owned(region, machine, request))
        if request is not None:
            covered.add(request.request_id)
    alone = [r for r in requests if r.alive and r.request_id not in covered]
    return owned + [Owned(region, None, request) for request in alone]


def _moment(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for what is none."""
    if text is None:
        return None
    try:
        return parse_rfc3339(text)
    except ValueError:
        return None


def overdue(
    owned: Owned, now: float, older_than: float | None = None, *, stopped: bool = False
) -> str | None:
    """Why it is to be ended now; None if it isn't. ``older_than`` in seconds.

    One that has stopped itself only where ``stopped`` says so: its disk is kept on purpose.
    From EC2's records alone: what somebody here believes to have ended may be running.
    """
    if not owned.alive:
        return None
    began = owned.began
    too_old = older_than is not None and began is not None and now - began > older_than
    if owned.stopped_itself:
        due = stopped and (older_than is None or too_old)
        return "it has stopped itself, and its disk costs on" if due else None
    if (expires := owned.expires) is not None and expires <= now:
        return f"its lifetime was over {age(now - expires)} ago"
    return f"it is {age(now - (began or now))} old" if too_old else None


def age(seconds: float) -> str:
    """A length of time for people: ``45s``, ``12m``, ``3h5m``, ``2d4h``."""
    whole = max(0, int(seconds))
    for size, unit, rest, small in _UNITS:
        if whole >= size:
            more = whole % size // rest
            return f"{whole // size}{unit}" + (f"{more}{small}" if more and small else "")
    return f"{whole}s"


_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, ""))
