"""EC2 for tests, where moto is too kind: spot requests that launch again, ends that take a while.

It speaks EC2's query protocol over HTTP and answers by botocore's own model, so that any boto3
client reads it. What is asked of it: describe and cancel spot requests, describe and terminate
instances, regions. As the real one does it, it launches another machine for a persistent request
whose instance was terminated, and shows an end only some looks later.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from s3_endpoint import env_for

Record = dict[str, Any]
Parameters = dict[str, str]


class Ec2Stub:
    """``instances`` and ``requests`` by region and id; ``fail``: error codes by (region, action).

    ``silent``: regions that take a call and say nothing until ``over``. ``prices``: US dollars a GB
    and month of a kind of volume. ``looks``: how often a machine is still shown as it was after its
    end was accepted.
    """

    def __init__(self, *regions: str, looks: int = 0) -> None:
        self.regions = regions or ("us-east-1",)
        self.instances: dict[str, dict[str, Record]] = {region: {} for region in self.regions}
        self.requests: dict[str, dict[str, Record]] = {region: {} for region in self.regions}
        self.fail: dict[tuple[str, str], str] = {}
        self.calls: list[tuple[str, str, tuple[str, ...]]] = []
        self.looks = looks
        self.silent: set[str] = set()
        self.over = threading.Event()
        self.prices: dict[str, float] = {}
        self.on_call: Callable[[str, str], None] = lambda region, action: None
        self._lock = threading.Lock()
        self._count = 0
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stub = self
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Ec2Stub:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def env(self) -> dict[str, str]:
        """For processes that are to ask it about EC2, and nobody about anything else."""
        named = {"AWS_ENDPOINT_URL_EC2": self.url, "AWS_ENDPOINT_URL_PRICING": self.url}
        return {**env_for("http://127.0.0.1:9"), **named}

    # -- what there is -----------------------------------------------------------------------

    def instance(
        self,
        tags: Mapping[str, str],
        *,
        region: str = "us-east-1",
        state: str = "running",
        launched: float,
        request: str | None = None,
        **more: Any,
    ) -> str:
        """Have one; its id."""
        self._count += 1
        found = f"i-{self._count:017x}"
        moment = datetime.fromtimestamp(launched, UTC)
        self.instances[region][found] = {
            "InstanceId": found,
            "State": {"Name": state},
            "InstanceType": "g5.xlarge",
            "LaunchTime": moment,
            "Placement": {"AvailabilityZone": f"{region}a"},
            "Tags": _tags(tags),
            **({"InstanceLifecycle": "spot", "SpotInstanceRequestId": request} if request else {}),
            **more,
        }
        if request:
            known = self.requests[region].get(request)
            if known is not None:
                known["InstanceId"] = found
        return found

    def request(
        self,
        tags: Mapping[str, str],
        *,
        region: str = "us-east-1",
        state: str = "active",
        created: float,
        valid_until: float | None = None,
    ) -> str:
        """Have a persistent spot request; its id."""
        self._count += 1
        found = f"sir-{self._count:08x}"
        record: Record = {
            "SpotInstanceRequestId": found,
            "State": state,
            "Type": "persistent",
            "Status": {"Code": "fulfilled", "Message": "Your Spot request is fulfilled."},
            "CreateTime": datetime.fromtimestamp(created, UTC),
            "LaunchSpecification": {"InstanceType": "g5.xlarge"},
            "Tags": _tags(tags),
        }
        if valid_until is not None:
            record["ValidUntil"] = datetime.fromtimestamp(valid_until, UTC)
        self.requests[region][found] = record
        return found

    def state(self, name: str) -> str:
        """Of an instance or a request."""
        for records in (*self.instances.values(), *self.requests.values()):
            if name in records:
                found = records[name]["State"]
                return str(found if isinstance(found, str) else found["Name"])
        raise KeyError(name)

    def alive(self) -> list[str]:
        """All instances that cost, or may cost, money."""
        return [
            name
            for records in self.instances.values()
            for name, record in records.items()
            if record["State"]["Name"] not in ("terminated", "shutting-down")
        ]

    def asked(self, action: str) -> list[tuple[str, ...]]:
        """The ids that each call of an action named, in order."""
        return [ids for _, name, ids in self.calls if name == action]

    # -- what it answers ---------------------------------------------------------------------

    def answer(self, region: str, action: str, given: Parameters) -> Record | str:
        """The answer to one call, or an error code."""
        if region in self.silent:
            self.over.wait()
        with self._lock:
            self.on_call(region, action)
            ids = tuple(v for k, v in given.items() if re.fullmatch(r".*Id\.\d+", k))
            self.calls.append((region, action, ids))
            if (code := self.fail.get((region, action))) is not None:
                return code
            match action:
                case "DescribeRegions":
                    return {"Regions": [{"RegionName": region} for region in self.regions]}
                case "DescribeInstances":
                    return self._instances(region, given, ids)
                case "DescribeSpotInstanceRequests":
                    return self._requests(region, given, ids)
                case "DescribeVolumes":
                    return self._volumes(region, given)
                case "CancelSpotInstanceRequests":
                    return self._cancel(region, ids)
                case "TerminateInstances":
                    return self._terminate(region, ids)
            return "InvalidAction"

    def _instances(self, region: str, given: Parameters, ids: tuple[str, ...]) -> Record | str:
        for record in self.instances[region].values():
            if (left := record.get("_looks", -1)) >= 0:
                record["_looks"] = left - 1
                if left == 0:
                    record["State"] = {"Name": "terminated"}
        known = self.instances[region]
        if ids and any(name not in known for name in ids):
            return "InvalidInstanceID.NotFound"
        found = [known[name] for name in ids] if ids else list(known.values())
        found = [record for record in found if _matches(record, given, "InstanceId")]
        return {"Reservations": [{"Instances": [record]} for record in found]}

    def _volumes(self, region: str, given: Parameters) -> Record | str:
        ((name, values),) = _filters(given)
        assert name == "attachment.instance-id"
        known = self.instances[region]
        volumes = [
            {"Size": known[each]["_disk"], "VolumeType": "gp3",
             "Attachments": [{"InstanceId": each}]}
            for each in values if "_disk" in known[each]
        ]  # fmt: skip
        return {"Volumes": volumes}

    def products(self) -> list[str]:
        """What the Price List API answers for volumes."""
        return [
            json.dumps({
                "product": {"attributes": {"volumeApiName": kind}},
                "terms": {"OnDemand": {"t": {"priceDimensions": {"d": {
                    "unit": "GB-Mo", "pricePerUnit": {"USD": str(price)},
                }}}}},
            })
            for kind, price in self.prices.items()
        ]  # fmt: skip

    def _requests(self, region: str, given: Parameters, ids: tuple[str, ...]) -> Record | str:
        known = self.requests[region]
        if ids and any(name not in known for name in ids):
            return "InvalidSpotInstanceRequestID.NotFound"
        found = [known[name] for name in ids] if ids else list(known.values())
        found = [record for record in found if _matches(record, given, "InstanceId")]
        return {"SpotInstanceRequests": found}

    def _cancel(self, region: str, ids: tuple[str, ...]) -> Record | str:
        known = self.requests[region]
        if any(name not in known for name in ids):
            return "InvalidSpotInstanceRequestID.NotFound"
        for name in ids:
            known[name]["State"] = "cancelled"
            own = self.instances[region].get(known[name].get("InstanceId", ""))
            if own is not None and own["State"]["Name"] == "stopped":
                own["State"] = {"Name": "terminated"}
        cancelled = [{"SpotInstanceRequestId": name, "State": "cancelled"} for name in ids]
        return {"CancelledSpotInstanceRequests": cancelled}

    def _terminate(self, region: str, ids: tuple[str, ...]) -> Record | str:
        known = self.instances[region]
        if any(name not in known for name in ids):
            return "InvalidInstanceID.NotFound"
        for name in ids:
            record = known[name]
            record["_looks"] = self.looks
            if not self.looks:
                record["State"] = {"Name": "shutting-down"}
            request = self.requests[region].get(record.get("SpotInstanceRequestId", ""))
            if request is not None and request["State"] == "active":
                moment = record["LaunchTime"].timestamp()
                number = request["SpotInstanceRequestId"]
                # What it launches again has no tags of the instance before.
                self.instance({}, region=region, launched=moment, request=number)
        return {"TerminatingInstances": [{"InstanceId": name} for name in ids]}


def _tags(tags: Mapping[str, str]) -> list[Record]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _matches(record: Record, given: Parameters, own: str) -> bool:
    tags = {tag["Key"]: tag["Value"] for tag in record.get("Tags", ())}
    for name, values in _filters(given):
        if name == "tag-key":
            true = any(value in tags for value in values)
        elif name.startswith("tag:"):
            true = tags.get(name.removeprefix("tag:")) in values
        elif name == "instance-state-name":
            true = record["State"]["Name"] in values
        elif name == "instance-id":
            true = record.get(own) in values
        else:
            raise AssertionError(f"a filter that the stub doesn't know: {name}")
        if not true:
            return False
    return True


def _filters(given: Parameters) -> Iterator[tuple[str, list[str]]]:
    for key, name in given.items():
        if found := re.fullmatch(r"Filter\.(\d+)\.Name", key):
            begin = f"Filter.{found[1]}.Value."
            yield name, [value for key, value in given.items() if key.startswith(begin)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    stub: Ec2Stub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone without its answer is none."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        if "GetProducts" in self.headers.get("X-Amz-Target", ""):
            self.rfile.read(size)
            prices = self.server.stub.products()  # type: ignore[attr-defined]
            return self._send(200, json.dumps({"PriceList": prices}))
        fields = parse_qs(self.rfile.read(size).decode(), keep_blank_values=True)
        given = {key: values[0] for key, values in fields.items()}
        scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/", self.headers["Authorization"])
        assert scope is not None
        stub = self.server.stub  # type: ignore[attr-defined]
        answer = stub.answer(scope[1], given["Action"], given)
        if isinstance(answer, str):
            text = (
                f"<Response><Errors><Error><Code>{answer}</Code><Message>made by the stub</Message>"
                "</Error></Errors><RequestID>r</RequestID></Response>"
            )
            return self._send(400, text)
        return self._send(200, _xml(given["Action"], answer))

    def _send(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


def _xml(action: str, answer: Record) -> str:
    shape = _model().operation_model(action).output_shape
    return f"<{action}Response>{_members(shape, answer)}</{action}Response>"


_LOADED: list[Any] = []


def _model() -> Any:
    if not _LOADED:
        from botocore.session import get_session

        _LOADED.append(get_session().get_service_model("ec2"))
    return _LOADED[0]


def _members(shape: Any, value: Record) -> str:
    return "".join(
        f"<{name}>{_text(member, value[key])}</{name}>"
        for key, member in shape.members.items()
        if value.get(key) is not None
        for name in [member.serialization.get("name", key)]
    )


def _text(shape: Any, value: Any) -> str:
    if shape.type_name == "structure":
        return _members(shape, value)
    if shape.type_name == "list":
        return "".join(f"<item>{_text(shape.member, item)}</item>" for item in value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return escape(str(value))
