"""AWS Batch for tests: boto3's ``batch`` client talks to it, and its jobs really run.

``BatchServer`` takes an executor: ``Processes`` for quick tests, ``Docker`` for true ones.
"""

from .compute import ComputeEnvironment, JobQueue
from .events import Events, KeptEvents, SqsEvents
from .executors import CannotStart, Container, ContainerEnd, Executor, Running
from .faults import Fault, Faults
from .flaws import NOT_INSPECTED, TIMED_OUT, Flawed
from .jobs import State
from .logs import GROUP, CloudWatchLogs, KeptLogs, LogSink
from .processes import Processes
from .rights import Rights
from .server import BatchServer, Seen
from .services import Keys, MotoServices, NoServices, Services
from .settings import Delays, Settings

__all__ = [
    "GROUP",
    "NOT_INSPECTED",
    "TIMED_OUT",
    "BatchServer",
    "CannotStart",
    "CloudWatchLogs",
    "ComputeEnvironment",
    "Container",
    "ContainerEnd",
    "Delays",
    "Events",
    "Executor",
    "Fault",
    "Faults",
    "Flawed",
    "JobQueue",
    "KeptEvents",
    "KeptLogs",
    "Keys",
    "LogSink",
    "MotoServices",
    "NoServices",
    "Processes",
    "Rights",
    "Running",
    "Seen",
    "Services",
    "Settings",
    "SqsEvents",
    "State",
]
