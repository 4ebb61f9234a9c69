"""runner: a queue of jobs, run to its end on one machine.

The models to build a queue document with in Python come from here: `Queue`, `Job`, `Retry`,
`InputPath`, `ResultPath`, `BatchOptions`, `Notify`. They are imported when first asked for, since
they need pydantic, and no verb that reports a status should wait for it.
"""

__version__ = "0.1.0"

__all__ = [
    "BatchOptions",
    "InputPath",
    "Job",
    "Notify",
    "Queue",
    "ResultPath",
    "Retry",
    "__version__",
]

# As typing's, which the parent of every job would import with it.
TYPE_CHECKING = False
if TYPE_CHECKING:
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
    from runner.model import pydantic_models

    return getattr(pydantic_models, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
