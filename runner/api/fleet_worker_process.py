"""A worker of an Executor's own: ``runner-fleet worker`` that ends when its parent does.

Its standard input is a pipe from the Executor's process: at its end, also after ``kill -9``, it
stops as after SIGTERM, and gives back what it was doing.
"""

from __future__ import annotations

import os
import signal
import threading


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    from runner.fleet.cli.main import main

    main()
