"""A registry of images on loopback: Debian's docker-registry, empty, with or without login."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

COMMAND = "docker-registry"

_CONFIGURATION = """
version: 0.1
log: {{level: info}}
storage: {{filesystem: {{rootdirectory: "{folder}/images"}}}}
http: {{addr: "127.0.0.1:0"}}
"""

_LOGIN = 'auth: {{htpasswd: {{realm: "private", path: "{folder}/passwords"}}}}\n'


class Registry:
    """``address``: what the names of its images begin with. It has none; with ``login`` nobody may
    see that."""

    def __init__(self, *, login: bool) -> None:
        self._folder = tempfile.mkdtemp(prefix="registry-")
        text = _CONFIGURATION + (_LOGIN if login else "")
        path = Path(self._folder, "config.yml")
        path.write_text(text.format(folder=self._folder))
        if login:
            Path(self._folder, "passwords").write_text("nobody:none\n")
        self._process = subprocess.Popen(
            [COMMAND, "serve", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.address = self._listening()

    def _listening(self) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"listening on (127\.0\.0\.1:[0-9]+)", line):
                return found[1]
        raise AssertionError("the registry has ended")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)
