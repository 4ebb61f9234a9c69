"""The installer on machines that have what it would make, or no room for it: nothing is touched.

The machines aren't booted: what is on their disks, users and groups included, is all that counts.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Machine
from test_kill_installer import small_bundle

PLACES = ("etc", "home", "opt", "usr/local", "usr/lib/systemd", "var/lib", "var/log", "run", "srv")
# Kept by the tools that make and remove users.
BACKUPS = ("etc/passwd-", "etc/shadow-", "etc/group-", "etc/gshadow-", "etc/.pwd.lock")
SETTINGS = "/etc/runner/runner.toml"
ROOT_JOBS = 'job_user = "root"\n'

Disk = dict[str, tuple[object, ...]]


@pytest.fixture
def host(machine: Callable[..., Machine]) -> Iterator[Machine]:
    """A machine with a small bundle in /root/1; what is mounted on it is unmounted."""
    made = machine()
    small_bundle(made, "1")
    yield made
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if (place := line.split()[1]).startswith(f"{made.disk}/"):
            subprocess.run(["umount", place], check=True)


def disk(host: Machine) -> Disk:
    """All that an installer might touch: kind, mode, owner and content by path."""
    found: Disk = {}
    for place in PLACES:
        for folder, folders, files in os.walk(host.disk / place):
            for name in (*folders, *files):
                path = Path(folder, name)
                there = path.lstat()
                what: object = None
                if path.is_symlink():
                    what = os.readlink(path)
                elif path.is_file():
                    what = hashlib.sha256(path.read_bytes()).hexdigest()
                key = str(path.relative_to(host.disk))
                found[key] = (what, there.st_mode, there.st_uid, there.st_gid)
    return {key: found[key] for key in found if key not in BACKUPS}


def differences(before: Disk, after: Disk) -> list[str]:
    return sorted(key for key in {*before, *after} if before.get(key) != after.get(key))


def call(host: Machine, *flags: str, bundle: str = "1") -> subprocess.CompletedProcess[str]:
    return host.run("sh", f"/root/{bundle}/install.sh", *flags, check=False)


def does(*commands: str) -> Callable[[Machine], None]:
    return lambda host: host.run("sh", "-ec", "; ".join(commands)) and None


def mounts(place: str, options: str) -> Callable[[Machine], None]:
    def act(host: Machine) -> None:
        there = host.disk / place
        there.mkdir(parents=True, exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", options, "odd", str(there)]
        subprocess.run(words, check=True)

    return act


ODD: dict[str, tuple[Callable[[Machine], None], str]] = {
    "a user": (does("useradd -m -s /bin/bash runner"), "user runner was there (number 1000): --ad"),
    "a group": (does("groupadd -g 4242 runner"), "group runner was there (number 4242): --adopt"),
    "a jobs' group": (does("groupadd runner-jobs"), "group runner-jobs was there"),
    "a program": (
        does("echo mine > /usr/local/bin/runner"),
        "/usr/local/bin/runner is there: move",
    ),
    "a link to nothing": (
        does("ln -s /srv/gone /usr/local/bin/runner-status"),
        "/usr/local/bin/runner-status is a link to /srv/gone: move it away",
    ),
    "files in /opt/runner": (
        does("mkdir -p /opt/runner/_work", "echo mine > /opt/runner/_work/f"),
        "/opt/runner is a folder with files in it: --adopt uses it",
    ),
    "another's /opt/runner/bin": (
        does("mkdir -p /opt/runner/bin", "echo mine > /opt/runner/bin/run.sh"),
        "/opt/runner/bin is there: move it away",
    ),
    "a state folder": (
        does("mkdir -p /var/lib/runner/db", "echo mine > /var/lib/runner/db/f"),
        "/var/lib/runner is a folder with files in it: --adopt",
    ),
    "a state folder elsewhere": (
        does("mkdir /srv/state", "ln -s /srv/state /var/lib/runner"),
        "/var/lib/runner is a link to /srv/state: --adopt",
    ),
    "a file for a folder": (does("echo mine > /var/log/runner"), "/var/log/runner is there: move"),
    "a home": (
        does("mkdir /home/runner", "echo thesis > /home/runner/thesis"),
        "/home/runner is a folder with files in it: move it away",
    ),
    "a unit": (
        does("echo '[Service]' > /etc/systemd/system/runner.service"),
        "/etc/systemd/system/runner.service is there: move it away",
    ),
    "a package's unit": (
        does("echo '[Service]' > /usr/lib/systemd/system/runner.service"),
        "systemd/system/runner.service is another program's unit: remove that program",
    ),
    "a damaged record": (
        does("mkdir /var/lib/queue-runner", "echo '{' > /var/lib/queue-runner/installed.json"),
        "/var/lib/queue-runner/installed.json is damaged",
    ),
    "no python": (does("rm -f /usr/bin/python3*"), "needs a whole Python, 3.11 or newer"),
    "a read-only /usr/local": (
        mounts("usr/local/bin", "ro"),
        "nothing can be written to /usr/local/bin: is its file system read-only?",
    ),
    "a noexec /opt": (mounts("opt", "noexec"), "/opt is on a file system mounted noexec"),
    "a full /opt": (mounts("opt", "size=1m"), "and /opt has 1 free: make room"),
}


@pytest.mark.parametrize("which", ODD)
def test_what_is_not_its_own_is_refused_and_left_as_it_is(host: Machine, which: str) -> None:
    """Another program's files would be overwritten now, and removed later with all in them."""
    act, why = ODD[which]
    act(host)
    before = disk(host)
    done = call(host)
    assert done.returncode == 1, done.stdout + done.stderr
    assert why in done.stderr
    assert differences(before, disk(host)) == []
    done = call(host, "--uninstall", "--purge")
    assert differences(before, disk(host)) == [], done.stdout + done.stderr


