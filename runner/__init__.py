"""runner: a queue of jobs, run to its end on one machine.

The models to build a queue document with in Python come from here: `Queue`, `Job`, `Retry`,
`InputPath`, `ResultPath`, `BatchOptions`, `Notify`; and `Executor`, which runs functions and
commands, with what its Futures give: `JobFuture`, `CommandResult` and errors. They
are imported when first asked for, since they need pydantic or cloudpickle, and no verb that reports
a status should wait for them.
"""

__version__ = "0.1.0"

__all__ = [
    "BatchOptions",
    "CommandResult",
    "Executor",
    "InputPath",
    "Job",
    "JobError",
    "JobFuture",
    "JobLimitError",
    "Notify",
    "PayloadError",
    "Queue",
    "ResultPath",
    "Retry",
    "TargetAwayError",
    "__version__",
]

_HOMES = {
    "CommandResult": "runner.api.command_result",
    "Executor": "runner.api.executor",
    "JobError": "runner.api.job_errors",
    "JobLimitError": "runner.api.job_errors",
    "JobFuture": "runner.api.future",
    "PayloadError": "runner.api.job_errors",
    "TargetAwayError": "runner.api.job_errors",
}
"""Where a name is defined that isn't a model."""

# As typing's, which the parent of every job would import with it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from runner.api.command_result import CommandResult
    from runner.api.executor import Executor
    from runner.api.future import JobFuture
    from runner.api.job_errors import JobError, JobLimitError, PayloadError, TargetAwayError
    from runner.model.pydantic_models import (
        BatchOptions,
        InputPath,
        Job,
        Notify,
        Queue,
        ResultPath,
        Retry,
    )


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = import_module(_HOMES.get(name, "runner.model.pydantic_models"))
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
