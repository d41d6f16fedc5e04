"""A frame's file is named after its time in the clip, so that whoever finds it knows when it was."""

from __future__ import annotations

import re

from fave.errors import StageError

_NAME = re.compile(r"frame-(\d{8})ms\.jpg")


def frame_name(at_s: float) -> str:
    """`frame-00001500ms.jpg` for 1.5 s."""
    return f"frame-{round(at_s * 1000):08d}ms.jpg"


def time_of(name: str) -> float:
    """Seconds into the clip; 0 for a picture that no sampler named (a single stage under load).

    Raises
    ------
    StageError
        `bad-request`, for a name that only looks like a frame's.
    """
    match = _NAME.fullmatch(name)
    if match is None and name.startswith("frame-"):
        raise StageError("bad-request", f"{name!r} is not a frame's name")
    return int(match[1]) / 1000 if match else 0.0
