"""The same program anywhere: `python anywhere.py target=batch job_queue=q bucket=b image=i`."""

import sys

from runner import Executor


def square(number):
    return number * number


if __name__ == "__main__":
    options = dict(each.split("=", 1) for each in sys.argv[1:])
    with Executor(**options) as ex:
        said = ex.submit_command("echo hello; exit 3").result()
        print(said.exit_code, said.stdout.strip(), sum(ex.map(square, range(10))))
