"""What a schedule tells of the queue of one of its firings, when EC2 has forgotten the machine."""

from __future__ import annotations

from runner.aws.errors import AwsError
from runner.aws.scheduler import Schedules
from runner.errors import RecordError
from runner.targets.ec2 import names
from runner.targets.ec2.launch_record import LaunchRecord
from runner.targets.ec2.schedules.schedule_input import stored_of


def of_schedule(queue_id: str, region: str | None) -> LaunchRecord | None:
    """None for what has not the id of a firing, and where no schedule tells. Blocks."""
    fired = names.split_firing(queue_id)
    if fired is None:
        return None
    name, when = fired
    schedules = Schedules(region)
    try:
        found = schedules.find(name)
        if found is None:
            return None
        stored = stored_of(found)
    except (AwsError, RecordError):
        return None  # who asks may know no schedules, and says what else was looked at
    return LaunchRecord(
        queue_id,
        stored.store(when),
        schedules.region,
        launch=names.fired(stored.launch, when),
        options_sha256=stored.options_sha256,
    )
