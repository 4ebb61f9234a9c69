"""The archive that is sent with calls to containers, run by a Python that has nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cloudpickle

from runner.api.payload import CALL, ERROR, RESULT, header_of, pickled, read_payload, write_payload
from runner.api.worker_archive import code_archive, worker_archive


def run(folder: Path, function: object, *args: object) -> subprocess.CompletedProcess[str]:
    """A call in a folder of its own, without what this environment has installed."""
    place = folder / ".runner"
    place.mkdir(exist_ok=True)
    (place / "worker.zip").write_bytes(worker_archive().data)
    body = pickled((function, args, {}))
    write_payload(place / "call", CALL, body)
    sha256 = header_of(CALL, body).sha256
    words = [".runner/worker.zip", "runner.api.worker", f"{sha256} .runner/call"]
    return subprocess.run(
        [sys.executable, "-I", "-S", *words], cwd=folder, capture_output=True, text=True
    )


def test_it_needs_the_same_python_and_nothing_else(tmp_path: Path) -> None:
    """Every image would have to have runner, cloudpickle, and what they import."""
    mine = {"x": 3}

    def call(y: int) -> tuple[int, str]:
        import cloudpickle

        return mine["x"] * y, cloudpickle.__version__

    ended = run(tmp_path, call, 14)
    assert (ended.returncode, ended.stderr) == (0, "")
    value = read_payload(tmp_path / ".runner/call.result.1", (RESULT,)).load()
    assert value == (42, cloudpickle.__version__)


def test_code_beside_the_call_is_imported(tmp_path: Path) -> None:
    """`code=` would be for this machine only."""
    source = tmp_path / "source" / "own"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("from pathlib import Path\nHERE = Path(__file__).parent\n")
    (source / "data.txt").write_text("data")

    def call() -> str:
        import own

        return str((own.HERE / "data.txt").read_text())

    archive = code_archive(tmp_path / "source")
    (tmp_path / ".runner").mkdir()
    (tmp_path / ".runner" / archive.name).write_bytes(archive.data)
    ended = run(tmp_path, call)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert read_payload(tmp_path / ".runner/call.result.1", (RESULT,)).load() == "data"


def test_an_exception_and_a_call_of_another_python_are_told(tmp_path: Path) -> None:
    """The one would be lost, the other crash the interpreter."""
    ended = run(tmp_path, divmod, 1, 0)
    assert ended.returncode == 1 and "ZeroDivisionError" in ended.stderr
    read_payload(tmp_path / ".runner/call.result.1", (ERROR,))
    call = tmp_path / ".runner/call"
    whole = call.read_bytes().replace(b'"cpython-311"', b'"cpython-399"', 1)
    if sys.version_info[:2] != (3, 11):
        whole = call.read_bytes().replace(b'"cpython-3', b'"cpython-9', 1)
    call.write_bytes(whole)
    words = [".runner/worker.zip", "runner.api.worker", " .runner/call"]
    ended = subprocess.run(
        [sys.executable, "-I", "-S", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 3 and "the same version of Python is needed" in ended.stderr
    assert (tmp_path / ".runner/call.result.1.refused").read_text() in ended.stderr


def test_the_same_files_make_the_same_archive(tmp_path: Path) -> None:
    """Each session would store it anew."""
    (tmp_path / "b.py").write_text("b = 1\n")
    (tmp_path / "a.py").write_text("a = 1\n")
    first = code_archive(tmp_path)
    (tmp_path / "a.py").touch()
    assert code_archive(tmp_path) == first and first.name.startswith("code-")
