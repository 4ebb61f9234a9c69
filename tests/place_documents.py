"""Small queues, each about one rule: what they come to must not depend on where they run."""

from __future__ import annotations

from typing import Any

Job = dict[str, Any]


def job(name: str, command: str = "true", *after: str, **more: Any) -> Job:
    told: Job = {"job_id": name, "command": command, "timeout": "30s", **more}
    return {**told, "depends_on": list(after)} if after else told


def again(attempts: int, **more: Any) -> dict[str, Any]:
    return {"max_attempts": attempts, "base_delay": "1ms", "backoff": "fixed", **more}


def queue(*jobs: Job, **more: Any) -> dict[str, Any]:
    base = {"queue_name": "q", "global_timeout": "10m", "on_failure": "stop"}
    return {**base, "max_parallel_jobs": 8, **more, "jobs": list(jobs)}


GO_ON = {"on_failure": "continue"}

DOCUMENTS: dict[str, dict[str, Any]] = {
    "chain": queue(job("a"), job("b", "true", "a"), job("c", "true", "b")),
    "stop": queue(job("a", "exit 1"), job("b", "true", "a"), job("c", "true", "b")),
    "continue": queue(job("a", "exit 1"), job("b", "true", "a"), job("c"), **GO_ON),
    "on_failure": queue(job("a", "exit 2"), job("b", "true", "a", run_if="failure"), **GO_ON),
    "no_failure": queue(job("a"), job("b", "true", "a", run_if="failure"), **GO_ON),
    "always": queue(job("a", "exit 2"), job("b", "true", "a", run_if="always")),
    "skipped_behind": queue(
        job("a", "exit 2"),
        job("b", "true", "a"),
        job("c", "true", "b", run_if="failure"),
        **GO_ON,
    ),
    "second_try": queue(job("a", "exit $((JOB_ATTEMPT == 1))", retry=again(3))),
    "tries_used_up": queue(job("a", "exit $JOB_ATTEMPT", retry=again(2))),
    "retry_on_codes": queue(job("a", "exit 7", retry=again(3, retry_on_codes=[8]))),
    "dont_retry": queue(job("a", "exit 7", retry=again(3, dont_retry_on_codes=[7]))),
    "timeout": queue(job("a", "sleep 60", timeout="300ms")),
    "timeout_twice": queue(job("a", "sleep 60", timeout="300ms", retry=again(2))),
    "saves_and_exits_0": queue(
        job("a", "trap 'exit 0' TERM; sleep 60 & wait", timeout="500ms", term_grace="5s")
    ),
    "ignores_term": queue(
        job("a", "trap '' TERM; while :; do sleep 0.1; done", timeout="300ms", term_grace="300ms")
    ),
    "exit_137": queue(job("a", "exit 137")),
    "segfault": queue(job("a", "kill -SEGV $$")),
    "no_such_command": queue(job("a", "no-such-command-at-all")),
    "not_executable": queue(job("a", "/etc/passwd")),
    "no_such_folder": queue(job("a", working_directory="/no/such/folder", retry=again(3))),
    "environment": queue(
        job("a", 'echo "$A $B $C" > out', env={"B": "2", "C": "3"}, result_paths=["out"]),
        env={"A": "1", "B": "1"},
    ),
    "own_variables": queue(
        job("a", 'echo "$JOB_ID $JOB_ATTEMPT $QUEUE_ID" > out', result_paths=["out"])
    ),
    "stdout_and_stderr": queue(job("a", "echo out; echo err >&2; echo out again")),
    "no_last_newline": queue(job("a", "printf 'no newline'; printf '\\0\\377' >&2")),
    "results": queue(
        job(
            "a",
            "mkdir -p x/y; echo 1 > x/y/1.csv; echo 2 > x/2.csv; echo 3 > 3.txt; chmod 640 3.txt",
            result_paths=["x/**/*.csv", "3.txt"],
        )
    ),
    "results_missing": queue(job("a", "echo 1 > 1", result_paths=["1", "2"])),
    "results_optional": queue(
        job("a", "echo 1 > 1", result_paths=["1", {"path": "2", "optional": True}])
    ),
    "results_of_a_failure": queue(job("a", "echo 1 > 1; exit 1", result_paths=["1"])),
    "results_handed_on": queue(
        job("a", "echo 1 > a.txt", result_paths=["a.txt"]),
        job("b", "cat a.txt a.txt > b.txt", "a", result_paths=["b.txt"]),
        job("c", "cat a.txt b.txt", "b"),
    ),
    "outputs_handed_on": queue(
        job("a", "mkdir d; echo 1 > d/1", output_paths=["d/*"]),
        job("b", "cat d/1", "a"),
    ),
    "diamond": queue(
        job("top", "echo 7 > top", result_paths=["top"]),
        job("left", "cat top > left", "top", result_paths=["left"]),
        job("right", "cat top > right", "top", result_paths=["right"]),
        job("end", "cat left right > end", "left", "right", result_paths=["end"]),
    ),
    "odd_names": queue(job("a", "mkdir o; echo 1 > 'o/a b'; echo 2 > 'o/ü'", result_paths=["o/*"])),
    "link": queue(job("a", "echo 1 > real; ln -s real link", result_paths=["link"])),
    "array": queue(
        job(
            "x",
            "echo $RUNNER_ARRAY_INDEX > $RUNNER_ARRAY_INDEX.txt",
            array=3,
            result_paths=["{array_index}.txt"],
        ),
        job("y", "cat 0.txt 1.txt 2.txt", "x"),
    ),
    "array_with_a_failure": queue(
        job("x", "exit $((RUNNER_ARRAY_INDEX == 1))", array=3), job("y", "true", "x"), **GO_ON
    ),
    "array_retried": queue(
        job("x", "exit $((RUNNER_ARRAY_INDEX == 1 && JOB_ATTEMPT == 1))", array=3, retry=again(2))
    ),
    "element_to_element": queue(
        job(
            "x",
            "echo $RUNNER_ARRAY_INDEX > x$RUNNER_ARRAY_INDEX",
            array=2,
            output_paths=["x{array_index}"],
        ),
        job("y", "cat x$RUNNER_ARRAY_INDEX", "x[]", array=2),
    ),
    "global_timeout": queue(job("a", "sleep 60"), job("b", "true", "a"), global_timeout="20s"),
    "input_missing": queue(
        job(
            "a",
            "cat x",
            input_paths=[{"s3": "s3://BUCKET/no/such/key", "path": "x"}],
            retry=again(3),
        ),
        job("b", "true", "a", run_if="failure"),
        **GO_ON,
    ),
    "leftovers": queue(job("a", "sleep 60 & echo started")),
    "one_by_one": queue(job("a", "echo a"), job("b", "echo b"), max_parallel_jobs=1),
}
