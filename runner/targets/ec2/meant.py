"""What a user means by a target: an instance id, a spot request's, or the id of a queue."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.aws.ec2 import Ec2
from runner.aws.faults import AwsError, Kind
from runner.errors import NotFoundError, RunnerError
from runner.targets.ec2.ending import NotOursError
from runner.targets.ec2.machines import Owned, look
from runner.targets.ec2.names import QUEUE
from runner.targets.ec2.regions import Asked, ask

_INSTANCE = re.compile(r"i-[0-9a-f]{8,32}")
_REQUEST = re.compile(r"sir-[0-9a-z]{8,32}")


def find(
    regions: Sequence[Ec2], targets: Sequence[str]
) -> tuple[list[tuple[Ec2, Owned]], Asked[list[Owned]]]:
    """Everything that the targets stand for, once each, also what has ended; and what was asked.

    Raises NotOursError for an instance or a request without our tag, and NotFoundError for a
    target that no region knows, RunnerError where not all regions have answered; nothing has been
    touched then.
    """
    asked = ask(regions, lambda ec2: _in_region(ec2, targets))
    found = {owned.id: (ec2, owned) for ec2, here in asked.answers for owned in here}
    for target in targets:
        if not any(_means(target, owned) for _, owned in found.values()):
            if asked.failed:
                raise RunnerError(_not_found(target, asked))
            raise NotFoundError(_not_found(target, asked))
    return list(found.values()), asked


def _not_found(target: str, asked: Asked[list[Owned]]) -> str:
    where = ", ".join(ec2.region for ec2, _ in asked.answers) or "no region"
    told = f"nothing of '{target}' is known in {where}; --region all looks everywhere"
    return "\n".join(
        [told, *(f"{region} was not looked at: {why}" for region, why in asked.failed)]
    )


def _means(target: str, owned: Owned) -> bool:
    request = owned.request.request_id if owned.request is not None else None
    return target in (owned.id, request, owned.queue)


def _in_region(ec2: Ec2, targets: Sequence[str]) -> list[Owned]:
    found: list[Owned] = []
    for target in targets:
        if _INSTANCE.fullmatch(target):
            found += _instance(ec2, target)
        elif _REQUEST.fullmatch(target):
            found += _request(ec2, target)
        else:
            found += look(ec2, ended=True, queue=target)
    return found


def _instance(ec2: Ec2, instance_id: str) -> list[Owned]:
    machine = ec2.machine(instance_id)
    if machine is None:
        return []
    requests = ec2.spot_requests(Filters=[{"Name": "instance-id", "Values": [instance_id]}])
    owned = Owned(ec2.region, machine, requests[0] if requests else None)
    return [_ours(owned)]


def _request(ec2: Ec2, request_id: str) -> list[Owned]:
    try:
        requests = ec2.spot_requests(SpotInstanceRequestIds=[request_id])
    except AwsError as error:
        if error.kind is Kind.MISSING:
            return []
        raise
    for request in requests:
        machine = ec2.machine(request.instance_id) if request.instance_id else None
        return [_ours(Owned(ec2.region, machine, request))]
    return []


def _ours(owned: Owned) -> Owned:
    if owned.queue is None:
        raise NotOursError(f"{owned.id} was not launched by runner: it has no tag {QUEUE}")
    return owned
