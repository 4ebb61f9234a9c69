"""The first boot fails at each of its lines: the machine ends within its limits, and says why.

It runs on the disk of a machine of the lab that isn't booted: what it asks systemd for is recorded,
metadata and S3 are this host's.
"""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cloud import Cloud, CloudMachine
from imds import Imds
from lab import Machine
from launched import Launched, quickstart, report, role

from runner.targets.ec2 import names
from runner.targets.ec2.launch.user_data import BootConfig, Shipped, user_data

TIMER = "etc/systemd/system/runner-expires.timer"
ENDS = "start --no-block runner-expires.service"
FIRST_IN_PATH = "usr/local/sbin"
OLD_PYTHON = '#!/bin/sh\ncase "$*" in *"(3, 11)"*) exit 1 ;; esac\nexec /usr/bin/python3 "$@"\n'


pytestmark = pytest.mark.share


@dataclass
class Bed:
    """One launch and the disk that its script will run on; a fault may change any of it."""

    cloud: Cloud
    launched: Launched
    disk: Machine
    boot: BootConfig
    patches: dict[str, str]

    def stub(self, name: str, script: str) -> None:
        """Put it in the place of a command. From outside: the machine's own tools may be broken."""
        path = self.disk.disk / FIRST_IN_PATH / name
        path.write_text(script)
        path.chmod(0o755)


def run(bed: Bed, imds: Imds) -> subprocess.CompletedProcess[str]:
    """The script, as cloud-init would run it, in a mount namespace of its own."""
    script = gzip.decompress(user_data(bed.boot)).decode()
    for old, new in {'"denied": 30.0': '"denied": 0.3', **bed.patches}.items():
        assert old in script
        script = script.replace(old, new)
    root = bed.disk.disk
    (root / "root" / "user-data").write_text(script)
    (root / "root" / "user-data").chmod(0o755)
    enter = 'mount -t proc proc "$0/proc" && exec chroot "$0" /root/user-data'
    environment = {
        "AWS_ENDPOINT_URL": bed.cloud.endpoint.url,
        **imds.env,
        "PATH": "/usr/sbin:/usr/bin",
    }
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", enter, str(root)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=400)


def calls(bed: Bed) -> list[str]:
    """What systemd was asked for."""
    return read(bed, "calls").splitlines()


def read(bed: Bed, path: str) -> str:
    """A file of the disk, "" if it isn't there."""
    there = bed.disk.disk / path
    return there.read_text() if there.is_file() else ""


@pytest.fixture
def imds(cloud: Cloud) -> Iterator[Imds]:
    made = Imds()
    made.data = CloudMachine.metadata(cloud, "i-1")
    yield made
    made.close()


@pytest.fixture
def bed(lab_root: Path, cloud: Cloud, launched: Launched, tmp_path: Path) -> Iterator[Bed]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a").write_text("a")
    boot = launched.boot(quickstart(), tmp_path / "code")
    cloud.allow(role(cloud.bucket))
    with Machine(lab_root) as disk:
        made = Bed(cloud, launched, disk, boot, {})
        made.stub("systemctl", '#!/bin/sh\necho "$*" >> /calls\n')
        for name in ("poweroff", "shutdown"):
            made.stub(name, f'#!/bin/sh\necho "{name} $*" >> /calls\nexit 1\n')
        yield made


# -- faults ----------------------------------------------------------------------------------


def not_there(which: str) -> Callable[[Bed], None]:
    def act(bed: Bed) -> None:
        there: Shipped = getattr(bed.boot, which)
        # Where the role may look, or it would be denied.
        key = re.sub("/(launches/|bundles/runner-)", r"/\1x", there.key)
        bed.boot = replace(bed.boot, **{which: replace(there, key=key)})

    return act


def another(which: str, data: bytes | None = None) -> Callable[[Bed], None]:
    """Without ``data`` with the wrong hash; with it, that is what was launched."""

    def act(bed: Bed) -> None:
        there: Shipped = getattr(bed.boot, which)
        given = (
            replace(there, sha256="0" * 64)
            if data is None
            else bed.launched.ship(f"runner/bundles/{len(data)}", data)
        )
        bed.boot = replace(bed.boot, **{which: given})

    return act


def stub(name: str, script: str) -> Callable[[Bed], None]:
    return lambda bed: bed.stub(name, f"#!/bin/sh\n{script}\n")


def old_python(apt: str) -> Callable[[Bed], None]:
    def act(bed: Bed) -> None:
        for name in ("python3", "python3.11"):
            bed.stub(name, OLD_PYTHON)
        bed.stub("apt-get", f"#!/bin/sh\n{apt}\n")
        bed.patches['"packages": 120.0'] = '"packages": 0.0'

    return act


