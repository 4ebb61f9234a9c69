"""The metadata client and the watcher against a service that is sometimes rude."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest
from imds import Imds

from runner.aws.platform import on_ec2
from runner.host import metadata as module
from runner.host.ec2_notices import (
    Notice,
    NoticeKind,
    maintenance_notices,
    rebalance_notice,
    spot_notice,
)
from runner.host.metadata import InstanceMetadata, MetadataError
from runner.host.spot import SpotWatcher
from runner.timestamps import rfc3339_seconds

RUDE = ["hang", "drip", "500", "no-tokens"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.CONNECT_TIMEOUT <= 1 and module.READ_TIMEOUT <= 1
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.15)
    monkeypatch.setattr(module, "READ_TIMEOUT", 0.15)


def test_what_a_machine_is(imds: Imds, monkeypatch: pytest.MonkeyPatch) -> None:
    """We would not know what we run on; or a proxy of the environment would be told."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    imds.data |= {
        "instance-id": "i-0123",
        "instance-type": "g5.xlarge",
        "placement/availability-zone": "eu-west-1a",
        "instance-life-cycle": "spot",
        "tags/instance/Name": "trainer",
    }
    client = InstanceMetadata.from_environment(imds.env)
    assert client.instance_id() == "i-0123" and client.instance_type() == "g5.xlarge"
    assert client.availability_zone() == "eu-west-1a" and client.market() == "spot"
    assert client.tag("Name") == "trainer" and client.tag("other") is None
    assert imds.times("/latest/api/token", "PUT") == 1
    assert all(0 < int(ttl) <= 21_600 for ttl in imds.ttls)


