"""A proxy before moto that is as rude as EC2: refusals, lost answers, slow calls, throttling.

And as good: a client token launches one machine, however often it is used (moto's don't), and
user-data has its limit. It also knows prices and Deep Learning images, which moto doesn't. Faults
are on order, never by chance; each request is counted.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import struct
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

WAIT = 30.0
"""Seconds after which a test that waits has failed."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """EC2's own error, by its code."""

    code: str
    message: str = "made by the proxy"
    status: int = 400


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """What was asked is done, and the connection reset before the answer."""


@dataclass(frozen=True, slots=True)
class LoseRequest:
    """The connection is reset, and nothing done."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Held until ``release``; ``done``: what was asked is done before that."""

    done: bool = False


@dataclass(frozen=True, slots=True)
class SeeNothing:
    """An empty list: what was just made isn't to be seen yet."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing; for the place in the order."""


Fault = Refuse | LoseAnswer | LoseRequest | Hold | SeeNothing | Pass

CAPACITY = (
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "UnfulfillableCapacity",
    "SpotMaxPriceTooLow",
    "Unsupported",
)
QUOTA = ("MaxSpotInstanceCountExceeded", "VcpuLimitExceeded")


@dataclass(slots=True)
class _Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(slots=True)
class _Token:
    """One at a time asks with it; ``reply``: of the call that has launched."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    parameters: dict[str, str] = field(default_factory=dict)
    reply: _Reply | None = None


class RudeEc2:
    """Start it before an endpoint's port, point commands at ``url``, order faults, close it.

    ``prices``: US dollars an hour, on demand, by type. ``spot_prices``: by type and zone.
    ``parameters``: SSM's, besides moto's. ``open_requests``: spot requests that came to nothing.
    """

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.prices: dict[str, float] = {}
        self.spot_prices: dict[tuple[str, str], float] = {}
        self.parameters: dict[str, str] = {}
        self.open_requests: list[str] = []
        self.calls: list[str] = []
        self.launches: list[dict[str, str]] = []
        self._faults: dict[str, list[Fault]] = defaultdict(list)
        self._tokens: dict[str, _Token] = defaultdict(_Token)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._released = threading.Event()
        self._held = 0
        rude = self

        class Handler(_Handler):
            owner = rude

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    # -- what a test tells it ----------------------------------------------------------------

    def order(self, operation: str, *faults: Fault, times: int = 1) -> None:
        """The next calls of an operation get these, in order. A dry run is
        ``RunInstances(dry)``."""
        with self._lock:
            self._faults[operation] += [*faults] * times

    def release(self) -> None:
        """Let go what is held."""
        self._released.set()

    def forget_orders(self) -> None:
        """From now on nothing is rude, and what is ordered anew is held anew."""
        with self._lock:
            self._faults.clear()
            self._held = 0
        self._released.clear()

    def wait_held(self) -> None:
        """Until a call is held."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._held > 0, WAIT)

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # -- how it works ------------------------------------------------------------------------

    def heard(self, handler: _Handler, body: bytes) -> _Reply | None:
        """One request, with its path and headers. None: reset the connection."""
        operation = handler.operation(body)
        return self.answer(operation, body, lambda other=body: handler.ask(other))

    def answer(self, operation: str, body: bytes, ask: Any) -> _Reply | None:
        """None: reset the connection."""
        parameters = dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True))
        dry = operation == "RunInstances" and parameters.get("DryRun") == "true"
        with self._lock:
            self.calls.append(operation + "(dry)" * dry)
            faults = self._faults[self.calls[-1]]
            fault = faults.pop(0) if faults else Pass()
        if operation == "RunInstances" and not dry:
            return self._launch(parameters, fault, ask)
        if parameters.get("Filter.1.Name") == "client-token":
            return self._with(fault, lambda: self._by_token(parameters["Filter.1.Value.1"], ask))
        if operation in _SPOT:
            return _xml(_SPOT[operation](self))
        if operation == "AmazonSSM.GetParameters":
            return self._ssm(json.loads(body), ask())
        if operation == "AWSPriceListService.GetProducts" and self.prices:
            return self._products(json.loads(body))
        if operation.startswith("S3.") and isinstance(fault, Refuse):
            told = f"<Code>{fault.code}</Code><Message>{fault.message}</Message>"
            return _xml(f"<Error>{told}</Error>", fault.status)
        return self._with(fault, ask)

    def _launch(self, parameters: dict[str, str], fault: Fault, ask: Any) -> _Reply | None:
        self.launches.append(parameters)
        token = self._tokens[parameters["ClientToken"]]

        def once() -> _Reply:
            with token.lock:
                if token.reply is not None:
                    return token.reply if token.parameters == parameters else _mismatch()
                if len(base64.b64decode(parameters.get("UserData", ""))) > 16384:
                    return _error("InvalidParameterValue", "User data is limited to 16384 bytes")
                token.parameters, reply = parameters, ask()
                token.reply = reply if reply.status == 200 else None
                return reply

        return self._with(fault, once)

    def _by_token(self, name: str, ask: Any) -> _Reply:
        """moto doesn't know the filter."""
        token = self._tokens.get(name)
        if token is None or token.reply is None:
            return _nothing()
        found = re.search(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", token.reply.body)
        assert found is not None
        version = "Action=DescribeInstances&Version=2016-11-15"
        reply: _Reply = ask(f"{version}&InstanceId.1={found[1].decode()}".encode())
        return reply

    def _with(self, fault: Fault, ask: Any) -> _Reply | None:
        match fault:
            case Refuse():
                return _error(fault.code, fault.message, fault.status)
            case LoseRequest():
                return None
            case LoseAnswer():
                ask()
                return None
            case Hold():
                reply = ask() if fault.done else None
                self._hold()
                return reply or ask()
            case SeeNothing():
                return _nothing()
            case Pass():
                return ask()

    def _hold(self) -> None:
        with self._changed:
            self._held += 1
            self._changed.notify_all()
        self._released.wait(WAIT)

    def _ssm(self, asked: dict[str, Any], reply: _Reply) -> _Reply:
        answer = json.loads(reply.body)
        for name in set(asked["Names"]) & set(self.parameters):
            answer["Parameters"].append({"Name": name, "Value": self.parameters[name]})
        return _json(answer)

    def _products(self, asked: dict[str, Any]) -> _Reply:
        wanted = {each["Field"]: each["Value"] for each in asked["Filters"]}
        if "instanceType" not in wanted:  # a disk's
            return _json({"FormatVersion": "aws_v1", "PriceList": []})
        price = self.prices.get(wanted["instanceType"])
        dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{price:.10f}" if price else "0"}}
        product = {"terms": {"OnDemand": {"t": {"priceDimensions": {"d": dimension}}}}}
        return _json({"FormatVersion": "aws_v1", "PriceList": [json.dumps(product)]})


class _Handler(BaseHTTPRequestHandler):
    owner: RudeEc2
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client was killed
            super().handle()

    def _serve(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionResetError("the client was killed")
        reply = self.owner.heard(self, body)
        if reply is None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        self.send_response_only(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815

    def operation(self, body: bytes) -> str:
        """EC2's and the others' own name of it; S3's is a method."""
        if target := self.headers.get("x-amz-target"):
            return str(target)
        if body.startswith(b"Action="):
            return body[7:].split(b"&")[0].decode()
        return f"S3.{self.command}"

    def ask(self, body: bytes) -> _Reply:
        """What moto answers."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.owner.upstream)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection", "content-length"):
                    upstream.putheader(name, value)
            if self.command in ("PUT", "POST"):
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            data = answer.read()
            size = answer.getheader("content-length") if self.command == "HEAD" else str(len(data))
            own = ("content-length", "connection", "transfer-encoding")
            kept = [(n, v) for n, v in answer.getheaders() if n.lower() not in own]
            return _Reply(answer.status, [*kept, ("Content-Length", size or "0")], data)
        finally:
            upstream.close()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def _xml(text: str, status: int = 200) -> _Reply:
    body = f'<?xml version="1.0"?>{text}'.encode()
    return _Reply(status, [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))], body)


def _nothing() -> _Reply:
    return _xml("<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>")


def _json(value: Any) -> _Reply:
    body = json.dumps(value).encode()
    kind = "application/x-amz-json-1.1"
    return _Reply(200, [("Content-Type", kind), ("Content-Length", str(len(body)))], body)


def _error(code: str, message: str, status: int = 400) -> _Reply:
    told = f"<Code>{code}</Code><Message>{message}</Message>"
    errors = f"<Errors><Error>{told}</Error></Errors>"
    return _xml(f"<Response>{errors}<RequestID>r-1</RequestID></Response>", status)


def _mismatch() -> _Reply:
    return _error("IdempotentParameterMismatch", "The client token was used before", 400)


def _spot_prices(rude: RudeEc2) -> str:
    """moto looks for seconds, and finds one price for all."""
    items = "".join(
        f"<item><instanceType>{name}</instanceType><productDescription>Linux/UNIX"
        f"</productDescription><spotPrice>{price}</spotPrice><timestamp>2026-01-01T00:00:00Z"
        f"</timestamp><availabilityZone>{zone}</availabilityZone></item>"
        for (name, zone), price in rude.spot_prices.items()
    )
    body = f"<spotPriceHistorySet>{items}</spotPriceHistorySet>"
    return f"<DescribeSpotPriceHistoryResponse>{body}</DescribeSpotPriceHistoryResponse>"


def _spot_requests(rude: RudeEc2) -> str:
    items = "".join(
        f"<item><spotInstanceRequestId>{each}</spotInstanceRequestId><state>open</state></item>"
        for each in rude.open_requests
    )
    body = f"<spotInstanceRequestSet>{items}</spotInstanceRequestSet>"
    return f"<DescribeSpotInstanceRequestsResponse>{body}</DescribeSpotInstanceRequestsResponse>"


def _cancel_spot(rude: RudeEc2) -> str:
    rude.open_requests.clear()
    return "<CancelSpotInstanceRequestsResponse/>"


_SPOT = {
    "DescribeSpotPriceHistory": _spot_prices,
    "DescribeSpotInstanceRequests": _spot_requests,
    "CancelSpotInstanceRequests": _cancel_spot,
}
