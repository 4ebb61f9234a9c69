"""Which quota of an account a type counts against, by the name that Service Quotas has for it.

EC2 User Guide, "Amazon EC2 instance type quotas" and "Spot Instance quotas".
"""

from __future__ import annotations

import re

_ON_DEMAND = {
    "standard": ("Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", "L-1216C47A"),
    "g": ("Running On-Demand G and VT instances", "L-DB2E81BA"),
    "p": ("Running On-Demand P instances", "L-417A185B"),
    "f": ("Running On-Demand F instances", "L-74FC7D96"),
    "inf": ("Running On-Demand Inf instances", "L-1945791B"),
    "trn": ("Running On-Demand Trn instances", "L-2C3B7624"),
    "dl": ("Running On-Demand DL instances", "L-6E869C2A"),
    "x": ("Running On-Demand X instances", "L-7295265B"),
    "u": ("Running On-Demand High Memory instances", "L-43DA4232"),
    "hpc": ("Running On-Demand HPC instances", "L-F7808C92"),
}

_SPOT = {
    "standard": ("All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", "L-34B43A08"),
    "g": ("All G and VT Spot Instance Requests", "L-3819A6DF"),
    "p": ("All P4, P3 and P2 Spot Instance Requests", "L-7212CCBC"),
    "p5": ("All P5 Spot Instance Requests", "L-C4BD4855"),
    "f": ("All F Spot Instance Requests", "L-88CF9481"),
    "inf": ("All Inf Spot Instance Requests", "L-B5D1601B"),
    "trn": ("All Trn Spot Instance Requests", "L-6B0D517C"),
    "dl": ("All DL Spot Instance Requests", "L-85EED4F7"),
    "x": ("All X Spot Instance Requests", "L-E3A00192"),
}

_STANDARD = frozenset("acdhimrtz")


def quota_of(type_name: str, market: str) -> tuple[str, str] | None:
    """The quota's name and code; None for a type that we know no quota of."""
    table = _SPOT if market == "spot" else _ON_DEMAND
    found = re.match(r"([a-z]+)([0-9]*)", type_name)
    family, generation = (found[1], found[2]) if found else ("", "")
    if family in ("gr", "vt"):
        family = "g"
    if f"{family}{generation}" in table:
        return table[f"{family}{generation}"]
    if family in table:
        return table[family]
    if family[:1] not in _STANDARD or family in ("hpc", "mac"):
        return None
    return table["standard"]
