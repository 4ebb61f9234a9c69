"""What containers on AWS Batch run of runner, and how runner gets there.

A bundle goes through the queue's bucket, once for each content; a coordinator hands on the one that
it runs itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.results.stores import is_s3
from runner.service.batch_placement import IN_IMAGE

if TYPE_CHECKING:
    from runner.batch.definitions import Commands

BUNDLE_VARIABLE = "RUNNER_BUNDLE"
"""In a container: the address of the bundle that it was begun with."""

ARCH = "x86_64"
"""Of the hosts, where nothing else is known: Batch's own default on EC2 and on Fargate."""


def bundle_in(where: str, given: str | None, say: Callable[[str], None]) -> str | None:
    """The address of the bundle that containers of the queue in ``where`` fetch; None for none.

    ``given``: by a flag or a setting: ``image``, a file, or an address. Blocks: what isn't there is
    built and stored. Raises UsageError, RunnerError, StoreError.
    """
    if (own := os.environ.get(BUNDLE_VARIABLE)) is not None:
        return own or None
    if given == IN_IMAGE:
        return None
    if given is not None and is_s3(given):
        if "#" not in given:
            raise UsageError(f"{given}: a bundle's address ends with #, and its sha256 in hex")
        return given
    from runner.batch.container.commands import store_bundle
    from runner.targets.ec2.launch.bundles import bundle_file

    path: Path = bundle_file(given, ARCH, say)
    return store_bundle(where, path)


def commands_with(bundle: str | None) -> Commands:
    """What the containers of an attempt run, with runner from this bundle."""
    from runner.batch.container.commands import (
        agent_command,
        in_image_command,
        main_command,
        stage_command,
    )
    from runner.batch.definitions import Commands

    return Commands(stage_command(), main_command(), agent_command(), in_image_command(), bundle)