def test_all_that_is_in_the_way_is_named_at_once(host: Machine) -> None:
    """Each would cost a try of its own."""
    does("groupadd runner", "echo mine > /usr/local/bin/runner", "mkdir /opt/runner")(host)
    host.write("/var/lib/runner/f", "mine")
    told = call(host).stderr
    for name in ("group runner", "/usr/local/bin/runner", "/var/lib/runner"):
        assert f"\n  {name} " in told
    assert "/opt/runner" not in told, "an empty folder is in nobody's way"


FOREIGN = {
    "accounts": ("useradd -m -s /bin/bash runner", "groupadd runner-jobs"),
    "folders": (
        "mkdir -p /opt/runner/_work /var/lib/runner/db /var/log/runner /etc/runner /srv/logs",
        "for each in /opt/runner/_work /var/lib/runner/db /etc/runner; do echo f > $each/f; done",
        "rmdir /var/log/runner",
        "ln -s /srv/logs /var/log/runner",
    ),
}


@pytest.mark.parametrize("which", FOREIGN)
def test_what_was_adopted_outlives_a_purge(host: Machine, which: str) -> None:
    """A user who was there would be deleted with his home, a folder with what others keep in it."""
    does(*FOREIGN[which])(host)
    host.write(SETTINGS, ROOT_JOBS)
    before = disk(host)
    assert call(host).returncode == 1 and differences(before, disk(host)) == []
    assert call(host, "--adopt").returncode == 0
    assert host.run("runner").stdout == "1\n"
    assert call(host).returncode == 1, "what was adopted once isn't owned later"
    done = call(host, "--uninstall", "--purge")
    assert done.returncode == 0, done.stderr
    assert differences(before, disk(host)) == []


def test_an_installation_comes_and_goes_without_a_trace(host: Machine) -> None:
    """Something would be left of it, or its own state taken for another's the next time."""
    before = disk(host)
    assert call(host).returncode == 0
    host.write("/var/lib/runner/queues/q/state.db", "")
    host.write("/home/runner/f", "")
    assert call(host, "--uninstall").returncode == 0
    assert host.exists("/var/lib/runner/queues/q/state.db") and not host.exists("/opt/runner")
    assert call(host).returncode == 0, "what it has kept is its own"
    assert call(host, "--uninstall", "--purge").returncode == 0
    assert differences(before, disk(host)) == []


