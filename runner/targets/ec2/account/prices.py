"""What an hour costs, as AWS says it, or why nobody knows. Never a guess.

On demand from the Price List API (it lives in us-east-1 for all regions), spot from EC2's own
history: the newest price of each zone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from runner.aws.clients import make_client
from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.errors import RecordError
from runner.model.records import Rule, parse
from runner.targets.ec2.observe.cost import dollars_in

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
        if (product := _product(text)) is not None and product.kind:
            found.setdefault(product.kind, set()).update(product.dollars(("GB-Mo",)))
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
    products = [product for text in price_list if (product := _product(text)) is not None]
    return {price for product in products for price in product.dollars(("Hrs", "Hours"))}


_Prices = Annotated[Mapping[str, str], Rule(key="pricePerUnit")]


@dataclass(frozen=True, slots=True)
class _Dimension:
    unit: str = ""
    price: _Prices = field(default_factory=dict)


_Dimensions = Annotated[Mapping[str, _Dimension], Rule(key="priceDimensions")]


@dataclass(frozen=True, slots=True)
class _Term:
    dimensions: _Dimensions = field(default_factory=dict)


_OnDemand = Annotated[Mapping[str, _Term], Rule(key="OnDemand")]


@dataclass(frozen=True, slots=True)
class _Terms:
    on_demand: _OnDemand = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _About:
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Product:
    """One of an answer's (AWS Billing User Guide, "Reading the price list files")."""

    terms: _Terms
    product: _About = field(default_factory=_About)

    @property
    def kind(self) -> str:
        """Of a volume, as EC2 calls it."""
        return self.product.attributes.get("volumeApiName", "")

    def dollars(self, units: Sequence[str]) -> set[float]:
        """Its prices by one of these units, but for 0."""
        dimensions = [
            each for term in self.terms.on_demand.values() for each in term.dimensions.values()
        ]
        found = {dollars_in(each.price.get("USD")) for each in dimensions if each.unit in units}
        return {price for price in found if price}


def _product(text: str) -> _Product | None:
    """None for what is none: a price that isn't understood is not known."""
    try:
        return parse(_Product, text, "a product")
    except RecordError:
        return None


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
    prices: dict[tuple[str, str], tuple[Any, float | None]] = {}
    for item in found:
        place = (item["InstanceType"], item["AvailabilityZone"])
        if place not in prices or item["Timestamp"] > prices[place][0]:
            prices[place] = (item["Timestamp"], dollars_in(item["SpotPrice"]))
    known = {place: price for place, (_, price) in prices.items() if price is not None}
    return known, "EC2 names no spot price for it"


def _short(error: AwsError) -> str:
    if error.kind is ErrorKind.DENIED:
        return f"denied ({error.code})"
    return f"no answer ({error.code})" if error.kind is ErrorKind.PASSING else str(error)
