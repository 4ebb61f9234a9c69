"""A real machine inside the tests: systemd as PID 1, a disk and a network of its own.

``build_root`` makes the file system once and keeps it outside the repository; a ``Machine`` is an
overlay on it, booted by systemd-nspawn in cgroup v2. What happens to a server can happen to it: an
orderly stop, a reboot, a power cut. It knows nothing of the product.
"""

from lab.machine import Machine
from lab.root import build_root, what_is_missing

__all__ = ["Machine", "build_root", "what_is_missing"]
