"""The templates for AWS Batch; ``packaging/iam`` links to them.

`runner setup --batch` deploys all but EVENTS, which people deploy who want it.

They are part of the package, so that an installed runner has them.
"""

from __future__ import annotations

from importlib import resources

PERMISSIONS = "permissions"
LOGS = "logs"
COMPUTE = "compute"
EVENTS = "events"

TEMPLATES = (PERMISSIONS, LOGS, COMPUTE, EVENTS)


def template(name: str) -> str:
    """The text of one of ``TEMPLATES``."""
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
