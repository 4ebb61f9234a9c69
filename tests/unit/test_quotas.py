"""Which quota a type counts for."""

from __future__ import annotations

import pytest

from runner.targets.ec2.account.quotas import quota_of


@pytest.mark.parametrize(
    ("kind", "on_demand", "spot"),
    [
        ("t3.medium", "L-1216C47A", "L-34B43A08"),
        ("im4gn.large", "L-1216C47A", "L-34B43A08"),
        ("g6.2xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("gr6.4xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("p4d.24xlarge", "L-417A185B", "L-7212CCBC"),
        ("p5.48xlarge", "L-417A185B", "L-C4BD4855"),
        ("p5en.48xlarge", "L-417A185B", "L-C4BD4855"),
        ("trn1.2xlarge", "L-2C3B7624", "L-6B0D517C"),
        ("inf2.xlarge", "L-1945791B", "L-B5D1601B"),
        ("dl1.24xlarge", "L-6E869C2A", "L-85EED4F7"),
        ("x2gd.medium", "L-7295265B", "L-E3A00192"),
        ("u-6tb1.metal", "L-43DA4232", None),
        ("u7i-12tb.224xlarge", "L-43DA4232", None),
        ("hpc7a.96xlarge", "L-F7808C92", None),
        ("mac2.metal", None, None),
        ("", None, None),
    ],
)
def test_a_type_counts_for_the_quota_of_its_family(
    kind: str, on_demand: str | None, spot: str | None
) -> None:
    """Somebody would wait days for more of the wrong quota, or believe that there is enough."""
    found = [quota_of(kind, market) for market in ("on-demand", "spot")]
    assert [quota[1] if quota else None for quota in found] == [on_demand, spot]
