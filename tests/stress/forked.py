"""What a process becomes that one of the launchers has forked: a command line of runner."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn


def become(order: dict[str, Any], prepare: Callable[[], None]) -> NoReturn:
    """Take the order's environment, folder and files, prepare, and run its command line.

    Output is appended to ``out`` and ``err``, which may be one file.
    """
    code = 70
    try:
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["cwd"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for name, number in (("out", 1), ("err", 2)):
            os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
        prepare()
        code = importlib.import_module("runner.cli.main").run_command(order["argv"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 70
    except BaseException:
        importlib.import_module("traceback").print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
