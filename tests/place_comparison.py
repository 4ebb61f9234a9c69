"""What a queue came to, wherever it ran: state, exit code, files; without what may differ."""

from __future__ import annotations

import json
from typing import Any

from s3_endpoint import Endpoint

TOLD = (
    "status",
    "attempt",
    "exit_code",
    "signal",
    "timed_out",
    "error_message",
    "reason",
    "interruptions",
    "results_uploaded",
    "logs_uploaded",
    "result_error",
)
"""Of a job. Times, durations, process ids and usage differ by their nature."""

FILE = ("name", "size", "sha256", "mode", "attempt", "relative", "output")
"""Of an entry of a manifest."""


def outcome(state: dict[str, Any], exit_code: int, stored: dict[str, bytes]) -> dict[str, Any]:
    """``state``: queue-state.json; ``stored``: what is below the queue's prefix in its store."""
    jobs = {each["job_id"]: _job(each) for each in state["jobs"]}
    return {
        "exit": exit_code,
        "queue": (state["status"], state.get("reason")),
        "jobs": jobs,
        "files": _files(stored),
        "manifests": _manifests(stored),
    }


def _job(told: dict[str, Any]) -> dict[str, Any]:
    kept = {name: told.get(name) for name in TOLD}
    if (error := kept["result_error"]) is not None:
        kept["result_error"] = error.rpartition("/")[2]  # it may name a folder
    return kept


def _files(stored: dict[str, bytes]) -> dict[str, bytes]:
    """Results and logs; what a driver and its containers tell each other is no part of them."""
    return {
        key: data
        for key, data in stored.items()
        if key.startswith("jobs/") and not key.endswith(".json") and ".parts/" not in key
    }


def _manifests(stored: dict[str, bytes]) -> dict[str, Any]:
    found = {}
    for key, data in stored.items():
        if key.endswith("/manifest.json") and "/checkpoint/" not in key:
            told = json.loads(data)
            files = [{name: file.get(name) for name in FILE} for file in told["files"]]
            found[key] = (
                told["attempt"],
                told["completed"],
                sorted(files, key=lambda each: each["name"]),
                len(told.get("missing", ())),
            )
    return found


def stored_below(endpoint: Endpoint, bucket: str, prefix: str) -> dict[str, bytes]:
    """Every object below a prefix, by its key there."""
    keys = endpoint.keys(bucket, f"{prefix}/")
    return {key.removeprefix(f"{prefix}/"): endpoint.read(bucket, key) for key in keys}
