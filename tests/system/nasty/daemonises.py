"""Leaves a grandchild behind the classic way: fork, setsid, fork, all files closed.

The grandchild ignores SIGTERM. With an argument it stays itself, to be ended by its timeout.
"""

import os
import signal
import sys
import time

reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.chdir("/")
        os.write(writing, b"!")
        os.closerange(0, 100)
        time.sleep(100)
    os._exit(0)
os.wait()
os.read(reading, 1)
if len(sys.argv) > 1:
    time.sleep(100)
