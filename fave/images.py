"""How images are named after functions, and which module of this checkout such an image runs."""

from __future__ import annotations

import os

ORCHESTRATOR = "orchestrator"
# Runs several stages.
FUSED = "fused"


def image_of(function: str, prefix: str | None = None, tag: str | None = None) -> str:
    """`{FAVE_IMAGE_PREFIX}{function}:{FAVE_IMAGE_TAG}`, unless both are given."""
    prefix = os.environ.get("FAVE_IMAGE_PREFIX", "") if prefix is None else prefix
    return f"{prefix}{function}:{tag or os.environ.get('FAVE_IMAGE_TAG', 'latest')}"


def function_of(image: str) -> str:
    """`stage-x` of `[registry/][fave-]stage-x[:tag][@digest]`."""
    return image.rsplit("/", 1)[-1].split(":")[0].split("@")[0].removeprefix("fave-")


def package_of(function: str) -> str:
    """The folder that only this function's image has."""
    return ORCHESTRATOR if function == ORCHESTRATOR else f"functions/{function.replace('-', '_')}"


def handler_of(function: str) -> str:
    """The module that the function host imports."""
    return f"{package_of(function).replace('/', '.')}.handler"
