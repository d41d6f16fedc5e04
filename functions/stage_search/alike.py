"""Frames like a given one, over all clips. Pure."""

from __future__ import annotations

import re

import msgspec

from fave.clock import minutes
from fave.errors import StageError
from functions.documents import AlikeFrame, Embeddings, Frame
from functions.stage_search.config import Config
from functions.stage_search.pictures import Pictures
from functions.stage_search.ranking import Clip, ranked

_TIME = re.compile(r"(?:(\d{1,4}):)?(\d{1,5}(?:\.\d{1,9})?)")
# Times are printed to a tenth of a second; one that was printed must be found.
_ROUNDED_S = 0.1


def frame_like(like: str, clips: list[Clip]) -> AlikeFrame:
    """The frame that `like` names: an address, `CLIP/FRAME`, or a time in the video.

    Raises
    ------
    StageError
        `bad-request`, naming what does not name a frame of these clips.
    """
    match = _TIME.fullmatch(like.strip())
    if match:
        return _at(60 * int(match[1] or 0) + float(match[2]), clips)
    for clip in clips:
        for frame in clip.frames:
            if like.strip() in (frame.uri, f"{clip.name}/{frame.uri.rpartition('/')[2]}"):
                return _found(clip, frame, 1.0)
    raise StageError(
        "bad-request", f"like: {like!r} is no frame of this request: give an address, CLIP/FRAME or a time in the video"
    )


def _at(at_s: float, clips: list[Clip]) -> AlikeFrame:
    """The frame nearest to it in the clip that it lies in."""
    near = [
        (abs(clip.start_s + frame.at_s - at_s), clip, frame)
        for clip in clips
        if clip.start_s - _ROUNDED_S <= at_s <= clip.end_s + _ROUNDED_S
        for frame in clip.frames
    ]
    if not near:
        spans = ", ".join(f"{minutes(clip.start_s)} to {minutes(clip.end_s)}" for clip in clips[:10])
        more = " \u2026" if len(clips) > 10 else ""
        raise StageError("bad-request", f"like: at {minutes(at_s)} there is no frame; clips are at {spans}{more}")
    _, clip, frame = min(near, key=lambda item: item[0])
    return _found(clip, frame, 1.0)


def frames_alike(given: AlikeFrame, clips: list[Clip], embeddings: Embeddings, config: Config) -> list[AlikeFrame]:
    """The most similar first. Of a clip's frames that are one picture only one; none that is the given one again."""
    pictures = Pictures(embeddings.features, config.same_picture)
    candidates = [
        _found(clip, frame, pictures.similarity(given.uri, frame.uri)) for clip in clips for frame in clip.frames
    ]
    kept: list[AlikeFrame] = []
    for frame in sorted(candidates, key=lambda frame: -frame.similarity):
        if len(kept) == config.max_pictures:
            break
        known = [other.uri for other in (given, *kept) if other.clip == frame.clip]
        if frame.uri not in known and not pictures.seen(frame.uri, known):
            kept.append(frame)
    return kept


def _found(clip: Clip, frame: Frame, similarity: float) -> AlikeFrame:
    return AlikeFrame(clip=clip.name, similarity=round(similarity, 4), **msgspec.structs.asdict(ranked(clip, frame)))