def without(action: str) -> Callable[[Bed], None]:
    return lambda bed: bed.cloud.allow(role(bed.cloud.bucket, without=action))


def hollow_bundle() -> bytes:
    """It is what was launched, and nothing can be installed from it."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        entry = tarfile.TarInfo("runner-x/install.sh")
        text = b"echo this bundle is damaged >&2; exit 1\n"
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return raw.getvalue()


def settings(**given: str) -> Callable[[Bed], None]:
    def act(bed: Bed) -> None:
        bed.boot = replace(bed.boot, settings={**bed.boot.settings, **given})

    return act


def systemd_refuses(bed: Bed) -> None:
    refuses = '[ "$1 $2" != "restart runner.service" ] || { echo no >&2; exit 1; }'
    bed.stub("systemctl", f'#!/bin/sh\necho "$*" >> /calls\n{refuses}\n')


FAULTS: dict[str, tuple[Callable[[Bed], None], str]] = {
    "no bundle": (not_there("bundle"), "404 NoSuchKey"),
    "another bundle": (another("bundle"), "isn't what was launched"),
    "no document": (not_there("document"), "404 NoSuchKey"),
    "no work folder": (not_there("workdir"), "404 NoSuchKey"),
    "no s3:GetObject": (without("s3:GetObject"), "403 AccessDenied .*role has to allow"),
    "a bundle that is none": (another("bundle", b"hello"), "can't be unpacked"),
    "a damaged bundle": (another("bundle", hollow_bundle()), "installation failed .*is damaged"),
    "a work folder that is none": (another("workdir", b"hello"), "start failed .*laid out"),
    "no new python": (old_python("exit 1"), "`apt-get .*` failed"),
    "python doesn't come": (old_python("exit 0"), r"still no whole Python >= 3\.11"),
    "python never comes": (old_python("exec sleep 60"), "not ready after 3 s"),
    "the service doesn't start": (systemd_refuses, "start failed .*restart runner.service"),
    "no such user": (settings(job_user="nosuch"), "job_user = nosuch: .* has no such user"),
    "jobs may not pass": (
        settings(state_dir="/root/state"),
        "job_user = runner: .* can't pass through /root",
    ),
    # The stub starts nothing, so there is nobody to submit to.
    "nobody takes the queue": (lambda bed: None, "start failed .*submit"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_is_told_and_ends_the_machine(bed: Bed, imds: Imds, fault: str) -> None:
    """A machine that can't be set up would cost money, and nobody would know why."""
    breaks, why = FAULTS[fault]
    breaks(bed)
    if fault == "python never comes":
        bed.patches["patience=1800"] = "patience=3"
    done = run(bed, imds)
    assert done.returncode == 1, done.stdout + done.stderr
    assert calls(bed)[-1] == ENDS
    told = report(bed.cloud, bed.boot)
    assert told["outcome"] == "failed"
    log = bed.cloud.get(names.launch_key(bed.boot.launch, "bootstrap.log")) or b""
    assert re.search(why, told["error"]), told["error"]
    assert re.search(why, log.decode())
    assert "FAILED" in done.stdout, "the console says it too"


def test_kept_for_a_look_it_still_ends(bed: Bed, imds: Imds) -> None:
    """--keep-on-failure would keep it for ever, or not at all."""
    not_there("bundle")(bed)
    bed.boot = replace(bed.boot, keep_on_failure=7200)
    bed.patches["patience=1800"] = "patience=1700"
    done = run(bed, imds)
    assert done.returncode == 1 and ENDS not in calls(bed)
    assert calls(bed)[-1] == "restart runner-expires.timer"
    timer = read(bed, TIMER).splitlines()
    assert "OnActiveSec=7200" in timer and "OnBootSec=10s" in timer


def see_whether_it_is_over(bed: Bed, wall: str) -> bool:
    """What the timer starts, under a wall clock that says so; whether it ends the machine."""
    bed.stub("date", f"#!/bin/sh\necho {wall}\n")
    unit = read(bed, "etc/systemd/system/runner-overdue.service").replace("\\\n", "")
    (script,) = re.findall("ExecStart=/bin/sh -c '(.*)'", unit)
    before = calls(bed).count(ENDS)
    # systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers".
    told = script.replace("$$", "$").replace("%%", "%")
    enter = 'mount -t proc proc "$0/proc" && exec chroot "$0" /bin/sh -c "$1"'
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", enter]
    subprocess.run([*words, str(bed.disk.disk), told], check=True, timeout=60)
    return calls(bed).count(ENDS) > before


