"""Answers through a narrow pipe: they fit, nothing is lost unsaid, and rubbish is told as such."""

from __future__ import annotations

import base64
import gzip
import json
import random
from typing import Any

import pytest

from runner.control.protocol import encode_request
from runner.control.ssm_codec import LIMIT, MOST, fit, pack, pack_request, unpack, unpack_request
from runner.errors import UnreachableError, UsageError

ROWS: list[dict[str, Any]] = [
    {"job_id": "a", "status": "completed", "attempt": 1, "exit_code": 0, "results_uploaded": True},
    {"job_id": "b", "status": "failed", "attempt": 3, "signal": "SIGKILL", "timed_out": True},
    {"job_id": "c", "status": "pending", "attempt": 0, "reason": "ümläut \x1b[2J \udcff"},
]


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS, ROWS * 3])
def test_rows_come_out_as_they_went_in(rows: list[dict[str, Any]]) -> None:
    """A job would get another's exit code, or one it never had."""
    assert unpack(pack({"queue": {"queue_id": "q"}, "jobs": rows})) == {
        "queue": {"queue_id": "q"},
        "jobs": rows,
    }


def test_true_and_one_stay_apart() -> None:
    """`attempt: 1` would become `true` where all others are true."""
    rows = [{"x": True, "y": 0}, {"x": 1, "y": False}]
    found = unpack(pack({"jobs": rows}))["jobs"]
    assert [(type(row["x"]), type(row["y"])) for row in found] == [(bool, int), (int, bool)]


def test_a_request_is_one_word_that_no_shell_reads() -> None:
    """A job's name could become a command of root's."""
    word = pack_request("cancel", queue="q", jobs=["$(reboot)", "a'; b", "日本"])
    assert word.isascii() and set(word) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
    )
    assert word.startswith("eyJ"), "our documents ask for that: it can't be a flag"
    assert unpack_request(word)["jobs"] == ["$(reboot)", "a'; b", "日本"]


def test_a_request_that_is_too_long_is_refused_here() -> None:
    """SSM would refuse it, with words that nobody understands."""
    with pytest.raises(UsageError, match="name fewer jobs"):
        pack_request("cancel", jobs=[f"job-{number}" for number in range(2000)])


@pytest.mark.parametrize("word", ["", "!", "eyJ", "bm90IGpzb24=", "W10=", "--limit=3"])
def test_rubbish_is_no_request(word: str) -> None:
    """It would end with a traceback, as root."""
    with pytest.raises(UsageError):
        unpack_request(word)


@pytest.mark.parametrize("cut", [0, 1, 20, -1, -8])
def test_an_answer_that_was_cut_is_told_as_such(cut: int) -> None:
    """Half a status would be shown as the whole, or as a traceback."""
    word = pack({"queue": {"queue_id": "q"}, "jobs": ROWS})
    with pytest.raises(UnreachableError, match="cut short"):
        unpack(word[:cut])


def test_other_words_are_no_answer() -> None:
    """A shell's message would be taken apart."""
    for word in ("sh: 1: runner: not found", base64.b64encode(b"[]").decode(), pack({})[:-9]):
        with pytest.raises(UnreachableError):
            unpack(word)


@pytest.mark.parametrize("noise", [b"all the same\n", None])
def test_a_log_that_is_too_long_says_where_it_goes_on(noise: bytes | None) -> None:
    """Bytes would be lost between two pieces."""
    data = noise * 20_000 if noise else random.Random(5).randbytes(200_000)
    shown, begin = b"", 1000
    while len(shown) < len(data):
        piece = data[len(shown) : len(shown) + 256 * 1024]
        answer = {
            "data": base64.b64encode(piece).decode(),
            "offset": begin + len(shown) + len(piece),
            "size": begin + len(data),
        }
        word = fit(answer, LIMIT)
        assert len(word) <= LIMIT
        found = unpack(word)
        got = base64.b64decode(found["data"])
        assert got
        shown += got
        assert found["offset"] == begin + len(shown)
    assert shown == data


def test_of_two_logs_neither_keeps_the_other_from_coming() -> None:
    """A job that fills stdout would hide what it says on stderr."""
    noise = random.Random(6).randbytes(200_000)
    pieces = {
        "stdout": {"data": base64.b64encode(noise).decode(), "offset": 200_000, "size": 200_000},
        "stderr": {"data": base64.b64encode(b"why\n").decode(), "offset": 7, "size": 7},
    }
    found = unpack(fit({"attempt": 1, "streams": pieces}, LIMIT))
    assert found["attempt"] == 1 and found["streams"]["stderr"] == pieces["stderr"]
    got = base64.b64decode(found["streams"]["stdout"]["data"])
    assert 10_000 < len(got) == found["streams"]["stdout"]["offset"] and noise.startswith(got)


def test_of_a_long_story_the_end_is_kept() -> None:
    """What happened last is what people look for."""
    rng = random.Random(7)
    story = [{"event": "x", "wall": rng.random(), "n": n} for n in range(5000)]
    found = unpack(fit({"job": {"job_id": "a"}, "story": story}, 3000))
    assert found["truncated"] is True
    assert found["story"][-1]["n"] == 4999 and 10 < len(found["story"]) < 5000
    whole = unpack(fit({"job": {}, "story": story[:3]}, 3000))
    assert whole["story"] == story[:3] and "truncated" not in whole


def test_texts_that_alone_are_too_long_are_cut() -> None:
    """Nothing at all would be shown of a job whose error is a novel."""
    novel = random.Random(3).randbytes(40_000).hex()
    word = fit({"ok": False, "error": {"message": novel, "exit_code": 1}}, 2000)
    found = unpack(word)
    assert len(word) <= 2000 and found["truncated"]
    assert found["error"]["message"].startswith(novel[:100])


def test_no_field_of_a_request_is_mistaken_for_one_of_ours() -> None:
    """A request with a field called "self" would be an internal error."""
    odd = {"self": 1, "v": 7, "request": "stop", "queue": "q"}
    line = encode_request("status", **odd)
    assert json.loads(line) == {"v": 1, "request": "status", "self": 1, "queue": "q"}
    assert unpack_request(pack_request("status", **odd)) == json.loads(line)


def test_a_word_that_unpacks_to_far_too_much_is_none() -> None:
    """A few thousand characters would take all memory of whoever asked."""
    bomb = base64.b64encode(gzip.compress(bytes(MOST + 1))).decode()
    rows = pack({"jobs": []})
    packed = {"ok": True, "jobs": {"rows": 10**9, "columns": {}}}
    many = base64.b64encode(gzip.compress(json.dumps(packed).encode())).decode()
    for word in (bomb, many, rows[:-8]):
        with pytest.raises(UnreachableError, match="is not a runner"):
            unpack(word)
