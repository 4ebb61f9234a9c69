"""runner: a queue of jobs, run to its end on one machine."""

__version__ = "0.1.0"
