"""Owns every key name: what a queue's and a job's files are called in a result store.

Pure text; must not know any store, and never looks at a file.

    queue.json                         the document
    queue.given.json                   as it was given, where it was written out
    queue-state.json                   the state
    lease.json                         which machine works on it now
    coordinator.json                   how it was launched on AWS Batch, and which job drives it
    journal/<run_id>/<number>.json.gz  the records that steps have changed, where no disk lasts
    added/<run_id>.jsonl               the jobs that were added while it ran, a line a job
    documents/<sha256>.json            a document as it was corrected, until a driver goes by it
    control/<id>.json                  a request to its driver, and <id>.answer.json its answer
    events/<run_id>/<holder>/<first>-<last>.jsonl
                                       what happened, a line an event; holder: who has stored it
    jobs/<job_id>/<file>               a result: its path below the fixed part of its pattern
    jobs/<job_id>/stdout.log           the newest attempt's, and stderr.log
    jobs/<job_id>/attempts/<n>/…       the other attempts'
    jobs/<job_id>/attempts/<n>/stdout.log.parts/<offset>
                                       what an attempt has written so far, until its upload
    jobs/<job_id>/_rel/<path>          a result whose own name is taken or reserved: its path from
                                       the working directory, with `_up` for each `..`
    jobs/<job_id>/_abs/<whole path>    the same, of one that isn't below the working directory
    jobs/<job_id>/_abs/sha256/<hex>    a result whose path is too long; the manifest has the path
    jobs/<job_id>/manifest.json        what is there; written last
    jobs/<job_id>/fingerprint.json.gz  what its last completed run depended on, and made
    jobs/<job_id>/checkpoint/<epoch>-<attempt>/<file>
                                       what an interrupted attempt had saved for the next
    jobs/<job_id>/checkpoint/manifest.json
                                       which of them make the newest checkpoint; written last

Of an array each element has what a job has, below jobs/<job_id>/<index>/.

On AWS Batch also, between a driver and the containers of its jobs (``runner.batch.records``):

    submissions/<token>.json           the intent of a submission, by the token of its first attempt
    work/<run_id>/<job_id>/…           what its commands store there by themselves
    jobs/<job_id>/attempts/<n>/<token>.claim.json
                                       whose the attempt is
    jobs/<job_id>/attempts/<n>/<token>.end.json
                                       how it ended, or why it is being ended
    jobs/<job_id>/attempts/<n>/<token>.stored.json
                                       what is stored of it
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Literal

from runner.model.elements import element_name, path_of
from runner.results.escape import escape_name, unescape

MAX_NAME_BYTES = 640
"""A name below a job's prefix, where the store's keys have room for so much."""

_CHECKPOINT_BYTES = len("checkpoint/") + 24
"""The folder of a checkpoint: epoch and attempt are numbers of up to 11 digits."""

MAX_PART_BYTES = 255
"""One part of a name: NAME_MAX of Linux file systems, so that a folder store can hold it."""

Stream = Literal["stdout", "stderr"]
STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")

_ABSOLUTE = "_abs"
_ATTEMPTS = "attempts"
_CHECKPOINT = "checkpoint"
_JOURNAL = re.compile(r"([0-9]{12})\.json\.gz")
_EVENTS = re.compile(r"[0-9]{12}-([0-9]{12})\.jsonl")
_LOGS = frozenset({"stdout.log", "stderr.log"})
_FINGERPRINT = "fingerprint.json.gz"
_MANIFEST = "manifest.json"
_PART = re.compile(r"([1-9][0-9]{0,8})/(stdout|stderr)\.log\.parts/([0-9]{20})")
_RECORD = re.compile(r"[1-9][0-9]{0,8}/([0-9a-z-]{1,64})\.(claim|end|stored)\.json")
_RELATIVE = "_rel"
_SUBMISSION = re.compile(r"submissions/([0-9a-z-]{1,64})\.json")
_UP = "_up"
_RESERVED = _LOGS | {_MANIFEST, _FINGERPRINT, _ATTEMPTS, _ABSOLUTE, _RELATIVE, _CHECKPOINT}


def element(job_id: str, index: int | None) -> str:
    """What a job's keys are made of: its id, of an array's element with its index."""
    return job_id if index is None else element_name(job_id, index)


Placed = tuple[str, str, str | None]
"""Of a file: the fixed part of its pattern and its path, both absolute, and its path from the job's
working directory, unless it is elsewhere."""


class Layout:
    """The keys of one queue, relative to the store's root. Keys never begin or end with `/`.

    Where a method takes a `job_id`, an array's element is told as `element` names it.
    """

    document_key = "queue.json"
    given_key = "queue.given.json"
    state_key = "queue-state.json"
    lease_key = "lease.json"
    coordinator_key = "coordinator.json"
    control_prefix = "control/"

    def corrected_key(self, digest: str) -> str:
        """A corrected document, by its content."""
        return f"documents/{digest}.json"

    def added_key(self, run_id: str) -> str:
        """The jobs that a run has got besides those of its document."""
        return f"added/{run_id}.jsonl"

    def former_state_key(self, run_id: str) -> str:
        """The state of a run that another one has taken the place of, where nothing is moved."""
        return f"runs/{run_id}/{self.state_key}"

    def control_request_key(self, request_id: str) -> str:
        """A request to the queue's driver."""
        return f"{self.control_prefix}{request_id}.json"

    def control_answer_key(self, request_id: str) -> str:
        """Its answer."""
        return f"{self.control_prefix}{request_id}.answer.json"

    def journal_prefix(self, run_id: str) -> str:
        """Below this are the parts of a run's journal; ends with `/`."""
        return f"journal/{run_id}/"

    def journal_key(self, run_id: str, number: int) -> str:
        """A part of it; keys sort by their numbers."""
        return f"{self.journal_prefix(run_id)}{number:012}.json.gz"

    def journal_part_of(self, key: str) -> int:
        """The number of a part's key; 0 for a key that isn't one's."""
        found = _JOURNAL.fullmatch(key.rpartition("/")[2])
        return int(found[1]) if found else 0

    def events_prefix(self, run_id: str, holder: str | None = None) -> str:
        """Below this is a run's story, or what one holder has stored of it; ends with `/`."""
        return f"events/{run_id}/{holder}/" if holder else f"events/{run_id}/"

    def events_key(self, run_id: str, holder: str, first: int, last: int) -> str:
        """A part of a story, by the numbers of its first and last event; keys sort by them."""
        return f"{self.events_prefix(run_id, holder)}{first:012}-{last:012}.jsonl"

    def last_event_of(self, key: str) -> int:
        """The number of a part's last event; 0 for a key that isn't one's."""
        found = _EVENTS.fullmatch(key.rpartition("/")[2])
        return int(found[1]) if found else 0

    submissions_prefix = "submissions/"

    def submission_key(self, token: str) -> str:
        """The intent of a submission, by the token of its first attempt."""
        return f"{self.submissions_prefix}{token}.json"

    def submission_of(self, key: str) -> str | None:
        """The token of an intent's key; None for a key that isn't one's."""
        found = _SUBMISSION.fullmatch(key)
        return found[1] if found else None

    def claim_key(self, job_id: str, attempt: int, token: str) -> str:
        """Whose one start of an attempt is; a start that was void leaves the number to another."""
        return self._record_key(job_id, attempt, token, "claim")

    def end_key(self, job_id: str, attempt: int, token: str) -> str:
        """How an attempt ended, or why it is being ended."""
        return self._record_key(job_id, attempt, token, "end")

    def stored_key(self, job_id: str, attempt: int, token: str) -> str:
        """What the containers of an attempt have stored of it."""
        return self._record_key(job_id, attempt, token, "stored")

    def _record_key(self, job_id: str, attempt: int, token: str, name: str) -> str:
        # With the token: a later run of the queue begins with attempt 1 again.
        return f"{self.attempts_prefix(job_id)}{attempt}/{token}.{name}.json"

    def exchange_prefix(self, job_id: str, run_id: str) -> str:
        """Below this is what a job's commands store by themselves in one run; ends with `/`."""
        return f"work/{run_id}/{path_of(job_id)}/"

    def record_token(self, job_id: str, key: str) -> str | None:
        """The token of a claim's, an end's or a stored one's key; None for what is none of them."""
        found = _RECORD.fullmatch(key.removeprefix(self.attempts_prefix(job_id)))
        return found[1] if found else None

    def job_prefix(self, job_id: str) -> str:
        """What all keys of a job begin with; ends with `/`, so that `a` isn't a prefix of `ab`."""
        return f"jobs/{path_of(job_id)}/"

    def stdout_key(self, job_id: str) -> str:
        """The newest attempt's stdout."""
        return f"{self.job_prefix(job_id)}stdout.log"

    def stderr_key(self, job_id: str) -> str:
        """The newest attempt's stderr."""
        return f"{self.job_prefix(job_id)}stderr.log"

    def attempt_log_key(self, job_id: str, attempt: int, stream: Stream) -> str:
        """A log of an attempt that isn't the newest."""
        return f"{self.job_prefix(job_id)}{_ATTEMPTS}/{attempt}/{stream}.log"

    def log_parts_prefix(self, job_id: str, attempt: int, stream: Stream) -> str:
        """Below this are the parts of a log that an attempt is writing; ends with `/`."""
        return f"{self.attempt_log_key(job_id, attempt, stream)}.parts/"

    def log_part_key(self, job_id: str, attempt: int, stream: Stream, offset: int) -> str:
        """The bytes from `offset` on, up to where the next part begins; keys sort by offset."""
        return f"{self.log_parts_prefix(job_id, attempt, stream)}{offset:020}"

    def log_part_offset(self, key: str) -> int:
        """The offset of a part's key. Raises ValueError if it isn't one."""
        return int(key.rpartition("/")[2])

    def attempts_prefix(self, job_id: str) -> str:
        """Below this are the other attempts' logs, and all parts of logs; ends with `/`."""
        return f"{self.job_prefix(job_id)}{_ATTEMPTS}/"

    def log_part_of(self, job_id: str, key: str) -> tuple[int, Stream, int] | None:
        """Attempt, stream and offset of a part's key below `attempts_prefix`; None for others."""
        found = _PART.fullmatch(key.removeprefix(self.attempts_prefix(job_id)))
        if found is None:
            return None
        return int(found[1]), "stdout" if found[2] == "stdout" else "stderr", int(found[3])

    def log_name(self, attempt: int, newest: int, stream: Stream) -> str:
        """The name, below the job's prefix, of the log of one attempt of so many."""
        return f"{stream}.log" if attempt == newest else f"{_ATTEMPTS}/{attempt}/{stream}.log"

    def manifest_key(self, job_id: str) -> str:
        """The list of what the job stored; nothing counts that it doesn't name."""
        return f"{self.job_prefix(job_id)}{_MANIFEST}"

    def fingerprint_key(self, job_id: str) -> str:
        """What the job's last completed run depended on, and made; it outlives that run."""
        return f"{self.job_prefix(job_id)}{_FINGERPRINT}"

    def file_key(self, job_id: str, name: str) -> str:
        """The key of a result; `name` is one of `assign_names`."""
        return f"{self.job_prefix(job_id)}{name}"

    def longest_name(self, job_id: str, key_bytes: int) -> int:
        """Bytes of a name below the job's prefix, in a store whose keys have up to `key_bytes`.

        A hashed name fits in any case: a queue's prefix has at most 512 bytes, and a job's 139.
        """
        room = key_bytes - len(self.job_prefix(job_id)) - _CHECKPOINT_BYTES
        return min(MAX_NAME_BYTES, room)

    def checkpoint_prefix(self, job_id: str) -> str:
        """Below this is what interrupted attempts have saved; ends with `/`."""
        return f"{self.job_prefix(job_id)}{_CHECKPOINT}/"

    def checkpoint_manifest_key(self, job_id: str) -> str:
        """The list of what makes the newest checkpoint."""
        return f"{self.checkpoint_prefix(job_id)}{_MANIFEST}"

    def checkpoint_key(self, job_id: str, epoch: int, attempt: int, name: str) -> str:
        """The key of a file that an attempt has saved: no other attempt, on whatever machine, has
        the same, so that nothing is stored over a part of an older checkpoint."""
        return f"{self.checkpoint_prefix(job_id)}{epoch}-{attempt}/{name}"

    def is_log(self, name: str) -> bool:
        """Whether a name below a job's prefix is a log's, and not a result's."""
        return name in _LOGS or name.startswith(f"{_ATTEMPTS}/")

    def stream_of(self, name: str) -> Stream | None:
        """Which log a file of that name is; None for a result."""
        if not self.is_log(name):
            return None
        return "stderr" if name.endswith("stderr.log") else "stdout"

    def local_name(self, name: str) -> str:
        """The relative path that a download of `name` is written to, with its odd bytes again.

        Raises ValueError for what no job of ours stores: a path that would leave its folder.
        """
        path = unescape(name)
        if path.count("/") != name.count("/") or "\0" in path:
            raise ValueError(f"not a name of a result: {name!r}")
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise ValueError(f"not a name of a result: {name!r}")
        return path


