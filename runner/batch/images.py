"""What the name of a container's image says: whose registry it is in, and how to look it up. Pure.

Facts: Docker's reference grammar (distribution/reference): the first part is a registry if it has
a dot or a colon, or is ``localhost``; Amazon ECR User Guide for its own registries' names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ECR = re.compile(
    r"(?P<account>[0-9]{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?"
)


@dataclass(frozen=True, slots=True)
class ImageName:
    """``look_up``: a command that shows whether the image is there; empty if there is none."""

    name: str
    registry: str
    look_up: str = ""


def describe_image(name: str | None) -> ImageName:
    """The image's registry in words. Any text will do: it is only told."""
    if not name:
        return ImageName("", "the registry")
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return ImageName(name, "Docker Hub", f"docker manifest inspect {name}")
    if not (found := _ECR.fullmatch(first)):
        told = "Amazon ECR Public" if first == "public.ecr.aws" else f"the registry {first}"
        return ImageName(name, told, f"docker manifest inspect {name}")
    repository, tag = _split(rest)
    by = f"imageDigest={tag}" if tag.startswith("sha256:") else f"imageTag={tag}"
    look = (
        f"aws ecr describe-images --registry-id {found['account']} --region {found['region']} "
        f"--repository-name {repository} --image-ids {by}"
    )
    where = f"Amazon ECR (account {found['account']}, {found['region']})"
    return ImageName(name, where, look)


def _split(rest: str) -> tuple[str, str]:
    if "@" in rest:
        repository, _, digest = rest.partition("@")
        return repository, digest
    repository, _, tag = rest.partition(":")
    return repository, tag or "latest"