def test_a_job_user_who_may_submit_is_refused_or_told(host: Machine) -> None:
    """A job could submit jobs, and so have what no job is to have."""
    does("groupadd runner", "useradd -m -G runner ubuntu", "useradd -m train")(host)
    before = disk(host)
    done = call(host, "--adopt")
    assert done.returncode == 1 and "jobs would run as ubuntu, who is in the group" in done.stderr
    assert differences(before, disk(host)) == []
    host.write(SETTINGS, 'job_user = "ubuntu"\n')
    done = call(host, "--adopt")
    assert done.returncode == 0 and "ubuntu, the job_user, is in the group runner" in done.stderr
    host.write(SETTINGS, 'job_user = "train"\n')
    assert "in the group" not in call(host, "--adopt").stderr


FAILS = {
    "a tool": (does("printf '#!/bin/sh\\nexit 1\\n' > /usr/local/sbin/systemd-sysusers"),),
    "no room for units": (mounts("etc/systemd/system", "size=4k"),),
    "no room for the record": (mounts("var/lib", "size=4k"), does("echo f > /var/lib/filler")),
    "no room for the code": (mounts("opt", "size=24m,nr_inodes=10"),),
}


@pytest.mark.parametrize("which", FAILS)
def test_an_installation_that_fails_leaves_nothing(host: Machine, which: str) -> None:
    """Half of it would stay, and nobody know what of it is whole."""
    for act in FAILS[which]:
        act(host)
    host.run("sh", "-c", "chmod 755 /usr/local/sbin/*", check=False)
    before = disk(host)
    done = call(host)
    assert done.returncode == 1 and "install.sh: " in done.stderr, done.stderr
    assert differences(before, disk(host)) == []


def test_an_upgrade_that_fails_leaves_the_old_version(host: Machine) -> None:
    """A machine that worked would have no runner."""
    assert call(host).returncode == 0
    small_bundle(host, "2")
    versions = set(host.run("ls", "-A", "/opt/runner/versions").stdout.split())
    host.write("/usr/local/sbin/systemd-sysusers", "#!/bin/sh\necho no >&2; exit 1\n", 0o755)
    done = call(host, bundle="2")
    assert done.returncode == 1 and "systemd-sysusers" in done.stderr
    assert host.run("runner").stdout in ("1\n", "2\n")
    host.run("rm", "/usr/local/sbin/systemd-sysusers")
    assert call(host, bundle="2").returncode == 0 and host.run("runner").stdout == "2\n"
    left = set(host.run("ls", "-A", "/opt/runner/versions").stdout.split())
    assert len(left) == 1 and left.isdisjoint(versions)


def test_what_was_changed_since_is_kept_and_named(host: Machine) -> None:
    """What others have put in the place of ours, or added, would go with it."""
    assert call(host).returncode == 0
    unit = "/etc/systemd/system/runner.slice"
    host.write(unit, "[Slice]\nCPUWeight=7\n")
    host.write("/opt/runner/_work/f", "mine")
    does("rm /usr/local/bin/runner", "echo mine > /usr/local/bin/runner")(host)
    done = call(host)
    assert done.returncode == 1 and "/usr/local/bin/runner is there: move it away" in done.stderr
    done = call(host, "--uninstall", "--purge")
    assert done.returncode == 0
    for path in (unit, "/usr/local/bin/runner"):
        assert f"{path} is kept: it isn't what was made" in done.stderr
    assert "/opt/runner is kept: there is more in it (_work)" in done.stderr
    assert host.read(unit).endswith("=7\n") and host.read("/usr/local/bin/runner") == "mine\n"
    assert host.read("/opt/runner/_work/f") == "mine"
    assert not host.exists("/opt/runner/current")


def test_a_changed_unit_is_put_back_and_its_change_kept(host: Machine) -> None:
    """An administrator's change would be lost without a word, or outlive every upgrade."""
    assert call(host).returncode == 0
    unit = "/etc/systemd/system/runner.service"
    host.write(unit, "[Service]\n")
    done = call(host)
    assert done.returncode == 0 and f"{unit} was changed, and is put back" in done.stderr
    assert "ExecStart=" in host.read(unit) and host.read(f"{unit}.changed") == "[Service]\n"
