"""Key names: what a result is called, whatever its file is called."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.results.escape import escape, escape_name, shown, unescape
from runner.results.layout import (
    MAX_NAME_BYTES,
    MAX_PART_BYTES,
    Layout,
    assign_names,
    folders_of,
)
from runner.results.patterns import Matcher, PatternError, parse

ODD_PARTS = [
    b"..a",
    b"...",
    b"-rf",
    b"a\nb",
    b"a\rb",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"%",
    b"%41",
    b"%%41",
    b"%2E",
    b".runner-tmp-1-1",
    b"\xc3\xa9t\xc3\xa9",
    b"\xef\xbf\xbf",
    b"a",
    b"b",
    b"stdout.log",
    b"manifest.json",
    b"attempts",
    b"_abs",
    b"sha256",
    b"x" * 255,
    b"\xff" * 200,
]
PART = st.sampled_from(ODD_PARTS) | st.binary(min_size=1, max_size=12).filter(
    lambda part: b"/" not in part and b"\0" not in part and part not in (b".", b"..")
)
PATHS = st.lists(PART, min_size=1, max_size=6).map(b"/".join).map(os.fsdecode)


@given(PATHS)
def test_escape_is_reversible(path: str) -> None:
    """Two files would share a key, or a download would write under another name."""
    assert unescape(escape(path)) == path
    assert unescape(escape_name(path)) == path
    escape_name(path).encode()


@pytest.mark.parametrize("name", ["a.pt", "..a", "...", "-rf", "a b", "été", "100%", "%zz", "%4g"])
def test_ordinary_names_stay(name: str) -> None:
    """Keys would be harder to read than they need to be."""
    assert escape_name(name) == name


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b"\xff", "%FF"),
        (b"%41", "%2541"),
        (b"a\x01", "a%01"),
        (b"..", "%2E%2E"),
        (b".runner-tmp-1-1", "%2Erunner-tmp-1-1"),
    ],
)
def test_what_no_key_can_hold_is_escaped(raw: bytes, key: str) -> None:
    """S3 would refuse the key, or a store take it for a folder or a temporary of its own."""
    assert escape_name(os.fsdecode(raw)) == key


def test_messages_are_printable() -> None:
    """A message with a surrogate or a newline would break the state, the log or the terminal."""
    assert shown(os.fsdecode(b"/a\n\xff")) == "'/a\\n%FF'"
    assert shown("\ud800") == "'\\ud800'"


@pytest.mark.parametrize(
    ("fixed", "path", "name"),
    [
        ("/tmp/models", "/tmp/models/a.pt", "a.pt"),
        ("/logs", "/logs/x/y.log", "x/y.log"),
        ("/tmp", "/tmp/models/a.pt", "models/a.pt"),
        ("/", "/a.pt", "a.pt"),
        ("/t", "/t/stdout.log", "_abs/t/stdout.log"),
        ("/t", "/t/stderr.log", "_abs/t/stderr.log"),
        ("/t", "/t/manifest.json", "_abs/t/manifest.json"),
        ("/t", "/t/attempts/1/stdout.log", "_abs/t/attempts/1/stdout.log"),
        ("/t", "/t/attempts", "_abs/t/attempts"),
        ("/t", "/t/_abs/x", "_abs/t/_abs/x"),
        ("/t", "/t/stdout.log/x", "_abs/t/stdout.log/x"),
        ("/t", "/t/x/stdout.log", "x/stdout.log"),
    ],
)
def test_name_is_the_path_below_the_fixed_part(fixed: str, path: str, name: str) -> None:
    """Results wouldn't be where the guide says, or would overwrite a log or the manifest."""
    assert assign_names([(fixed, path, None)]) == [name]


def test_the_later_of_two_files_keeps_its_whole_path() -> None:
    """One of two results with the same name would be lost."""
    files = [("/a", "/a/m.pt", None), ("/b", "/b/m.pt", None), ("/c", "/c/m.pt", None)]
    assert assign_names(files) == ["m.pt", "_abs/b/m.pt", "_abs/c/m.pt"]


