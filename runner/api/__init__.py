"""The Python Executor: functions and commands as jobs of a queue, and Futures of their results."""
