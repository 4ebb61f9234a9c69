"""What is wanted of a queue that exists already, as a caller of `run` or `submit` says it.

Owns the words for it, on the command line and in a request.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from runner.errors import UsageError
from runner.model.messages import one_of, quoted

RESUME = "resume"
"""The word for nothing special: an unfinished queue goes on, a finished one stays as it is."""


@dataclass(frozen=True, slots=True)
class RunMode:
    """``fresh``: set aside and begun anew, with all jobs; with ``reuse`` without those for which
    nothing has changed. The others go together.

    ``retry_failed``: what failed, was skipped or cancelled runs again, as the given document has
    it. ``update``: jobs that are new, gone, or changed before they started are accepted.
    ``rerun_changed``: so are completed jobs that changed; they run again, with what depends on
    them.
    """

    fresh: bool = False
    retry_failed: bool = False
    update: bool = False
    rerun_changed: bool = False
    reuse: bool = False

    def __post_init__(self) -> None:
        if self.reuse and not self.fresh:
            raise UsageError("--reuse: is for --fresh, which otherwise runs every job again")
        if self.fresh and self.mends:
            others = replace(self, fresh=False, reuse=False).flags
            raise UsageError(f"--fresh: begins anew, so it doesn't go with {others}")

    @property
    def mends(self) -> bool:
        """Whether a changed document may be accepted."""
        return self.retry_failed or self.update or self.rerun_changed

    @property
    def updates(self) -> bool:
        """Whether jobs may come, go, and change before they start."""
        return self.update or self.rerun_changed

    @property
    def word(self) -> str:
        """As a request carries it: `retry_failed,update`."""
        return ",".join(name for name in NAMES if getattr(self, name)) or RESUME

    @property
    def flags(self) -> str:
        """As it is typed: `--retry-failed --update`."""
        return " ".join(f"--{name.replace('_', '-')}" for name in NAMES if getattr(self, name))


RESUMED = RunMode()

NAMES = tuple(field.name for field in fields(RunMode))


def parse_run_mode(word: object) -> RunMode:
    """The inverse of ``word``. Raises UsageError naming the request's field."""
    if word == RESUME:
        return RunMode()
    names = word.split(",") if isinstance(word, str) else [""]
    if len(set(names)) < len(names) or not set(names) <= set(NAMES):
        known = one_of((RESUME, *NAMES))
        raise UsageError(f'"again" is {known}, or several with commas, not {quoted(str(word))}')
    return RunMode(**dict.fromkeys(names, True))
