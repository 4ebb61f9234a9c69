"""Fargate's pairs of vCPU and memory: it takes no others. Pure.

Facts: Batch API reference, "ResourceRequirement".
"""

from __future__ import annotations

from runner.errors import UsageError

GIB = 1024

PAIRS: dict[float, tuple[int, ...]] = {
    0.25: (512, 1 * GIB, 2 * GIB),
    0.5: tuple(range(1 * GIB, 4 * GIB + 1, GIB)),
    1: tuple(range(2 * GIB, 8 * GIB + 1, GIB)),
    2: tuple(range(4 * GIB, 16 * GIB + 1, GIB)),
    4: tuple(range(8 * GIB, 30 * GIB + 1, GIB)),
    8: tuple(range(16 * GIB, 60 * GIB + 1, 4 * GIB)),
    16: tuple(range(32 * GIB, 120 * GIB + 1, 8 * GIB)),
    32: (60 * GIB, 120 * GIB, 244 * GIB),
}
"""vCPUs → MiB."""


def rounded(vcpus: float, mib: int) -> tuple[float, int]:
    """The smallest pair that has at least so much of both. Raises UsageError where none has."""
    for cpus, sizes in PAIRS.items():
        if cpus >= vcpus and (fitting := [size for size in sizes if size >= mib]):
            return cpus, fitting[0]
    most = max(PAIRS)
    has = f"Fargate has at most {most:g} vCPUs and {PAIRS[most][-1]:,} MiB"
    raise UsageError(f"{vcpus:g} vCPUs and {mib:,} MiB: {has}")