@pytest.mark.parametrize("top", ["/home/me/p", "/var/lib/runner/queues/q/work"])
def test_names_dont_depend_on_where_the_job_works(top: str) -> None:
    """A result would have one key on a laptop and another on EC2."""
    near = [
        *("train/m.json", "test/m.json", "m.json", "stdout.log", "attempts/x", "_rel/m.json"),
        *("../m.json", "../../o/m.json", "é" * 400),
    ]
    files = [
        (os.path.dirname(path), path, each)
        for each in near
        for path in [os.path.normpath(f"{top}/{each}")]
    ]
    *names, hashed = assign_names(files)
    assert names == [
        *("m.json", "test/m.json", "_rel/m.json", "_rel/stdout.log", "x", "_rel/_rel/m.json"),
        *("_rel/_up/m.json", "_rel/_up/_up/o/m.json"),
    ]
    assert hashed == assign_names([("/", f"/elsewhere/{near[-1]}", near[-1])])[0]


def test_names_that_were_given_before_stay_theirs() -> None:
    """A file that is stored later would take the place of one that is there."""
    asked = [("/w", "/w/a", "a"), ("/w/x", "/w/x/b", "x/b")]
    assert assign_names(asked, given=["a/c", "b"]) == ["_rel/a", "x/b"]


def test_a_file_and_a_folder_of_one_name_dont_meet() -> None:
    """A folder store couldn't hold both `a` and `a/b`."""
    assert assign_names([("/x", "/x/a", None), ("/y", "/y/a/b", None)]) == ["a", "_abs/y/a/b"]
    assert assign_names([("/y", "/y/a/b", None), ("/x", "/x/a", None)]) == ["a/b", "_abs/x/a"]


@pytest.mark.parametrize("path", ["/t/" + "\udcff" * 100, "/t" + "/deep" * 200])
def test_a_name_too_long_for_a_key_becomes_a_hash(path: str) -> None:
    """S3 refuses keys over 1,024 bytes, and file systems names over 255."""
    (name,) = assign_names([("/t", path, None)])
    assert name.startswith("_abs/sha256/") and len(name) == len("_abs/sha256/") + 64


@given(st.lists(st.tuples(st.integers(0, 2), PATHS, st.booleans()), max_size=12))
def test_names_are_distinct_legal_and_inside(files: list[tuple[int, str, bool]]) -> None:
    """Some tree of files would overwrite itself in the store, or write outside its job."""
    asked = [
        (f"/{root}", f"/{root}/{path}", f"{root}/{path}" if near else None)
        for root, path, near in files
    ]
    names = assign_names(asked)
    folders = {folder for name in names for folder in folders_of(name)}
    assert len(set(names)) == len(names)
    assert not folders & set(names)
    for name, (fixed, path, near) in zip(names, asked, strict=True):
        parts = name.encode().split(b"/")
        assert len(name.encode()) <= MAX_NAME_BYTES
        assert all(0 < len(part) <= MAX_PART_BYTES for part in parts)
        assert not {b".", b".."} & set(parts)
        assert not any(part.startswith(b".runner-tmp-") for part in parts)
        if parts[0] == b"_rel":
            assert Layout().local_name(name) == f"_rel/{near}"
        elif parts[0] != b"_abs":
            assert Layout().local_name(name) in (path.removeprefix(fixed + "/"), near)
            assert not Layout().is_log(name) and name != "manifest.json"
        elif parts[1] != b"sha256":
            assert Layout().local_name(name) == "_abs" + path


def test_keys_of_a_job_are_below_its_prefix() -> None:
    """Removing one job's old results would miss some, or take another's."""
    layout = Layout()
    keys = [
        layout.stdout_key("j"),
        layout.stderr_key("j"),
        layout.attempt_log_key("j", 2, "stdout"),
        layout.manifest_key("j"),
        layout.file_key("j", "x/y"),
    ]
    assert keys == [
        "jobs/j/stdout.log",
        "jobs/j/stderr.log",
        "jobs/j/attempts/2/stdout.log",
        "jobs/j/manifest.json",
        "jobs/j/x/y",
    ]
    assert all(key.startswith(layout.job_prefix("j")) for key in keys)
    assert not layout.stdout_key("jj").startswith(layout.job_prefix("j"))
    assert (layout.document_key, layout.state_key) == ("queue.json", "queue-state.json")


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a//b", "%2E%2E/x", "a/..", "a%2Fb", "a%00", "", "a/./b", "..%2Fx"]
)
def test_a_download_never_leaves_its_folder(name: str) -> None:
    """A forged manifest could overwrite any file of whoever downloads it."""
    with pytest.raises(ValueError, match="not a name of a result"):
        Layout().local_name(name)


