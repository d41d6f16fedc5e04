"""A frame's file is named after its time in the clip, so that whoever finds it knows when it was."""

from __future__ import annotations

import re

from fave.errors import StageError

# For ffmpeg, with the frame's time in milliseconds: `frame-00001500ms.jpg` is 1.5 s into the clip.
PATTERN = "frame-%08dms.jpg"
_NAME = re.compile(r"frame-(\d{8})ms\.jpg")


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
