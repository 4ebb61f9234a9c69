"""A thread that acts as a user: what it can't do then, and that it is alone in that."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from runner.engine.file_sync import sync_for
from runner.model.document import InputSpec
from runner.results.checkpoint import (
    BroughtBack,
    JobCheckpoint,
    Saved,
    restore_checkpoint,
    save_checkpoint,
)
from runner.results.download.inputs import InputError, InputsWanted, fetch_inputs
from runner.results.download.restore import Restored, RestoreRequest, restore_job
from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.store import Entry
from runner.results.upload.collect import collect
from runner.results.upload.job_upload import JobUpload, upload_job
from runner.results.upload.source_file import SourceError
from runner.rights import Rights, RightsError, acting_as

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

NOBODY = Rights(65534, 65534, (65534, 64123))
SECRET = b"root's alone"
T = TypeVar("T")


class Scene:
    """A job's folder ``work``, and ``vault``, which holds what only root may read or write."""

    def __init__(self, top: Path) -> None:
        top.chmod(0o755)
        self.work = top / "work"
        self.vault = top / "vault"
        self.store = FolderStore(top / "store")
        self.log = top / "log"
        self.log.write_bytes(b"log")
        for folder in (self.work, self.vault):
            folder.mkdir()
        os.chown(self.work, NOBODY.uid, NOBODY.gid)
        (self.vault / "f").write_bytes(SECRET)
        (self.vault / "f").chmod(0o600)

    def write(self, name: str, data: bytes = b"x", mode: int = 0o644) -> Path:
        """A file of the job's."""
        path = self.work / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
        for each in (path, path.parent):
            os.chown(each, NOBODY.uid, NOBODY.gid)
        return path

    def upload(self, *patterns: str) -> tuple[set[str], tuple[str, ...]]:
        """Store what matches; the names that were, and the problems."""
        spec = JobUpload(
            "j", "run", 1, 1, True, patterns, str(self.work), self.log, self.log, rights=NOBODY
        )
        outcome = alone(lambda: upload_job(self.store, Layout(), spec))
        assert outcome.ok, outcome.problems
        return {path.name for path in self.stored()} - {"manifest.json"}, outcome.problems

    def restore(self, *patterns: str) -> Restored:
        wanted = RestoreRequest("j", "run", 1, patterns, str(self.work), NOBODY)
        return alone(lambda: restore_job((self.store,), Layout(), wanted))

    def stored(self) -> list[Path]:
        """All files in the store but the logs; none may hold what is root's."""
        root = Path(self.store.describe())
        found = [path for path in root.rglob("*") if path.is_file()]
        assert not any(SECRET in path.read_bytes() for path in found)
        return [path for path in found if path.suffix != ".log"]

    def untouched(self) -> None:
        assert os.listdir(self.vault) == ["f"] and (self.vault / "f").read_bytes() == SECRET
        assert os.stat(self.vault / "f").st_uid == 0


@pytest.fixture
def scene() -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="rights-"))
    yield Scene(folder)
    shutil.rmtree(folder)


def alone(work: Callable[[], T]) -> T:
    """The answer of a thread of its own, which has its own rights again afterwards."""
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(ids).result()
        try:
            return pool.submit(work).result()
        finally:
            assert pool.submit(ids).result() == before


def ids() -> dict[str, list[str]]:
    """What the kernel says of this thread."""
    status = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text()
    lines = [line.split() for line in status.splitlines()]
    wanted = ("Uid:", "Gid:", "Groups:", "CapEff:")
    return {line[0]: line[1:] for line in lines if line[0] in wanted}