def assign_names(
    files: Iterable[Placed], given: Iterable[str] = (), longest: int = MAX_NAME_BYTES
) -> list[str]:
    """Names below a job's prefix, in the same order; each path lies below the fixed part.

    All names differ, none is reserved, and none is a folder of another: of two files that ask for
    one place the later gets its path from the working directory, or, where there is none, its whole
    path under `_abs/`, and what is longer than `longest` bytes a hash of it. The same job leaves
    the same names in any working directory. `given`: names that have been given away before.
    """
    taken = _Taken(longest)
    for name in given:
        taken.add(name)
    return [taken.take(_candidates(*file)) for file in files]


def _candidates(fixed: str, path: str, near: str | None) -> Iterator[str]:
    for name in (path[len(fixed) :].strip("/"), near or ""):
        if name and not name.startswith("../") and name.partition("/")[0] not in _RESERVED:
            yield escape_name(name)
    if near is None:
        yield f"{_ABSOLUTE}/{escape_name(path.strip('/'))}"
    else:
        parts = near.split("/")
        parents = list(takewhile("..".__eq__, parts))
        names = [_UP] * len(parents) + parts[len(parents) :]
        yield escape_name("/".join([_RELATIVE, *names]))
    for again in itertools.count():
        told = os.fsencode(path if near is None else near) + b"\0" * again
        yield f"{_ABSOLUTE}/sha256/{hashlib.sha256(told).hexdigest()}"


def _fits(name: str, longest: int) -> bool:
    if len(name) * 4 <= min(MAX_PART_BYTES, longest):
        return True
    raw = name.encode()
    return len(raw) <= longest and max(map(len, raw.split(b"/"))) <= MAX_PART_BYTES


class _Taken:
    """Names given away, and the folders that they need."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._names: set[str] = set()
        self._folders: set[str] = set()

    def take(self, candidates: Iterator[str]) -> str:
        name = next(name for name in candidates if self._may_have(name))
        self.add(name)
        return name

    def add(self, name: str) -> None:
        self._names.add(name)
        self._folders.update(folders_of(name))

    def _may_have(self, name: str) -> bool:
        return _fits(name, self._longest) and self._is_free(name)

    def _is_free(self, name: str) -> bool:
        if not name or name in self._names or name in self._folders:
            return False
        return not any(folder in self._names for folder in folders_of(name))


def folders_of(key: str) -> Iterator[str]:
    """Every proper folder of a key, innermost first: `a/b/c` → `a/b`, `a`."""
    while (at := key.rfind("/")) > 0:
        key = key[:at]
        yield key
