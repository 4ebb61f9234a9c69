"""A queue id with the day or the time in it, which makes a new run each day."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

FORMATS = {"date": "%Y-%m-%d", "time": "%H%M%S"}
"""What may stand in braces in a ``queue_id``, in UTC."""

_NAME = re.compile(rf"\{{({'|'.join(FORMATS)})\}}")


def dated(queue_id: Any, now: float) -> Any:
    """The id at this time, in Unix seconds; as it is where it names none."""
    if not isinstance(queue_id, str):
        return queue_id
    at = datetime.fromtimestamp(now, UTC)
    return _NAME.sub(lambda found: at.strftime(FORMATS[found[1]]), queue_id)
