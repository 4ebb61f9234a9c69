"""The bundle on other releases of Debian: RUNNER_LAB_SUITES="trixie" names them; each is made once.

Not by default: a root takes a minute or two, and needs Debian's mirror.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from installed import RUNNER, Server, install, queue
from lab import Machine, build_root

SUITES = os.environ.get("RUNNER_LAB_SUITES", "").split()


@pytest.mark.skipif(not SUITES, reason="RUNNER_LAB_SUITES names no release of Debian")
@pytest.mark.parametrize("suite", SUITES or ["none"])
def test_install_run_restart_and_uninstall(suite: str, bundle: Path) -> None:
    """Broken: what is said to run on this release doesn't, with its Python and its systemd."""
    with Machine(build_root(suite)) as host:
        host.boot()
        there = Server(host)
        script = install(host, bundle)
        group = "cat /proc/self/cgroup; until [ -e go ]; do sleep 0.05; done; exit 7"
        there.submit(queue({"job_id": "long", "command": group}))
        there.wait_for_jobs(long="running")
        pid = host.wait_for(lambda: there.status()["jobs"]["long"].get("pid"), "the job's pid")
        host.run("systemctl", "restart", "runner")
        host.write("/var/lib/runner/queues/q/work/go", "")
        job = there.wait_until("failed")["jobs"]["long"]
        assert (job["exit_code"], job["attempt"]) == (7, 1), f"pid {pid} was not adopted"
        log = host.read("/var/log/runner/queues/q/jobs/long-stdout.log")
        assert "/runner.slice/runner-jobs.service/" in log
        print(host.run("python3", "--version").stdout, host.run("systemctl", "--version").stdout)
        host.run(script, "--uninstall", "--purge")
        assert not host.exists(RUNNER) and not host.exists("/var/lib/runner")