def test_a_wall_clock_that_is_set_ends_no_machine(bed: Bed, imds: Imds) -> None:
    """A time server that is reached late would end a machine in the midst of its work."""
    not_there("bundle")(bed)
    bed.boot = replace(bed.boot, keep_on_failure=7200)
    assert run(bed, imds).returncode == 1
    late, volatile = str(bed.boot.expires + 1_000_000), bed.disk.disk / "run/runner-boot"
    assert not see_whether_it_is_over(bed, late)
    # Another boot has nothing there: it reads the wall clock, once.
    for name in ("expires", "at-most"):
        (volatile / name).unlink()
    assert not see_whether_it_is_over(bed, str(bed.boot.expires - 60))
    assert not see_whether_it_is_over(bed, late)
    (volatile / "expires").unlink()
    assert see_whether_it_is_over(bed, late)
    (volatile / "expires").unlink()
    (volatile / "at-most").write_text("1")
    assert see_whether_it_is_over(bed, str(bed.boot.expires - 60)), "kept for longer than it may"


@contextmanager
def small_disk(bed: Bed, place: str, size: str) -> Iterator[None]:
    """Below ``place`` there is only so much room."""
    there = bed.disk.disk / place
    there.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "t", str(there)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(there)], check=True)


FULL = {
    "for what was launched": ("var/lib/runner-boot", "4m", "No space left on device, after"),
    "for the program itself": ("var/lib/runner-boot", "8k", "nothing can be written to /var/lib"),
    "for the lifetime guard": ("etc/systemd/system", "4k", "installation failed"),
    "for the log": ("var/log", "4k", "isn't what was launched"),
    "for the installation": ("opt", "8m", "installation failed .*the disk is full: /opt"),
}


@pytest.mark.parametrize("which", FULL)
def test_a_full_disk_is_told_and_ends_the_machine(bed: Bed, imds: Imds, which: str) -> None:
    """The reason would be lost with the room for it, and the bucket say that it boots for ever."""
    place, size, why = FULL[which]
    if which == "for the log":
        another("bundle")(bed)
    with small_disk(bed, place, size):
        if which in ("for the lifetime guard", "for the log"):
            (bed.disk.disk / place / "filler").write_bytes(b"x" * 4096)
        done = run(bed, imds)
    assert done.returncode == 1, done.stdout + done.stderr
    assert calls(bed)[-1] == ENDS
    told = report(bed.cloud, bed.boot)
    assert told["outcome"] == "failed"
    assert re.search(why, told["error"]), told["error"]
    log = bed.cloud.get(names.launch_key(bed.boot.launch, "bootstrap.log")) or b""
    assert re.search(why, log.decode())
    assert re.search(f"FAILED: .*{why}", done.stdout), "the console says it too"


def test_a_role_that_may_not_write_is_found_out_first(bed: Bed, imds: Imds) -> None:
    """A day's results would have nowhere to go, and the machine not end without an upload."""
    without("s3:PutObject")(bed)
    done = run(bed, imds)
    assert done.returncode == 1 and calls(bed)[-1] == ENDS
    assert "storing s3://" in done.stdout and "403 AccessDenied" in done.stdout
    assert "bundle:" not in done.stdout, "nothing was fetched"
    assert report(bed.cloud, bed.boot) == {}


def test_no_python_at_all_ends_it(bed: Bed, imds: Imds) -> None:
    """The lifetime guard would need what isn't there."""
    bed.disk.run("sh", "-c", "rm -f /usr/bin/python3*")
    done = run(bed, imds)
    assert done.returncode == 1 and calls(bed)[-1] == ENDS
    assert "has no python3" in done.stdout


def test_a_lifetime_that_is_over_ends_it_before_anything_else(bed: Bed, imds: Imds) -> None:
    """A spot request that opens again would run the whole queue once more."""
    bed.boot = replace(bed.boot, expires=1_700_000_000)
    done = run(bed, imds)
    assert done.returncode == 1 and calls(bed)[-1] == ENDS
    assert imds.asked == []


@pytest.mark.parametrize("name", ["cat", "mkdir", "date", "timeout", "systemctl"])
def test_no_command_of_the_script_is_needed_for_the_end(bed: Bed, imds: Imds, name: str) -> None:
    """One broken tool of an image, and the machine would live for ever."""
    bed.stub(name, f'#!/bin/sh\n[ {name} != systemctl ] || echo "$*" >> /calls\nexit 1\n')
    done = run(bed, imds)
    armed = "OnActiveSec=1800" in read(bed, TIMER) and "restart runner-expires.timer" in calls(bed)
    ended = calls(bed)[-1:] == [ENDS] or "poweroff -f" in calls(bed)
    assert ended or armed, (calls(bed), done.stdout, done.stderr)
    assert "READY" not in done.stdout
