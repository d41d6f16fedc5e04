"""A picture from outside as the detector wants it: whatever its format, or refused by name; its memory is bounded."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from fave.errors import StageError
from functions.stage_object_detector import MAX_PIXELS

MAX_BYTES = 32 * 2**20
_SIDE_PX = 300


def decoded(data: bytes, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[300, 300, 3] RGB: upright as its EXIF says, 8 bits, without alpha, the first picture of an animation.

    Raises
    ------
    StageError
        `not-an-image` for anything that is no whole picture, `too-large`; both name it.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        # By what the header says, before there is memory for a pixel.
        if "CV_IO_MAX_IMAGE" in str(error):
            raise StageError("too-large", f"{name} has more than {MAX_PIXELS} pixels") from error
        image = None
    if image is None:
        raise StageError("not-an-image", f"{name} is not a whole picture that OpenCV can read ({len(data)} bytes)")
    return np.asarray(cv2.cvtColor(cv2.resize(image, (_SIDE_PX, _SIDE_PX)), cv2.COLOR_BGR2RGB), np.uint8)
