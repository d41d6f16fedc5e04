"""Cutting clips out of a video in one pass over its pictures, each as it is shown at that moment. Seeks nowhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import av
import numpy as np

from functions.documents import Interval
from functions.stage_ffmpeg_1.config import Config
from functions.timeline import Samples, Shown
from functions.upright import BASE, Upright

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# What every player takes; sound at another rate is converted to the highest of them.
RATES_HZ = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_SAMPLE_BYTES = 2
# Nobody tells pictures that close apart: stamps are rounded to milliseconds in many containers.
_SAME_S = 0.001
# A clip whose last picture stands longer than this shows it once more at its end, so that the track is as long.
_STANDS_S = 0.5
_LAST_S = 0.04


class Takes(Protocol):
    """A clip in the making."""

    interval: Interval

    def show(self, at_s: float, frame: VideoFrame | None) -> None: ...

    def finish(self) -> None: ...


class Begins(Protocol):
    def __call__(self, interval: Interval) -> Takes: ...


def cut(pictures: Iterable[Shown], intervals: Sequence[Interval], begin: Begins) -> None:
    """Show every clip its pictures: the one that stands when it begins, then each as it comes; None before the first.

    Several clips may be open at once, where they overlap; decoding ends with the last one.
    """
    waiting = deque(sorted(intervals, key=lambda each: each.start_s))
    taking: list[Takes] = []
    standing: VideoFrame | None = None

    def begin_until(at_s: float) -> None:
        while waiting and waiting[0].start_s < at_s - _SAME_S:
            clip = begin(waiting.popleft())
            clip.show(0.0, standing)
            taking.append(clip)

    def finish_until(at_s: float) -> None:
        for clip in [each for each in taking if each.interval.end_s <= at_s + _SAME_S]:
            clip.finish()
            taking.remove(clip)

    for at_s, frame in pictures:
        begin_until(at_s)
        finish_until(at_s)
        while waiting and waiting[0].start_s <= at_s + _SAME_S:
            taking.append(begin(waiting.popleft()))
        for clip in taking:
            clip.show(max(0.0, at_s - clip.interval.start_s), frame)
        standing = frame
        if not waiting and not taking:
            return
    begin_until(float("inf"))
    finish_until(float("inf"))


class SoundFiles:
    """The sound of each interval as a file of its own: 16 bit, interleaved, at `rate_hz`."""

    def __init__(self, intervals: Sequence[Interval], folder: Path, rate_hz: int, channels: int) -> None:
        self.rate_hz = rate_hz
        self.channels = channels
        self._folder = folder
        self._intervals = intervals

    def path(self, interval: Interval) -> Path:
        return self._folder / f"{interval.clip}.pcm"

    def keep(self, blocks: Iterable[Samples]) -> None:
        """Take all sound of the video, from the start of its timeline; [n, channels]."""
        position = 0
        for block in blocks:
            for interval in self._intervals:
                first, last = (
                    min(max(0, round(at_s * self.rate_hz) - position), len(block))
                    for at_s in (interval.start_s, interval.end_s)
                )
                if first < last:
                    with self.path(interval).open("ab") as file:
                        file.write(block[first:last].tobytes())
            position += len(block)

    def size_samples(self, interval: Interval) -> int:
        return round(interval.end_s * self.rate_hz) - round(interval.start_s * self.rate_hz)


class Clip:
    """An mp4 that is being written: pictures as they come, sound up to where they are."""

    def __init__(self, interval: Interval, path: Path, upright: Upright, sounds: SoundFiles, config: Config) -> None:
        self.interval = interval
        self.path = path
        self._upright = upright
        self._sounds = sounds
        self._sound_path = sounds.path(interval)
        self._sound_path.touch()
        self._sound_file = self._sound_path.open("rb")
        self._sound_at = 0
        self._standing: tuple[float, VideoFrame | None] = (0.0, None)
        self._file = av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"})
        options = {"preset": config.preset, "crf": str(config.crf), "threads": "1", "flags": "+bitexact"}
        self._picture = self._file.add_stream("libx264", rate=25, options=options)
        self._picture.width, self._picture.height = upright.size_px
        self._picture.pix_fmt = "yuv420p"
        self._picture.codec_context.time_base = BASE
        self._sound = self._file.add_stream("aac", rate=sounds.rate_hz, options={"threads": "1", "flags": "+bitexact"})
        self._sound.codec_context.layout = "mono" if sounds.channels == 1 else "stereo"

    def show(self, at_s: float, frame: VideoFrame | None) -> None:
        self._standing = (at_s, frame)
        upright = self._upright.turn(frame)
        upright.pts = round(at_s / BASE)
        upright.time_base = BASE
        self._file.mux(self._picture.encode(upright))
        self._hear_until(at_s)

    def finish(self) -> None:
        length_s = self.interval.end_s - self.interval.start_s
        at_s, frame = self._standing
        if length_s - at_s > _STANDS_S:
            self.show(length_s - _LAST_S, frame)
        self._hear_until(length_s)
        self._file.mux(self._picture.encode(None))
        self._file.mux(self._sound.encode(None))
        self._file.close()
        self._sound_file.close()
        self._sound_path.unlink()

    def _hear_until(self, at_s: float) -> None:
        wanted = min(round(at_s * self._sounds.rate_hz), self._sounds.size_samples(self.interval))
        count = wanted - self._sound_at
        if count <= 0:
            return
        width = self._sounds.channels
        data = self._sound_file.read(count * width * _SAMPLE_BYTES)
        samples = np.zeros(count * width, np.int16)
        samples[: len(data) // _SAMPLE_BYTES] = np.frombuffer(data, np.int16)  # sound that has ended is silence
        layout = "mono" if width == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = self._sounds.rate_hz
        frame.pts = self._sound_at
        frame.time_base = Fraction(1, self._sounds.rate_hz)
        self._sound_at = wanted
        self._file.mux(self._sound.encode(frame))
