"""The templates that `runner setup --batch` deploys; ``packaging/iam`` links to them.

They are part of the package, so that an installed runner has them.
"""

from __future__ import annotations

from importlib import resources

PERMISSIONS = "permissions"
LOGS = "logs"
COMPUTE = "compute"

TEMPLATES = (PERMISSIONS, LOGS, COMPUTE)


def template(name: str) -> str:
    """The text of one of ``TEMPLATES``."""
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
