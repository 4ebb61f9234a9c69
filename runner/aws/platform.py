"""Whether this machine is one of EC2's, by what can be read without asking anybody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"

_SIGNS = (
    # Nitro and bare metal; Xen (User Guide, "Detect whether a host is an EC2 instance").
    ("/sys/class/dmi/id/sys_vendor", "amazon ec2"),
    ("/sys/hypervisor/uuid", "ec2"),
)


def on_ec2(environ: Mapping[str, str]) -> bool:
    """Whether the firmware, or whoever set our environment, says there is a metadata service."""
    if environ.get(ENDPOINT_VARIABLE):
        return True
    for path, sign in _SIGNS:
        try:
            if Path(path).read_text().lower().startswith(sign):
                return True
        except (OSError, ValueError):
            pass
    return False
