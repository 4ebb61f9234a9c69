"""Where a stored file belongs here: only where the job's own patterns would find it."""

from __future__ import annotations

import pytest

from runner.results.download.places import Places, relative_to
from runner.results.manifest import FileEntry

SHA = "0" * 64


def place(
    *patterns: str, source: str, relative: str | None = None, name: str = "f", wd: str = "/new"
) -> str | None:
    entry = FileEntry(f"jobs/j/{name}", name, 1, SHA, 0, 0o644, source, 1, relative)
    found = Places(patterns, wd).of(entry)
    return found and found.path


@pytest.mark.parametrize(
    ("pattern", "relative", "wanted"),
    [
        ("ck/step", "ck/step", "/new/ck/step"),
        ("ck/*.pt", "ck/1.pt", "/new/ck/1.pt"),
        ("ck/**", "ck/a/b/1.pt", "/new/ck/a/b/1.pt"),
        ("ck", "ck/a/b", "/new/ck/a/b"),
        ("**/best", "runs/7/best", "/new/runs/7/best"),
        ("*", "a", "/new/a"),
        ("./ck//step", "ck/step", "/new/ck/step"),
        ("ck/*.pt", "ck/1.txt", None),
        ("ck/*.pt", "1.pt", None),
        ("ck/step", "ck/steps", None),
        ("**", "../up", None),
        ("**", "a/../../up", None),
        ("**", "/etc/passwd", None),
        ("**", "", None),
        ("**", "a//b", None),
        ("**", "%2E%2E/up", None),
        ("**", "a%00b", None),
    ],
)
def test_what_a_relative_pattern_matched_belongs_below_the_working_directory_here(
    pattern: str, relative: str, wanted: str | None
) -> None:
    """A job would go on from nothing, and its files be where the machine before had them."""
    assert place(pattern, source="/elsewhere/entirely", relative=relative) == wanted


@pytest.mark.parametrize(
    ("pattern", "source", "wanted"),
    [
        ("/data/out/*", "/data/out/f", "/data/out/f"),
        ("/data/out", "/data/out/a/f", "/data/out/a/f"),
        ("/data/*/f", "/data/x/f", "/data/x/f"),
        ("/data/out/*", "/root/.ssh/authorized_keys", None),
        ("/data/out/*", "/data/out/../../etc/passwd", None),
        ("/data/out/*", "/data/out", None),
        ("/data/out/*", "data/out/f", None),
        ("out/**", "/home/job/.ssh/authorized_keys", None),
        ("out/**", "/etc/cron.d/x", None),
        ("out/**", "/new/out/f", "/new/out/f"),
    ],
)
def test_a_source_counts_where_a_pattern_finds_it(
    pattern: str, source: str, wanted: str | None
) -> None:
    """Who may write to a bucket would have files written anywhere that a job's user may."""
    assert place(pattern, source=source) == wanted


@pytest.mark.parametrize(
    ("pattern", "name", "source", "wanted"),
    [
        ("ck/step", "checkpoint/1-2/step", "/old/ck/step", "/new/ck/step"),
        ("ck/**", "checkpoint/1-2/a/b", "/old/ck/a/b", "/new/ck/a/b"),
        ("**/best", "runs/best", "/old/runs/best", "/new/runs/best"),
        ("out/*", "f", "/old/out/f", "/new/out/f"),
        ("out/*", "f", "/old/in/f", None),
        ("out/*", "../f", "/old/out/../f", None),
        ("**", "_abs/old/f", "/old/f", None),
    ],
)
def test_a_manifest_of_an_older_version_tells_by_its_names(
    pattern: str, name: str, source: str, wanted: str | None
) -> None:
    """What was stored before an upgrade would be lost to the machine after it."""
    assert place(pattern, source=source, name=name) == wanted


def test_the_first_pattern_that_fits_takes_it_and_an_impossible_one_is_no_bar() -> None:
    """A pattern that can't be read would end the restore of all others."""
    patterns = ("", "a\0b", "/", "no/*", "out/**", "**")
    assert place(*patterns, source="/old/out/f", relative="out/f") == "/new/out/f"


def test_how_a_place_is_told() -> None:
    """A file outside of the working directory would be looked for in it."""
    assert relative_to("/w/a/b", "/w") == relative_to("/w/a/b", "/w/") == "a/b"
    assert relative_to("/w/a\udcff", "/w") == "a%FF"
    for path in ("/w", "/wa/b", "/x/b", "/w/../b"):
        assert relative_to(path, "/w") is None
