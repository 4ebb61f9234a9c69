"""The process of one function call in a container: ``python3 worker.zip MODULE CALL``.

This module is the `__main__` of an archive that the Executor sends with its calls: the worker and
the Executor's own cloudpickle, so that an image needs no more than the same version of Python.
Folders of code come as archives beside the call, and are unpacked to be imported from.
"""

import os
import sys
import zipfile

OLDEST = (3, 11)
"""Of Python, for the worker itself; older ones must be able to compile this module."""


def unpack(folder: str) -> "list[str]":
    """Have the code in a folder's archives importable, before all else."""
    found = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("code-") and name.endswith(".zip"):
            place = os.path.join(os.path.abspath(folder), name[: -len(".zip")])
            with zipfile.ZipFile(os.path.join(folder, name)) as archive:
                archive.extractall(place)
            found.append(place)
    return found


def beside_the_images_own() -> None:
    """Have what the archive lacks of runner importable, where the image has it."""
    import runner.api

    for folder in sys.path[1:]:
        if os.path.isfile(os.path.join(folder, "runner", "__init__.py")):
            runner.__path__.append(os.path.join(folder, "runner"))
            runner.api.__path__.append(os.path.join(folder, "runner", "api"))


def main() -> None:
    """Run the call that the last argument names."""
    call = sys.argv[-1].rpartition(" ")[2]
    if sys.version_info[:2] < OLDEST:
        told = "the image's python3 is {}.{}, and functions need {}.{} or later, the caller's own"
        sys.exit(told.format(*(tuple(sys.version_info[:2]) + OLDEST)))
    sys.path[1:1] = unpack(os.path.dirname(call) or ".")
    from runner.api import worker

    beside_the_images_own()
    sys.exit(worker.main([sys.argv[-1]]))


if __name__ == "__main__":
    main()