def test_a_token_is_renewed_before_its_end_and_when_it_is_refused(
    imds: Imds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After six hours, or a restart of the service, nothing would be seen any more."""
    imds.data["instance-id"] = "i-1"
    client = InstanceMetadata(imds.url)
    assert client.instance_id() == "i-1"
    imds.forget_tokens()
    assert client.instance_id() == "i-1" and len(imds.ttls) == 2
    later = time.monotonic() + module.TOKEN_TTL - module.RENEW_BEFORE + 1
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert client.instance_id() == "i-1" and len(imds.ttls) == 3


def test_no_public_address_is_ever_asked_for(imds: Imds) -> None:
    """Where it is forbidden to know it, we would ask."""
    for path in ("public-ipv4", "public-hostname", "network/interfaces/macs/x/public-ipv4s"):
        with pytest.raises(ValueError, match="public"):
            InstanceMetadata(imds.url).get(path)
    assert imds.asked == []


@pytest.mark.parametrize("mood", RUDE)
def test_trouble_is_not_an_answer_and_ends(imds: Imds, mood: str) -> None:
    """ "Not set" would be taken from a broken service; or one failure would switch it off."""
    client = InstanceMetadata(imds.url)
    imds.data["instance-id"] = "i-1"
    imds.mood = mood
    began = time.monotonic()
    with pytest.raises(MetadataError):
        client.get("instance-id")
    assert client.instance_id() is None
    assert time.monotonic() - began < 2, "each call is bounded"
    imds.mood = "well"
    assert client.instance_id() == "i-1"
    assert client.get("spot/instance-action") is None


def test_a_connection_that_stays_open_is_no_trouble(imds: Imds) -> None:
    """Every call would wait for a close that doesn't come."""
    imds.data["instance-id"] = "i-1"
    imds.mood = "kept-open"
    assert InstanceMetadata(imds.url).instance_id() == "i-1"


@pytest.mark.parametrize("value", ["true", "True", "TRUE"])
def test_switched_off_is_switched_off(imds: Imds, value: str) -> None:
    """What an administrator forbids would be done."""
    client = InstanceMetadata.from_environment({**imds.env, "AWS_EC2_METADATA_DISABLED": value})
    assert client.disabled and client.instance_id() is None and imds.asked == []


@pytest.mark.parametrize("endpoint", ["", "x", "http://", "http://h:port", "http://[", "ftp://h"])
def test_a_wrong_endpoint_is_trouble_and_no_crash(endpoint: str) -> None:
    """A daemon with a typing error in its environment would not start."""
    with pytest.raises(MetadataError, match="is no address"):
        InstanceMetadata(endpoint).get("instance-id")


def test_where_a_service_on_ec2() -> None:
    """A named endpoint would be asked once a minute, as on a laptop."""
    assert on_ec2({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"})


GARBAGE = [
    "",
    "<html>log in</html>",
    "null",
    "7",
    "[" * 100_000,
    '{"action": "stop"}',
    '{"action": "stop", "time": 7}',
    '{"action": ["stop"], "time": "2026-01-22T14:05:30Z"}',
    '{"action": "none", "time": "2026-01-22T14:05:30Z"}',
    '{"noticeTime": "soon"}',
    '[{"Code": "system-reboot", "State": "active"}, 7, {"State": "active", "Code": {}}]',
    '[{"Code": {}, "State": "active", "NotBefore": "21 Jan 2019 09:00:43 GMT"}]',
]


@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_no_notice(text: str) -> None:
    """A captive portal's page would end the jobs, or the watcher."""
    assert spot_notice(text) is None and rebalance_notice(text) is None
    assert list(maintenance_notices(text)) == []


def test_what_notices_say() -> None:
    """The examples of the User Guide would not be understood."""
    spot = spot_notice('{"action": "terminate", "time": "2026-01-22T14:05:30Z"}')
    assert spot == Notice(NoticeKind.SPOT, "terminate", 1769090730.0)
    assert str(spot) == "spot interruption at 2026-01-22T14:05:30Z"
    assert rebalance_notice('{"noticeTime": "2020-10-27T08:22:00Z"}') is not None
    event = {
        "NotBefore": "21 Jan 2019 09:00:43 GMT",
        "NotAfter": "21 Jan 2019 09:17:23 GMT",
        "Code": "system-reboot",
        "Description": "scheduled reboot",
        "EventId": "instance-event-0d59937288b749b32",
        "State": "active",
    }
    done = {**event, "State": "completed", "Description": "[Completed] scheduled reboot"}
    other = {**event, "Code": "system-maintenance"}
    told = list(maintenance_notices(json.dumps([event, done, other])))
    assert [str(each) for each in told] == [
        "scheduled maintenance (system-reboot) at 2019-01-21T09:00:43Z"
    ]


@pytest.mark.parametrize("ahead", [-1e6, 1e6])
def test_a_notice_is_counted_on_the_clock_of_who_announces_it(imds: Imds, ahead: float) -> None:
    """A machine whose own clock is wrong would think it has no time left, or days."""
    imds.ahead = ahead
    wall = time.time() + ahead
    imds.data["spot/instance-action"] = json.dumps(
        {"action": "stop", "time": rfc3339_seconds(wall + 120)}
    )

    async def hear() -> Notice:
        watch = Watch(imds)
        await _until(lambda: watch.heard)
        watch.watcher.stop()
        return watch.heard[0]

    notice = asyncio.run(hear())
    assert notice.left is not None and 60 < notice.left <= 122
    assert notice == spot_notice(imds.data["spot/instance-action"]), "the same, however late"


async def _until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


class Watch:
    """A watcher that asks every 50 ms, and what it has told."""

    def __init__(self, imds: Imds, *, expected: bool = True, probe_every: float = 0.05) -> None:
        self.heard: list[Notice] = []
        loop = asyncio.get_running_loop()
        self.watcher = SpotWatcher(
            InstanceMetadata(imds.url),
            loop,
            self.heard.append,
            expected=expected,
            every=0.05,
            probe_every=probe_every,
        )
        self.watcher.start()


@pytest.mark.parametrize("mood", [*RUDE, "garbage"])
def test_a_rude_service_only_delays_a_notice(imds: Imds, mood: str) -> None:
    """A service that was out of order for a moment would cost the two minutes."""

    async def watch() -> None:
        imds.mood = mood
        if mood == "garbage":
            imds.data["spot/instance-action"] = "<html>"
        watch = Watch(imds)
        await _until(lambda: len(imds.asked) + len(imds.ttls) > 4)
        assert watch.heard == []
        imds.mood = "well"
        imds.announce_spot(120)
        await _until(lambda: watch.heard)
        asked = imds.times("spot/instance-action")
        await _until(lambda: imds.times("spot/instance-action") > asked + 2)
        assert [each.kind for each in watch.heard] == [NoticeKind.SPOT], "told once"
        imds.announce_spot(60)
        imds.announce_rebalance()
        await _until(lambda: len(watch.heard) == 3)
        watch.watcher.stop()

    asyncio.run(watch())


def test_a_service_that_comes_late_is_found() -> None:
    """A daemon that was up before the network would never see a notice."""

    async def watch() -> None:
        imds = Imds(start=False)
        try:
            watch = Watch(imds, expected=False)
            imds.announce_spot(120)
            imds.start()
            await _until(lambda: watch.heard)
            watch.watcher.stop()
        finally:
            imds.close()

    asyncio.run(watch())


def test_where_nothing_ever_answered_it_asks_seldom(imds: Imds) -> None:
    """A laptop, or another cloud's machine, would be woken every five seconds."""

    async def watch() -> None:
        imds.mood = "no-tokens"
        watch = Watch(imds, expected=False, probe_every=60.0)
        await _until(lambda: imds.ttls)
        await asyncio.sleep(0.3)
        assert len(imds.asked) == 1, "six polls would have come by"
        watch.watcher.stop()

    asyncio.run(watch())


def test_it_polls_no_more_often_than_it_is_told(imds: Imds) -> None:
    """A slow service would be asked again at once, or a quick one without a pause."""

    async def watch() -> None:
        began = time.monotonic()
        watch = Watch(imds)
        await _until(lambda: imds.times("events/maintenance/scheduled") >= 4)
        watch.watcher.stop()
        assert time.monotonic() - began > 0.14
        asked = [path for _, path, _ in imds.asked]
        assert asked[:4] == [
            "/latest/api/token",
            "spot/instance-action",
            "events/recommendations/rebalance",
            "events/maintenance/scheduled",
        ]

    asyncio.run(watch())
