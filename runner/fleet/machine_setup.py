"""How the machines of a job are launched: kept with the job, so that more of them can be later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSetup:
    """What every machine of a job is launched with.

    ``flags``: of `runner launch`; ``worker``: of `runner-fleet worker`; ``bucket``: where the
    machines' own logs and states go; ``lifetime``: seconds for which a machine works at most;
    ``env`` and ``secret_env``: what its workers find, the fleet's database among it.
    """

    bucket: str
    lifetime: float
    flags: tuple[str, ...] = ()
    worker: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: Mapping[str, str] = field(default_factory=dict)
