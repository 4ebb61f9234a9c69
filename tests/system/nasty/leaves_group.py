"""Leaves its process group, and has a child in yet another one."""

import os
import time

if os.fork() == 0:
    os.setpgid(0, 0)
    time.sleep(100)
    os._exit(0)
os.setpgid(0, 0)
time.sleep(100)
