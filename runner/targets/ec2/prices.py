"""What an hour costs, as AWS says it, or why nobody knows. Never a guess.

On demand from the Price List API (it lives in us-east-1 for all regions), spot from EC2's own
history: the newest price of each zone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runner.aws.clients import make_client
from runner.aws.ec2 import Ec2
from runner.aws.faults import AwsError, Kind, calling

HOME = "us-east-1"

CONNECT_TIMEOUT = 3
READ_TIMEOUT = 8
"""Seconds: a launch waits for it, and goes on without."""

LINUX = "Linux/UNIX"


def on_demand(region: str, wanted: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
    """US dollars an hour by type, and for the others why there is none."""
    prices: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for name in wanted:
        try:
            answer = _machine(region, name)
        except AwsError as error:
            reasons[name] = f"pricing:GetProducts: {_short(error)}"
            continue
        found = hourly(answer)
        if len(found) == 1:
            prices[name] = found.pop()
        else:
            reasons[name] = f"the Price List API has {len(found)} prices for it in {region}"
    return prices, reasons


def storage(region: str) -> dict[str, float]:
    """US dollars a GB and month by kind of volume (``gp3``), of those that have one price there.

    Raises AwsError.
    """
    found: dict[str, set[float]] = {}
    for text in _products({"productFamily": "Storage", "regionCode": region}):
        try:
            kind = str(json.loads(text)["product"]["attributes"]["volumeApiName"])
        except (ValueError, KeyError, TypeError):
            continue
        found.setdefault(kind, set()).update(_priced([text], ("GB-Mo",)))
    return {kind: prices.pop() for kind, prices in found.items() if len(prices) == 1}


def _machine(region: str, name: str) -> list[str]:
    return _products({
        "instanceType": name,
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
    })  # fmt: skip


def _products(wanted: Mapping[str, str]) -> list[str]:
    filters = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()]
    with calling(lambda error: error):
        client = make_client(
            "pricing", HOME, connect=CONNECT_TIMEOUT, read=READ_TIMEOUT, attempts=1
        )
        answer = client.get_products(ServiceCode="AmazonEC2", Filters=filters)
    return list(answer.get("PriceList", ()))


def hourly(price_list: Iterable[str]) -> set[float]:
    """The on-demand prices an hour, in US dollars, that an answer of GetProducts holds."""
    return _priced(price_list, ("Hrs", "Hours"))


def _priced(price_list: Iterable[str], units: Sequence[str]) -> set[float]:
    """Its prices of one of these units, but for 0 (AWS Billing User Guide, "Reading the price list
    files")."""
    found = set()
    for text in price_list:
        try:
            terms = json.loads(text)["terms"]["OnDemand"].values()
            dimensions = [each for term in terms for each in term["priceDimensions"].values()]
            found |= {
                float(each["pricePerUnit"]["USD"])
                for each in dimensions
                if each.get("unit") in units
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found - {0.0}


def spot(ec2: Ec2, wanted: Sequence[str]) -> tuple[dict[tuple[str, str], float], str]:
    """US dollars an hour by type and zone, and why there are none if there are none."""
    from datetime import UTC, datetime

    if not wanted:
        return {}, ""  # no types would be all of them
    try:
        found = ec2.pages(
            "describe_spot_price_history",
            "SpotPriceHistory",
            InstanceTypes=list(wanted),
            ProductDescriptions=[LINUX],
            StartTime=datetime.now(UTC),
        )
    except AwsError as error:
        return {}, f"ec2:DescribeSpotPriceHistory: {_short(error)}"
    prices: dict[tuple[str, str], tuple[Any, float]] = {}
    for item in found:
        place = (item["InstanceType"], item["AvailabilityZone"])
        if place not in prices or item["Timestamp"] > prices[place][0]:
            prices[place] = (item["Timestamp"], float(item["SpotPrice"]))
    return {place: price for place, (_, price) in prices.items()}, "EC2 names no spot price for it"


def _short(error: AwsError) -> str:
    if error.kind is Kind.DENIED:
        return f"denied ({error.code})"
    return f"no answer ({error.code})" if error.kind is Kind.PASSING else str(error)
