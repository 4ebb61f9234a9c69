"""The folder that results are fetched into: nobody leads what is written there elsewhere."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runner.errors import RunnerError, UsageError
from runner.results.download.output_folder import OutputFolder

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes where others may not")


@pytest.fixture
def top() -> Iterator[Path]:
    """A folder that any user may pass through, with ``home`` of nobody's and root's ``victim``."""
    made = Path(tempfile.mkdtemp(prefix="output-"))
    made.chmod(0o755)
    for name in ("home", "victim"):
        (made / name).mkdir()
    if os.geteuid() == 0:
        os.chown(made / "home", NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


def write(output: OutputFolder, name: str) -> None:
    path = output.path(name)
    output.check(path)
    with output.replacing(path) as fd:
        os.write(fd, b"x")


@as_root
@pytest.mark.parametrize("swapped", ["out/a", "out"])
def test_no_race_has_root_write_where_a_folders_owner_leads(top: Path, swapped: str) -> None:
    """Results fetched as root into a user's folder would become files in root's own."""
    home, victim = top / "home", top / "victim"
    (home / "out/a").mkdir(parents=True)
    for path in (home / "out", home / "out/a"):
        os.chown(path, NOBODY, NOBODY)
    loop = (
        f"cd {home}; echo; while :; do mv {swapped} mine; ln -s {victim} {swapped}; "
        f"rm {swapped}; mv -T mine {swapped}; done 2>/dev/null"
    )
    racer = subprocess.Popen(
        ["timeout", "60", "bash", "-c", loop],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    assert racer.stdout is not None and racer.stdout.readline() == b"\n"
    written = 0
    try:
        for number in range(300):
            with suppress(RunnerError, OSError):
                write(OutputFolder(home / "out", None), f"a/f{number}")
                written += 1
    finally:
        assert racer.poll() is None, "it was swapping all the time"
        os.killpg(racer.pid, signal.SIGKILL)
        racer.communicate()
    assert os.listdir(victim) == []
    assert written, "some were written where they belong"


@as_root
def test_another_users_link_is_not_what_root_is_given(top: Path) -> None:
    """It can be changed at any moment by who made it."""
    link, inner = top / "home/out", top / "home/inner"
    link.symlink_to(top / "victim")
    inner.symlink_to("out/deeper")
    ours = top / "ours"
    ours.symlink_to("home/out")
    os.lchown(link, NOBODY, NOBODY)
    for named in (link, link / "a", inner, ours, top / "home/../home/./out"):
        with pytest.raises(UsageError, match="is a link of another user's"):
            OutputFolder(named, None)
    os.lchown(link, 0, 0)
    write(OutputFolder(ours / "a", None), "f")
    assert (top / "victim/a/f").read_text() == "x"


def test_a_link_in_the_folder_is_not_followed(top: Path) -> None:
    """A folder fetched before, and changed since, would lead out of it."""
    (top / "home/a").symlink_to(top / "victim")
    (top / "home/b").mkdir()
    (top / "home/b/f").symlink_to(top / "victim/f")
    output = OutputFolder(top / "home", None)
    with pytest.raises(RunnerError, match="a link on the way leads to"):
        write(output, "a/f")
    write(output, "b/f")
    assert not (top / "home/b/f").is_symlink() and os.listdir(top / "victim") == []


def test_what_is_there_is_read_through_no_link(top: Path) -> None:
    """The state of another folder would be taken for this one's."""
    output = OutputFolder(top / "home", None)
    assert output.read("f") is None and not output.has("f")
    (top / "victim/f").write_text("other")
    (top / "home/f").symlink_to(top / "victim/f")
    assert output.has("f")
    with pytest.raises(OSError, match="symbolic"):
        output.read("f")
    (top / "home/fifo").unlink(missing_ok=True)
    os.mkfifo(top / "home/fifo")
    with pytest.raises(OSError, match="is not a file"):
        output.read("fifo")
