"""What leaves the laptop with a work folder: git's rules all the way down, no links, no secrets."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.targets.ec2.launch.workdir_files import choose


@pytest.fixture(autouse=True)
def own_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


def git(folder: Path, *words: str) -> None:
    own = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    subprocess.run(["git", "-C", str(folder), *own, *words], check=True, capture_output=True)


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def commit(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-Af")
    git(folder, "commit", "-qm", "all")


def left(folder: Path) -> dict[str, str]:
    return {each.path: each.why for each in choose(folder).left_out}


# -- git's rules -----------------------------------------------------------------------------


def test_a_nested_repository_that_ignores_everything_ships_nothing(code: Path) -> None:
    """All that it keeps out of git would be shipped, for git lists nothing of it."""
    git(code, "init", "-q")
    write(code, {"a.py": "", "vendor/s/.gitignore": "*\n", "vendor/s/data.bin": "x"})
    git(code / "vendor/s", "init", "-q")
    assert set(choose(code).files) == {"a.py"}


def test_rules_of_every_kind_count_at_every_depth(code: Path, tmp_path: Path) -> None:
    """What a user keeps home by .git/info/exclude or core.excludesFile would be shipped."""
    write(
        tmp_path, {".gitconfig": "[core]\n\texcludesFile = ~/everywhere\n", "everywhere": "*.e\n"}
    )
    write(code, {"a.py": "", "x.e": "", "x.outer": "", ".git-is-not-this": ""})
    write(code, {f"in/{name}": "" for name in ("b.py", "x.e", "x.inner", "x.outer")})
    write(code, {f"in/in/{name}": "" for name in ("c.py", "x.e", "x.deep", "x.inner")})
    for folder, mine in ((code, "*.outer"), (code / "in", "*.inner"), (code / "in/in", "*.deep")):
        git(folder, "init", "-q")
        (folder / ".git/info/exclude").write_text(f"{mine}\n")
    found = set(choose(code).files)
    assert found == {
        *("a.py", ".git-is-not-this", "in/b.py", "in/x.outer", "in/in/c.py", "in/in/x.inner"),
    }


def test_submodules_go_along_by_their_own_rules(code: Path, tmp_path: Path) -> None:
    """The code would miss a part, or have what the submodule ignores."""
    lib = tmp_path / "lib"
    write(lib, {"lib.py": "", ".gitignore": "big\n"})
    commit(lib)
    write(code, {"a.py": ""})
    commit(code)
    git(code, "submodule", "add", "-q", str(lib), "lib")
    write(code, {"lib/big": "x", "lib/new.py": ""})
    assert set(choose(code).files) == {
        *("a.py", ".gitmodules", "lib/lib.py", "lib/.gitignore", "lib/new.py"),
    }
    git(code, "commit", "-qm", "with")
    git(tmp_path, "clone", "-q", str(code), "clone")
    write(tmp_path, {"clone/lib/stray": "x"})
    clone = choose(tmp_path / "clone")
    assert set(clone.files) == {"a.py", ".gitmodules"}
    (absent,) = clone.left_out
    assert (absent.path, absent.why) == ("lib", "a submodule that isn't checked out")


def test_a_submodule_that_became_a_link_is_a_link(code: Path, tmp_path: Path) -> None:
    """Another repository's names would be listed, and the link itself be told of nowhere."""
    lib = tmp_path / "lib"
    write(lib, {"lib.py": ""})
    commit(lib)
    write(code, {"a.py": ""})
    commit(code)
    git(code, "submodule", "add", "-q", str(lib), "lib")
    (code / "lib").rename(tmp_path / "moved")
    (code / "lib").symlink_to("../lib")
    assert set(choose(code).files) == {"a.py", ".gitmodules"}
    assert left(code) == {"lib": "a link to '../lib', outside of the folder"}


def test_repositories_in_a_plain_folder_go_by_their_rules(code: Path) -> None:
    """A folder of clones would be shipped with all that they ignore."""
    write(code, {"top.py": "", "one/a.py": "", "one/.gitignore": "big\n", "one/big": "x"})
    git(code / "one", "init", "-q")
    choice = choose(code)
    assert set(choice.files) == {"top.py", "one/a.py", "one/.gitignore"} and not choice.git


