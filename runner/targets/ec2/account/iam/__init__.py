"""The CloudFormation templates that `runner setup` deploys; ``packaging/iam`` links to them.

They are part of the package, so that an installed runner has them.
"""

from __future__ import annotations

from importlib import resources

PERMISSIONS = "permissions"
DOCUMENTS = "documents"
BUCKET = "bucket"
SCHEDULE_PERMISSIONS = "schedule-permissions"
SCHEDULES = "schedules"

TEMPLATES = (BUCKET, PERMISSIONS, DOCUMENTS, SCHEDULE_PERMISSIONS, SCHEDULES)


def template(name: str) -> str:
    """The text of one of ``TEMPLATES``."""
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
