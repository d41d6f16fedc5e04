"""Where a sound file is not silent, as `librosa.effects.split` finds it, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from fave.errors import StageError
from functions.stage_librosa.grouping import Spans

Floats = np.ndarray[Any, np.dtype[np.float32]]
# librosa's: the root mean square of 2048 samples every 512, the first centred on the first sample.
FRAME, HOP = 2048, 512
_BLOCK = 256 * HOP


class Loudness:
    """rms: of every frame, [1 + samples // HOP]. length_s: of the file."""

    def __init__(self, rms: Floats, rate_hz: int, samples: int) -> None:
        self.rms = rms
        self.length_s = samples / rate_hz
        self._rate_hz = rate_hz
        self._samples = samples

    def spans_at(self, top_db: float) -> Spans:
        """(start, end) in seconds of what is less than `top_db` below the loudest frame; none where all is silence."""
        from librosa import amplitude_to_db

        if not self.rms.any():
            return []
        sounds = amplitude_to_db(self.rms, ref=np.max, top_db=None) > -top_db
        edges = np.flatnonzero(np.diff(np.concatenate([[False], sounds, [False]]).astype(int)))
        at_s = np.minimum(edges * HOP, self._samples) / self._rate_hz
        return [(float(start_s), float(end_s)) for start_s, end_s in at_s.reshape(-1, 2)]


def measure(path: Path) -> Loudness:
    """The loudness of a file of any rate; several channels are mixed.

    Raises
    ------
    StageError
        `not-audio`.
    """
    try:
        with soundfile.SoundFile(path) as file:
            blocks = file.blocks(_BLOCK, dtype="float32", always_2d=True)
            rms = np.concatenate(list(_rms(_mono(block) for block in blocks)))
            return Loudness(rms, file.samplerate, file.tell())
    except (soundfile.LibsndfileError, ValueError) as error:
        raise StageError("not-audio", f"not a sound file: {error}".replace(str(path), "the input")) from error


def _mono(block: Floats) -> Floats:
    """A sample that is no number is no sound."""
    return np.asarray(np.nan_to_num(block.mean(axis=1), nan=0.0, posinf=0.0, neginf=0.0), np.float32)


def _rms(blocks: Iterable[Floats]) -> Iterator[Floats]:
    """Frame by frame over the borders of the blocks; half a frame of silence before and after, as librosa has it."""
    from librosa.feature import rms

    margin = np.zeros(FRAME // 2, np.float32)
    kept = margin
    for block in chain(blocks, [margin]):
        kept = np.concatenate([kept, block])
        count = 1 + (len(kept) - FRAME) // HOP
        if count > 0:
            yield rms(y=kept[: (count - 1) * HOP + FRAME], frame_length=FRAME, hop_length=HOP, center=False)[0]
            kept = kept[count * HOP :]
