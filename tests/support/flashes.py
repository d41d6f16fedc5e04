"""A film with a flash and a beep in every second, put into containers in many ways; and where they are found again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from functions import timeline
from tests.support.media import run

FRAME_S = 0.04
LENGTH_S = 8
# Into each second; a tenth of a second long.
AT_S, LASTS_S = 0.32, 0.12
RATE_HZ = 16_000


class Form(NamedTuple):
    """How a container is made. edits: it can say that its beginning is not to be shown. counted: its sound has no
    stamps of its own, samples are counted, and none can be missing in between."""

    suffix: str
    picture: tuple[str, ...]
    sound: tuple[str, ...]
    options: tuple[str, ...] = ()
    edits: bool = False
    counted: bool = False


_H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "1", "-pix_fmt", "yuv420p")
_B_FRAMES = ("-c:v", "libx264", "-preset", "veryfast", "-g", "12", "-bf", "2", "-pix_fmt", "yuv420p")
_VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "1", "-b:v", "1M")
_AAC, _OPUS = ("-c:a", "aac", "-b:a", "96k"), ("-c:a", "libopus", "-b:a", "96k")
# Every packet has a stamp: several in one would put what follows a gap where the gap began.
_STAMPED = ("-pes_payload_size", "0")

FORMS = {
    "mp4": Form("mp4", _H264, _AAC, edits=True),
    "mp4, B-frames": Form("mp4", _B_FRAMES, _AAC, edits=True),
    "fragmented mp4": Form("mp4", _H264, _AAC, ("-movflags", "+frag_keyframe+delay_moov"), edits=True),
    "mkv": Form("mkv", _H264, ("-c:a", "flac")),
    "mkv, B-frames": Form("mkv", _B_FRAMES, _AAC),
    "webm": Form("webm", _VP8, _OPUS),
    "mov": Form("mov", _H264, ("-c:a", "pcm_s16le"), edits=True, counted=True),
    "ts": Form("ts", _H264, ("-c:a", "mp2"), _STAMPED),
    "ts, B-frames": Form("ts", _B_FRAMES, _AAC, _STAMPED),
}
# Read as well as these containers allow: they have no stamps of their own for pictures, or coarse ones.
COARSE = {
    "avi": Form("avi", ("-c:v", "mpeg4", "-q:v", "2"), ("-c:a", "mp3")),
    "wmv": Form("wmv", ("-c:v", "wmv2", "-q:v", "2"), ("-c:a", "wmav2")),
    "flv": Form("flv", _H264, _AAC),
    "mpg": Form("mpg", ("-c:v", "mpeg2video", "-q:v", "2"), ("-c:a", "mp2")),
    "ogv": Form("ogv", ("-c:v", "libtheora", "-q:v", "7"), ("-c:a", "libvorbis")),
}


class Making(NamedTuple):
    """What is done to the film, in seconds of it. gaps: (from, to) in which packets are lost. skipped_s: by an edit."""

    sound_late_s: float = 0.0
    picture_late_s: float = 0.0
    sound_gap: tuple[float, float] | None = None
    picture_gap: tuple[float, float] | None = None
    skipped_s: float = 0.0

    @property
    def zero_s(self) -> float:
        """What the container's start is, in seconds of the film's own clock."""
        return self.skipped_s or min(self.sound_late_s, self.picture_late_s)

    def beeps(self) -> list[float]:
        return self._events(self.sound_late_s, self.sound_gap)

    def flashes(self) -> list[float]:
        return self._events(self.picture_late_s, self.picture_gap)

    def possible(self, late_s: float) -> list[float]:
        """Every event of the film, on the timeline."""
        return [k + AT_S + late_s - self.zero_s for k in range(LENGTH_S)]

    def _events(self, late_s: float, gap: tuple[float, float] | None) -> list[float]:
        """Where they are to be found; without those near a gap's edges or the beginning, which may be half there."""
        first, last = (at + late_s - self.zero_s for at in gap) if gap else (math.inf, math.inf)
        return [at for at in self.possible(late_s) if at > 0.1 and not first - 0.1 - LASTS_S <= at <= last + 0.1]


def make(target: Path, form: Form, making: Making) -> Path:
    """The film as `making` says, in `form`'s container."""
    shade = f"255*lt(mod(T-{AT_S}+1,1),{LASTS_S})"
    film = f"nullsrc=s=64x64:r=25:d={LENGTH_S},geq=lum='{shade}':cb=128:cr=128"
    sounding = f"lt(mod(t-{AT_S}+1,1),{LASTS_S})"
    tone = f"aevalsrc='0.8*sin(2*PI*1000*t)*{sounding}':s=48000:d={LENGTH_S}"
    plain = target.with_name(f"plain-{target.name}")
    first = plain if making.skipped_s else target
    run(
        *("-itsoffset", f"{making.picture_late_s:.3f}", "-f", "lavfi", "-i", film),
        *("-itsoffset", f"{making.sound_late_s:.3f}", "-f", "lavfi", "-i", tone),
        *("-map", "0:v", "-map", "1:a", *form.picture, *form.sound),
        *_lost("v", making.picture_gap, making.picture_late_s),
        *_lost("a", making.sound_gap, making.sound_late_s),
        *form.options,
        str(first),
    )
    if making.skipped_s:
        run("-ss", f"{making.skipped_s:.3f}", "-i", str(plain), "-c", "copy", *form.options, str(target))
    return target


def _lost(kind: str, gap: tuple[float, float] | None, late_s: float) -> list[str]:
    if gap is None:
        return []
    first, last = (at + late_s for at in gap)
    return [f"-bsf:{kind}", f"noise=drop='between(pts*tb,{first:.3f},{last:.3f})'"]


def beeps_in(samples: np.ndarray, rate_hz: int) -> list[float]:
    """Where each beep begins, in seconds; samples: [n], 16 bit."""
    window = rate_hz // 200
    loud = np.abs(samples.astype(float)).reshape(-1)
    level = loud[: len(loud) // window * window].reshape(-1, window).max(axis=1) > 0.3 * 32767 * 0.8
    return [index * window / rate_hz for index in _onsets(level)]


def flashes_in(shown: list[tuple[float, float]]) -> list[float]:
    """Where each flash begins; shown: (at_s, mean brightness)."""
    bright = np.array([value > 128 for _, value in shown])
    return [shown[index][0] for index in _onsets(bright)]


def _onsets(active: np.ndarray) -> list[int]:
    return [int(index) for index in np.flatnonzero(np.diff(np.concatenate([[0], active.astype(int)])) == 1)]


def seen(path: Path) -> list[tuple[float, float]]:
    """(at_s, mean brightness) of every picture."""
    with timeline.opened(path) as video:
        return [(at_s, float(frame.to_ndarray(format="gray").mean())) for at_s, frame in video.pictures()]


def heard(path: Path, rate_hz: int = RATE_HZ) -> np.ndarray:
    with timeline.opened(path) as video:
        return np.concatenate([np.zeros((0, 1), np.int16), *video.sound_blocks(rate_hz, 1)])[:, 0]