@pytest.mark.parametrize(
    ("text", "folder", "parts", "literal"),
    [
        ("/tmp/models/*.pt", "/tmp/models", ("*.pt",), False),
        ("/logs/**/*.log", "/logs", ("**", "*.log"), False),
        ("/tmp/models", "/tmp", ("models",), True),
        ("/tmp/models/", "/tmp", ("models",), True),
        ("/tmp/*/", "/tmp", ("*", "**"), False),
        ("out/m.pt", "/w[1]/out", ("m.pt",), True),
        ("*.pt", "/w[1]", ("*.pt",), False),
        (".", "/", ("w[1]",), True),
        ("//a/./b?", "/a", ("b?",), False),
        ("/a[b/c", "/a[b", ("c",), True),
        ("/a[!]/c", "/a[!]", ("c",), True),
        ("/a[]]/c", "/", ("a[]]", "c"), False),
        ("/[*]", "/", ("[*]",), False),
    ],
)
def test_a_pattern_has_a_fixed_part(
    text: str, folder: str, parts: tuple[str, ...], literal: bool
) -> None:
    """Results would be named by the wrong folder, or a working directory taken for a wildcard."""
    pattern = parse(text, "/w[1]")
    assert (pattern.folder, pattern.parts, pattern.literal) == (folder, parts, literal)


@pytest.mark.parametrize("text", ["", "/", "a\0b", "\ud800", "/a/*/../b"])
def test_a_pattern_without_meaning_is_told(text: str) -> None:
    """It would be a traceback in the middle of an upload, or collect a whole machine."""
    with pytest.raises(PatternError):
        parse(text, "/w")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.log", "a.log", True),
        ("*.log", ".log", True),
        ("*", ".hidden", True),
        ("*.log", "a.log/inside/x", True),
        ("*.log", "x/a.log", False),
        ("**/*.log", "a.log", True),
        ("**/*.log", "x/y/a.log", True),
        ("**/*.log", "a.txt", False),
        ("**", "x/y", True),
        ("*/**", "x", False),
        ("*/**", "x/y", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "ab", False),
        ("**/**/b", "b", True),
        ("a**b", "axb", True),
        ("a**b", "a/b", False),
        ("[ab]?", "bz", True),
        ("[!ab]?", "bz", False),
        ("*", "a\nb", True),
        ("*\udcff", "x\udcff", True),
        ("A*", "a", False),
    ],
)
def test_wildcards(pattern: str, path: str, matches: bool) -> None:
    """A pattern would take files that it doesn't mean, or miss some that it does."""
    matcher = Matcher(tuple(pattern.split("/")))
    at = matcher.start()
    for name in path.split("/"):
        at = matcher.step(at, name)
    assert (matcher.end in at) == matches


def test_many_wildcards_dont_take_forever() -> None:
    """One hostile pattern would hold an upload thread for hours."""
    matcher = Matcher(("**", "*a") * 20)
    at = matcher.start()
    for _ in range(60):
        at = matcher.step(at, "a" * 200)
    assert matcher.end in at


def test_names_share_a_keys_bytes_with_prefix_and_job() -> None:
    """Names that fit alone would make keys that S3 refuses."""
    layout = Layout()
    assert layout.longest_name("j", 1024) == 640
    job = "j" * 128
    room = layout.longest_name(job, 1024 - 513)
    long = "/x/" + "/".join(["ä" * 100] * 3)
    for path in (long, "/x/" + "y" * 200, "/x/short"):
        (name,) = assign_names([("/x", path, None)], longest=room)
        key = layout.checkpoint_key(job, 10**10, 10**10, name)
        assert len(key) + 513 <= 1024
        assert len(layout.file_key(job, name).encode()) + 513 <= 1024
    assert assign_names([("/x", "/x/short", None)], longest=room) == ["short"]
    assert assign_names([("/x", long, None)], longest=room)[0].startswith("_abs/sha256/")
