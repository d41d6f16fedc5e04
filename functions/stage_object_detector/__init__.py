"""OpenCV reads its limit when it is loaded: it is set here, before any module of this folder imports OpenCV."""

import os

MAX_PIXELS = 2**24
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_PIXELS)
