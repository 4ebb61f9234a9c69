"""A session that may die, as a notebook's: `start` submits and ends, `fetch JOB` has the result."""

import sys
import time

from runner import Executor


def slow_square(number):
    time.sleep(2)
    return number * number


if __name__ == "__main__":
    state_dir, what, *rest = sys.argv[1:]
    ex = Executor(1, state_dir=state_dir, on_exit="detach")
    if what == "start":
        print(ex.submit(slow_square, 12).job_id)
    else:
        print(ex.attach(rest[0]).result())