def test_a_part_of_a_repository_goes_by_the_whole_ones_rules(code: Path) -> None:
    """`--workdir src` would ship what the .gitignore above it keeps home."""
    write(code, {".gitignore": "*.bin\n", "src/a.py": "", "src/x.bin": ""})
    git(code, "init", "-q")
    assert set(choose(code / "src").files) == {"a.py"}


def test_variables_of_a_git_hook_name_another_repository(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch from a hook would go by the index of the hook's repository."""
    other = tmp_path / "other"
    write(other, {"other.py": ""})
    commit(other)
    write(code, {".gitignore": "*.bin\n", "a.py": "", "x.bin": ""})
    git(code, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert set(choose(code).files) == {"a.py", ".gitignore"}


def test_no_program_of_a_repository_is_run(code: Path, tmp_path: Path) -> None:
    """A repository that was downloaded would run its program on the laptop."""
    write(code, {"a.py": "", "hook": f"#!/bin/sh\ntouch {tmp_path}/ran\n"})
    (code / "hook").chmod(0o755)
    git(code, "init", "-q")
    git(code, "add", "-A")
    git(code, "config", "core.fsmonitor", str(code / "hook"))
    assert "a.py" in choose(code).files
    assert not (tmp_path / "ran").exists()


BROKEN = {"a file": "gitdir: /nowhere\n", "a folder": None}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=list(BROKEN))
@pytest.mark.parametrize("place", ["", "inner"])
def test_a_broken_repository_is_no_leave_to_ship_all(
    code: Path, place: str, broken: str | None
) -> None:
    """What its .gitignore keeps home would be shipped since git says that it is none."""
    write(code, {f"{place}/a.py": "", "b.py": ""})
    if broken is None:
        (code / place / ".git").mkdir()
    else:
        (code / place / ".git").write_text(broken)
    with pytest.raises(UsageError, match="git can't say what belongs to it"):
        choose(code)


def test_without_git_a_repository_is_not_guessed_at(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a laptop without git a clone would be shipped with all that it ignores."""
    write(code, {".gitignore": "*.bin\n", "src/x.bin": "", "src/a.py": ""})
    write(tmp_path, {"plain/a.py": ""})
    git(code, "init", "-q")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(choose(tmp_path / "plain").files) == {"a.py"}
    for folder in (code, code / "src"):
        with pytest.raises(UsageError, match=f"{code} is a git repository, .*install git"):
            choose(folder)


def test_a_folder_that_git_may_not_read_is_told(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git only warns: the code would miss a part, and nobody would know."""
    bin_ = tmp_path / "bin"
    warning = "warning: could not open directory 'x/': Permission denied"
    write(bin_, {"git": f"#!/bin/sh\necho \"{warning}\" >&2\nprintf 'a.py\\0'\n"})
    (bin_ / "git").chmod(0o755)
    write(code, {"a.py": ""})
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    with pytest.raises(UsageError, match="could not open directory 'x/'"):
        choose(code)


# -- links -----------------------------------------------------------------------------------


def test_a_tracked_folder_that_became_a_link_is_not_followed(code: Path, tmp_path: Path) -> None:
    """What is outside would be shipped, under the names that git remembers."""
    write(code, {"conf/key": "public", "a": ""})
    commit(code)
    write(tmp_path, {"outside/key": "SECRET"})
    (code / "conf/key").unlink()
    (code / "conf").rmdir()
    (code / "conf").symlink_to(tmp_path / "outside")
    assert set(choose(code).files) == {"a"}
    why = left(code)
    assert why["conf/key"] == "behind the link 'conf'"
    assert "another place on the machine" in why["conf"]


def test_a_link_goes_along_if_it_stays_inside(code: Path, tmp_path: Path) -> None:
    """A job would find a link that leads nowhere, or to another file than was meant."""
    write(tmp_path, {"outside/f": ""})
    write(code, {"a/b": "", "d/e/f": ""})
    for name, target in (
        ("inside", "a/b"), ("a/up", "../d/e"), ("dangling", "a/nothing"), ("loop", "loop"),
        ("out", "../outside/f"), ("d/out", "../../outside"), ("absolute", str(code / "a/b")),
        ("there-and-back", "../code/a/b"), ("two-steps", "out"),
    ):  # fmt: skip
        (code / name).symlink_to(target)
    inside = {"inside", "a/up", "dangling", "loop"}
    assert set(choose(code).files) == {"a/b", "d/e/f", *inside}
    assert set(left(code)) == {"out", "d/out", "absolute", "there-and-back", "two-steps"}


def test_a_folder_that_became_a_file_or_a_link_within(code: Path) -> None:
    """The machine could not lay it out: git tells the old names too."""
    write(code, {"one/f": "", "two/f": ""})
    commit(code)
    (code / "one").rename(code / "real")
    (code / "one").symlink_to("real")
    (code / "two/f").unlink()
    (code / "two").rmdir()
    (code / "two").write_text("now a file")
    assert set(choose(code).files) == {"one", "real/f", "two"}
    assert left(code) == {"one/f": "behind the link 'one'"}


# -- secrets, and what else stays ------------------------------------------------------------

SECRETS = (".env", ".aws/credentials", ".ssh/id_ed25519", ".netrc", "tls/server.key")


@pytest.mark.parametrize("in_git", [False, True])
def test_well_known_secrets_stay_and_are_named(code: Path, in_git: bool) -> None:
    """A password would be in the bucket; or a job miss a file that nobody was told of."""
    write(code, {"a.py": "", ".env.example": "KEY=", **dict.fromkeys(SECRETS, "secret")})
    if in_git:
        commit(code)
    assert set(choose(code).files) == {"a.py", ".env.example"}
    assert set(left(code)) == set(SECRETS)
    chosen = choose(code, ["tls/server.key", "./.env"])
    assert set(chosen.files) == {"a.py", ".env.example", "tls/server.key", ".env"}
    assert {each.path for each in chosen.left_out} == set(SECRETS) - {"tls/server.key", ".env"}


def test_what_git_ignores_can_be_included(code: Path) -> None:
    """A wheel that was built here could not be shipped but by adding it to git."""
    write(code, {"a.py": "", ".gitignore": "dist/\n", "dist/a.whl": "x", "dist/b.whl": "x"})
    git(code, "init", "-q")
    assert set(choose(code, ["dist/a.whl"]).files) == {"a.py", ".gitignore", "dist/a.whl"}


@pytest.mark.parametrize(
    ("given", "told"),
    [("nothing", "there is no such file"), ("sub", "is a folder: name its files"),
     ("../outside/f", "is no path below"), ("/etc/hostname", "is no path below"),
     (".", "is no path below"), ("", "is no path below"), ("link/f", "behind the link 'link'"),
     ("pipe", "neither a file nor a link"), ("a.py/x", "there is no such file")],
)  # fmt: skip
def test_what_cannot_be_included_is_refused(
    code: Path, tmp_path: Path, given: str, told: str
) -> None:
    """A mistyped name would be a job without its file; a link would ship what is outside."""
    write(tmp_path, {"outside/f": "SECRET", "code/a.py": "", "code/sub/b.py": ""})
    (code / "link").symlink_to("../outside")
    os.mkfifo(code / "pipe")
    with pytest.raises(UsageError, match=rf"^--include: '.*{told}"):
        choose(code, [given])


def test_a_link_can_be_included_as_a_link(code: Path) -> None:
    """A folder that the image has, and that the code reaches by a link, could not be reached."""
    write(code, {"a.py": ""})
    (code / "data").symlink_to("/mnt/data")
    assert left(code).keys() == {"data"}
    assert "data" in choose(code, ["data"]).files


def test_caches_and_pipes_are_named(code: Path) -> None:
    """Something would be missing, and nothing said so."""
    write(code, {"a.py": "", "node_modules/x/y.js": "", "src/__pycache__/a.pyc": ""})
    os.mkfifo(code / "pipe")
    assert set(choose(code).files) == {"a.py"}
    why = left(code)
    assert set(why) == {"node_modules/", "src/__pycache__/", "pipe"}
    assert why["pipe"] == "neither a file nor a link"


def test_a_path_that_is_too_long_for_the_machine_is_refused(code: Path) -> None:
    """The machine would be there, and could not lay the folder out."""
    folder = os.open(code, os.O_RDONLY)
    for _ in range(19):
        os.mkdir("d" * 200, dir_fd=folder)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    with pytest.raises(UsageError, match=r"is longer than 3,800 bytes: move it up"):
        choose(code)


def test_the_largest_come_first_and_sizes_are_told(code: Path) -> None:
    """`--dry-run` would tell nothing of what takes the time."""
    write(code, {"small": "x", "large": "x" * 100, "middle": "x" * 10})
    choice = choose(code)
    assert choice.size == 111 and choice.largest(2) == ["large", "middle"]
    assert list(choice.files) == sorted(choice.files)
