"""All of an attempt in one container, of an image that has Python: stage, COMMAND, agent.

COMMAND is a child of this process, in a session of its own, and sees the same files: nothing is
copied. As process 1 it ends whatever COMMAND leaves behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from runner.batch.container import stage
from runner.batch.container.agent import attend
from runner.batch.container.bootstrap import LITTLE_MEMORY
from runner.batch.container.task import say
from runner.batch.container.volume import Volume
from runner.errors import RunnerError


def main() -> int:
    """The container's process."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    os.umask(0o022)
    try:
        volume = Volume.from_environment(os.environ)
        if (code := stage.stage(os.environ, volume, in_image=True)) != stage.READY:
            return code
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())
        os.environ.pop(LITTLE_MEMORY, None)
        command = subprocess.Popen(
            ["/bin/sh", str(volume.main / "main.sh")],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        threading.Thread(target=command.wait, name="reaper", daemon=True).start()
        return attend(os.environ, volume, stopping, in_image=True)
    except (RunnerError, OSError) as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