def test_only_this_thread_and_only_for_the_block(scene: Scene) -> None:
    """The daemon itself would lose its rights, or a later call of the thread do without them."""
    before = ids()

    def work() -> dict[str, list[str]]:
        with acting_as(NOBODY):
            with pytest.raises(PermissionError):
                (scene.vault / "f").read_bytes()
            with acting_as(Rights(1, 1, (1,))):
                assert ids()["Uid:"][3] == "1"
            assert ids()["Groups:"] == ["64123", "65534"]
            seen = ids()
        assert ids() == before
        with pytest.raises(ZeroDivisionError), acting_as(NOBODY):
            _ = 1 // 0
        assert (scene.vault / "f").read_bytes() == SECRET
        return seen

    inside, other = alone(work), ids()
    assert inside["Uid:"] == ["0", "0", "0", "65534"] == inside["Gid:"]
    overriding = 0b1111 | 1 << 27  # CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER; MKNOD
    assert int(inside["CapEff:"][0], 16) & overriding == 0
    assert other == before


def test_who_is_not_root_is_told_and_keeps_his_rights() -> None:
    """A daemon without the capabilities would read jobs' files with all its rights."""
    told, tell = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(1, 1, 1)
            with acting_as(NOBODY):
                os.write(tell, b"acted")
        except RightsError as error:
            os.write(tell, str(error).encode())
        finally:
            os._exit(os.geteuid())
    os.close(tell)
    with open(told) as file:
        assert "can't be taken: Operation not permitted" in file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1, "alive, and still who it was"


def test_links_to_what_is_roots_are_recorded_as_left_out(scene: Scene) -> None:
    """A job would have root's files stored where its owner can read them."""
    scene.write("fine")
    scene.write("closed", SECRET, 0o600)
    os.chown(scene.work / "closed", 0, 0)
    os.link(scene.vault / "f", scene.work / "hard")
    os.symlink(scene.vault / "f", scene.work / "soft")
    os.symlink(scene.vault, scene.work / "folder")
    os.symlink("/proc/self/environ", scene.work / "proc")
    os.mkfifo(scene.work / "fifo")
    scene.vault.chmod(0o711)
    names = ["fine", "closed", "hard", "soft", "folder/f", "proc", "fifo"]
    stored, problems = scene.upload(*names, "*", "folder/*")
    assert stored == {"fine"}
    told = "\n".join(problems)
    for path in (scene.work / "closed", scene.work / "hard", scene.vault / "f"):
        assert f"'{path}' can't be read: Permission denied: left out" in told
    assert "/environ' can't be read: Permission denied: left out" in told
    assert "fifo' is a fifo: left out" in told


@pytest.mark.parametrize("named", ["d/f", "d/*", "**/f"])
def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(scene: Scene, named: str) -> None:
    """Between the look and the open a job could put root's folder in the place of its own."""
    scene.write("d/f", b"the job's")
    with swapping(scene):
        for _ in range(40):
            scene.upload(named)
            shutil.rmtree(scene.store.describe())
    scene.untouched()


def swapping(scene: Scene) -> _Swapping:
    """For a block: a process of the user's that swaps ``d`` for a link to the vault, and back."""
    loop = "echo; while :; do mv d e; ln -s ../vault d; rm d; mv -T e d; done 2>/dev/null"
    # Bounded, should nobody be there to end it.
    return _Swapping(
        subprocess.Popen(
            ["timeout", "60", "bash", "-c", loop],
            cwd=scene.work,
            user=NOBODY.uid,
            group=NOBODY.gid,
            extra_groups=[],
            start_new_session=True,
            stdout=subprocess.PIPE,
        )
    )


class _Swapping:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def __enter__(self) -> None:
        assert self.process.stdout is not None and self.process.stdout.readline() == b"\n"

    def __exit__(self, *_: object) -> None:
        assert self.process.poll() is None, "it was swapping all the time"
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def test_what_is_restored_is_the_users_and_has_the_users_reach(scene: Scene) -> None:
    """A restored file would be root's, or a link in the way have root write anywhere."""
    scene.write("d/f", b"the job's", 0o640)
    scene.upload("d/f")
    shutil.rmtree(scene.work / "d")
    assert scene.restore("d/f") == Restored(1)
    made = scene.work / "d/f"
    assert made.read_bytes() == b"the job's"
    for path, mode in ((made, 0o640), (made.parent, 0o755)):
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (65534, 65534, mode)
    shutil.rmtree(scene.work / "d")
    os.symlink(scene.vault, scene.work / "d")
    (scene.vault / "f").rename(scene.vault / "g")
    assert "can't be written again: Permission denied" in (scene.restore("d/f").lost or "")
    assert os.listdir(scene.vault) == ["g"]


