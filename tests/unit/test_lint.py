"""What `validate` warns of: a document that is allowed, and hardly means what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.model.document import QueueSpec, parse_document
from runner.model.lint import warnings
from runner.service.document_warnings import local_paths, missing_folders

JOB: dict[str, Any] = {"job_id": "a", "command": "true", "timeout": "1m"}


def queue(*jobs: dict[str, Any], **fields: Any) -> QueueSpec:
    document = {"queue_name": "n", "global_timeout": "1h", "on_failure": "stop", **fields}
    document["jobs"] = [{**JOB, "job_id": f"j{n}", **job} for n, job in enumerate(jobs)]
    return parse_document(json.dumps(document).encode())


def found(**job: Any) -> str:
    return "\n".join(warnings(queue(job)))


@pytest.mark.parametrize(
    ("job", "told"),
    [
        ({"env": {"PATH": "/opt/x:$PATH"}}, "env.PATH: holds $PATH, and values are taken"),
        ({"env": {"DATA": "${HOME}/data"}}, "env.DATA: holds $HOME"),
        ({"env": {"FLAGS": "-v $FLAGS"}}, "env.FLAGS: holds $FLAGS"),
        ({"env": {"PATH": "~/bin:/bin"}}, "env.PATH: holds ~"),
        ({"command": " \n\t\n"}, "command: does nothing"),
        ({"command": "# to be done\n  # later"}, "command: does nothing"),
        ({"command": "echo a\r\n"}, "line ends of Windows"),
        ({"command": "#!/usr/bin/python3\nprint(1)"}, 'begins with "#!/usr/bin/python3", but bash'),
        ({"command": "cd x\nmake"}, "has several lines"),
        ({"command": "set -x\nmake\ntrue"}, "has several lines"),
        ({"command": "make | tee log"}, "has a pipe"),
        ({"command": "set -e\nmake | tee log"}, "has a pipe"),
        ({"working_directory": "~/x"}, 'working_directory: "~/x" is taken as it stands'),
        (
            {"input_paths": [{"s3": "s3://bkt/k", "path": "$HOME/k"}]},
            'input_paths[0].path: "$HOME/k" is taken as it stands',
        ),
        ({"working_directory": "/data/$USER"}, "$ isn't filled in"),
        ({"timeout": "2h"}, "timeout: 2h0m0s is longer than the whole queue may take"),
        ({"retry": {"max_attempts": 2, "dont_retry_on_codes": [2]}}, "timeouts and signals are"),
        ({"retry": {"max_attempts": 2, "retry_on_codes": [75]}}, "timeouts and signals are"),
        ({"result_paths": ["x/m.json", "y/m.json"]}, '"x/m.json" and "y/m.json" have one name'),
    ],
)
def test_what_hardly_means_what_it_says_is_told(job: dict[str, Any], told: str) -> None:
    """A night's work would go by before anybody sees that it was empty, or half."""
    text = found(**job)
    assert f"jobs[0].{told}" in text or told in text
    assert text.startswith("jobs[0].") and text.endswith('(job "j0")') and "\n" not in text


@pytest.mark.parametrize(
    "job",
    [
        {"command": "#!/bin/bash\nset -euo pipefail\na\nb | c\n"},
        {"command": "#!/usr/bin/env bash\nexec x"},
        {"command": "set -eo pipefail; a | b"},
        {"command": "set -e -o pipefail\na | b\nc"},
        {"command": "set -o errexit\na\nb"},
        {"command": "python3 - <<'EOF'\nprint(1)\nprint(2 | 4)\nEOF\n"},
        {"command": "python train.py \\\n  --lr 0.1 \\\n  --out 'a | b'\n"},
        {"command": "a &&\n  b ||\n  c"},
        {"command": "a || b; [[ $x == 'a|b' ]]"},
        {"command": "case $x in a|b) c;; esac"},
        {"command": 'echo "a | b" # a | b'},
        {"env": {"PASSWORD": "pa$$word$1", "PATH": "/opt/bin:/bin"}},
        {"result_paths": ["x/*.json", "y/*.json", "m.json"]},
        {"retry": {"max_attempts": 1, "retry_on_codes": [75]}},
    ],
)
def test_what_is_in_order_is_not_warned_of(job: dict[str, Any]) -> None:
    """Warnings that are wrong are not read any more."""
    assert found(**job) == ""


def test_many_jobs_with_one_flaw_are_one_line() -> None:
    """Five hundred lines of the same would hide the one that matters."""
    many = warnings(queue(*[{"command": "a\nb"}] * 13, {"timeout": "3h"}))
    assert [line.rpartition("(")[2] for line in many] == ['job "j0" and 12 more)', 'job "j13")']
    assert warnings(queue({}, env={"PATH": "$PATH:/x"}))[0].startswith("env.PATH: holds $PATH")


def test_a_value_of_the_environment_is_never_shown() -> None:
    """A secret would be in a log of CI."""
    text = found(env={"URL": "https://ann:s3cret@$HOME/$URL"})
    assert "env.URL" in text and "s3cret" not in text


def test_a_working_directory_that_is_not_here_is_told(tmp_path: Path) -> None:
    """A queue would fail at its first job, after an hour in the line."""
    jobs = [{"working_directory": str(tmp_path)}, {"working_directory": str(tmp_path / "no")}]
    (line,) = missing_folders(queue(*jobs, {"working_directory": "relative"}))
    assert line.startswith("jobs[1].working_directory: ") and "does not exist" in line


def test_what_is_only_on_this_computer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine would be launched for a Python that it does not have."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "venv/bin").mkdir(parents=True)
    here = f"{tmp_path}/venv/bin"
    lines = local_paths(
        queue(
            {"env": {"PATH": f"{here}:/usr/bin"}},
            {"env": {"PATH": f"{here}:/usr/bin"}},
            {"working_directory": here},
            {"env": {"PATH": f"/usr/bin:{tmp_path}/none"}, "working_directory": "/opt"},
        )
    )
    assert [line.split(":")[0] for line in lines] == [
        "jobs[2].working_directory",
        "jobs[0].env.PATH",
    ]
    assert lines[1].endswith('(job "j0" and 1 more)') and str(tmp_path) not in lines[1]


def test_results_that_another_job_clears_are_told() -> None:
    """A job would move aside what the job before it has made, and the next one find nothing."""
    clear = {"path": "out/**/*.txt", "fresh": "clear"}
    first = {"result_paths": ["out/in/a.txt"], "output_paths": ["./x/../out/b.txt"]}
    other = {"result_paths": ["out/c"]}
    (told,) = warnings(queue(first, {"result_paths": ["o.txt", clear]}, other))
    assert told.startswith('jobs[1].result_paths[1]: "out/**/*.txt" moves aside files of job "j0"')
    mine = {"path": "*.txt", "fresh": "clear"}
    apart = [{"working_directory": name, "output_paths": [mine]} for name in "ab"]
    assert warnings(queue(*apart)) == []
    both = [{"result_paths": [mine]}, {"result_paths": ["*.txt"]}] * 2
    assert 'of job "j1", too, and of 2 more' in warnings(queue(*both))[0]
