"""Pictures as they are meant to be seen: turned as the camera was held, with square pixels, in even sizes, 8 bit."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from av.filter import Graph

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

BASE = Fraction(1, 90_000)
# In degrees, clockwise.
_TURNS = {90: ["transpose=clock"], 180: ["hflip", "vflip"], 270: ["transpose=cclock"]}
# A shape of pixels beyond this is a mistake, and would make a huge picture.
_WIDEST = 4


class Upright:
    """Turns frames of one video. What changes in its midst is fitted to the size of the first frame.

    size_px: (width, height) of what comes out.
    """

    def __init__(self, first: VideoFrame, pixel_shape: Fraction | None) -> None:
        shape = pixel_shape if pixel_shape and Fraction(1, _WIDEST) <= pixel_shape <= _WIDEST else Fraction(1)
        width_px, height_px = _even(first.width * shape), _even(first.height)
        self.size_px = (height_px, width_px) if _turn_of(first) in (90, 270) else (width_px, height_px)
        self._form: tuple[object, ...] = ()
        self._graph = Graph()

    def turn(self, frame: VideoFrame | None) -> VideoFrame:
        """`frame` upright; black where there is none."""
        if frame is None:
            return self._black()
        form = (frame.width, frame.height, frame.format.name, _turn_of(frame))
        if form != self._form:
            self._graph, self._form = self._built(frame), form
        frame.pts, frame.time_base = 0, BASE
        self._graph.vpush(frame)
        return self._graph.vpull()

    def _built(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        steps = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=BASE)]
        width_px, height_px = self.size_px
        for step in [*_TURNS.get(_turn_of(frame), []), f"scale={width_px}:{height_px}", "format=yuv420p"]:
            name, _, arguments = step.partition("=")
            steps.append(graph.add(name, arguments or None))
        graph.link_nodes(*steps, graph.add("buffersink")).configure()
        return graph

    def _black(self) -> VideoFrame:
        width_px, height_px = self.size_px
        planes = np.full((height_px * 3 // 2, width_px), 128, np.uint8)
        planes[:height_px] = 16
        return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def _turn_of(frame: VideoFrame) -> int:
    """By how many degrees a frame must be turned clockwise to stand upright."""
    return round(-frame.rotation / 90) * 90 % 360


def _even(side: Fraction | int) -> int:
    """H.264 in 4:2:0 needs even sides."""
    return max(2, round(side / 2) * 2)