def test_no_race_has_a_restore_write_where_the_user_cannot(scene: Scene) -> None:
    """A folder swapped at the right moment would have root replace a file of its own."""
    scene.write("d/f", b"the job's")
    scene.upload("d/f")
    with swapping(scene):
        for _ in range(100):
            for folder in ("d", "e"):
                with suppress(OSError), acting_as(NOBODY):
                    (scene.work / folder / "f").unlink()
            scene.restore("d/f")
            scene.untouched()


def test_a_checkpoint_has_the_users_reach_too(scene: Scene) -> None:
    """What is saved for a job would be root's, or be brought back where its user can't write."""
    spec = JobCheckpoint("j", "run", 1, ("d/*",), str(scene.work), rights=NOBODY)
    scene.write("d/f", b"the job's")

    def save(spec: JobCheckpoint) -> Saved:
        return alone(lambda: save_checkpoint(scene.store, Layout(), spec))

    def back() -> BroughtBack:
        return alone(lambda: restore_checkpoint(scene.store, Layout(), spec, lambda: None))

    assert save(spec).files == 1
    shutil.rmtree(scene.work / "d")
    assert back() == BroughtBack(1)
    assert (scene.work / "d/f").stat().st_uid == (scene.work / "d").stat().st_uid == NOBODY.uid
    shutil.rmtree(scene.work / "d")
    os.symlink(scene.vault, scene.work / "d")
    assert "Permission denied" in (save(replace(spec, attempt=2)).problem or "")
    assert scene.stored()
    (scene.vault / "f").rename(scene.vault / "g")
    assert "can't be written again: Permission denied" in (back().lost or "")
    assert os.listdir(scene.vault) == ["g"]


class Keys:
    """A bucket with one key, ``k/f``."""

    parallel = 1

    def list(self, prefix: str) -> Iterator[Entry]:
        yield Entry("k/f", 5, '"5d41402abc4b2a76b9719d911017c592"')

    def look_up(self, key: str) -> Entry | None:
        return next(self.list(key))

    def get_version(self, entry: Entry, target: int, between: Callable[[], None]) -> str:
        os.write(target, b"hello")
        return entry.etag


def test_inputs_are_the_users_and_their_record_is_ours(scene: Scene) -> None:
    """A job could not change its inputs, or could make the daemon believe that it has them."""
    record = scene.vault.parent / "queue/inputs/j.json"

    def fetch(path: str) -> int:
        paths = (InputSpec("s3://bucket/k/", path),)
        wanted = InputsWanted(paths, str(scene.work), record, rights=NOBODY)
        return alone(lambda: fetch_inputs(lambda _: Keys(), wanted))

    assert (fetch("in/"), fetch("in/")) == (1, 0)
    for path, owner in ((scene.work / "in/f", 65534), (scene.work / "in", 65534), (record, 0)):
        assert path.stat().st_uid == owner
    os.symlink(scene.vault, scene.work / "away")
    for path in ("away/", str(scene.vault) + "/"):
        with pytest.raises(InputError, match="Permission denied"):
            fetch(path)
    scene.untouched()


def test_a_sync_and_a_search_do_without_what_the_user_cannot_reach(scene: Scene) -> None:
    """Root would search its own folders for a job, and tell it what there is."""
    scene.vault.chmod(0o700)
    alone(lambda: sync_for(str(scene.vault), [f"{scene.vault}/*"], NOBODY))
    found = alone(lambda: collect([f"{scene.vault}/*"], str(scene.work), rights=NOBODY))
    assert found.files == () and "can't be read: Permission denied" in found.problems[0]
    mine = scene.write("mine")
    (file,) = alone(lambda: collect(["mine"], str(scene.work), rights=NOBODY)).files
    mine.chmod(0o000)
    with pytest.raises(SourceError, match="Permission denied"):
        alone(lambda: file.source.open().__enter__())
