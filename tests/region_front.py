"""Regions of AWS Batch behind one address, for tests: a request goes to the server of the region
that its signature names, or, where that region is away, its connection is closed.

boto3's variables name one address a service; which region is meant is in the credential scope of
`Authorization` (AWS Signature Version 4).
"""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_SCOPE = re.compile(r"Credential=[^/]+/\d+/([a-z0-9-]+)/")
_DROPPED = {"host", "connection", "content-length", "transfer-encoding"}


class RegionFront:
    """``servers``: the address of each region's."""

    def __init__(self, servers: Mapping[str, str]) -> None:
        self.away: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        """Region and path of each that was passed on."""
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                found = _SCOPE.search(self.headers.get("Authorization", ""))
                region = found[1] if found else ""
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if region in front.away or region not in servers:
                    self.close_connection = True
                    return
                front.requests.append((region, self.path))
                self._pass_on(servers[region], body)

            do_GET = do_POST  # noqa: N815

            def _pass_on(self, server: str, body: bytes) -> None:
                address = urlsplit(server)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in _DROPPED}
                made = http.client.HTTPConnection(str(address.hostname), address.port)
                try:
                    made.request(self.command, self.path, body, headers)
                    answer = made.getresponse()
                    data = answer.read()
                except (http.client.HTTPException, OSError):  # a fault of the server's own
                    self.close_connection = True
                    return
                finally:
                    made.close()
                self.send_response(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in _DROPPED:
                        self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
