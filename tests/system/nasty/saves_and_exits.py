"""A good trainer: on SIGTERM it saves what it has, and says that all is well."""

import signal
import sys
import time
from types import FrameType


def save(_number: int, _frame: FrameType | None) -> None:
    print("saved", flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, save)
print("training", flush=True)
while True:
    time.sleep(100)
