"""A sound file as windows that the model hears at once. One window is in memory at a time, however long the file is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from fave.errors import StageError

Samples = np.ndarray[Any, np.dtype[np.float32]]

RATE_HZ = 16_000
# Whisper hears 30 s at once; what is longer is cut at the quietest place of the last 10 s, between words.
LONGEST = 30 * RATE_HZ
SHORTEST_CUT = 20 * RATE_HZ
_FRAME = RATE_HZ // 20
# Nothing but the file named: no network, no playlists, which name further files.
_PLAIN = {"protocol_whitelist": "file", "format_whitelist": "wav,w64,aiff,flac,ogg,mp3,aac,mov,matroska"}
# No speech is understood below it, and a read of a few kilobytes would become minutes of sound.
_LOWEST_RATE_HZ = 4_000
_BLOCK = RATE_HZ


def windows(path: Path) -> Iterator[Samples]:
    """The sound in `path`, whatever its rate, channels and sample format: 16 kHz, mono, in [-1, 1].

    The file's own length is not believed: streaming encoders write 0 or the largest number. What is there is read.

    Raises
    ------
    StageError
        `not-audio` for what is no sound, is damaged or is empty.
    """
    empty = True
    for window in cut(_blocks(path)):
        empty = False
        yield window
    if empty:
        raise StageError("not-audio", "the file holds no sound, only a header")


def cut(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """Blocks of any size as windows of 20 to 30 s, the last of at most 30 s; together they are the blocks."""
    held = np.empty(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > LONGEST:
            end = SHORTEST_CUT + quietest(held[SHORTEST_CUT:LONGEST])
            yield held[:end]
            held = held[end:]
    if len(held):
        yield held


def quietest(samples: Samples) -> int:
    """The middle of the quietest 50 ms; the last of equals, so that windows are long."""
    power = np.square(samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)).sum(axis=1)
    return (len(power) - 1 - int(np.argmin(power[::-1]))) * _FRAME + _FRAME // 2


def _blocks(path: Path) -> Iterator[Samples]:
    """A second of sound each, the last one less."""
    # Here, not above: with FAVE_LAZY=1 a replica is ready before it has what it decodes with.
    import av

    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ, frame_size=_BLOCK)
    try:
        with av.open(str(path), options=_PLAIN) as file:
            if not file.streams.audio:
                raise StageError("not-audio", "the file has no sound track")
            if file.streams.audio[0].codec_context is None:
                raise StageError("not-audio", "no decoder knows its codec")
            if (rate_hz := file.streams.audio[0].rate) < _LOWEST_RATE_HZ:
                raise StageError("not-audio", f"{rate_hz} samples a second, at least {_LOWEST_RATE_HZ} are needed")
            # None: what the resampler still holds.
            for frame in chain(file.decode(audio=0), [None]):
                for block in resampler.resample(frame):
                    yield block.to_ndarray()[0].astype(np.float32) / np.float32(32768)
    except (av.FFmpegError, ValueError) as error:
        raise StageError("not-audio", f"cannot be decoded: {getattr(error, 'strerror', None) or error}") from error
