"""What the stages find out and tell each other in JSON objects, in the form in which they are read."""

from __future__ import annotations

from typing import Annotated

import msgspec


class Interval(msgspec.Struct, frozen=True):
    """An entry of `timestamps.json`; seconds from the start of the video. `clip` becomes the name of a file."""

    clip: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    start_s: float
    end_s: float


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    codec: str
    width_px: int
    height_px: int


class Sound(msgspec.Struct, frozen=True, kw_only=True):
    """The sound track that is searched: number `track` of `tracks`, from 1 up."""

    codec: str
    track: int
    tracks: int
    language: str
    title: str
    rate_hz: int
    channels: int


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """`media.json`: what the video is, and what of it is searched. duration_s: of the longer of picture and sound."""

    container: str
    duration_s: float
    picture: Picture | None
    sound: Sound | None


class Transcript(msgspec.Struct, frozen=True):
    """`transcript.json`. text: what the model is sure of; uncertain: what it only guesses."""

    clip: str
    text: str
    uncertain: str = ""


class Object(msgspec.Struct, frozen=True):
    label: str
    score: float


Feature = Annotated[bytes, msgspec.Meta(min_length=1280, max_length=1280)]


class Frame(msgspec.Struct, frozen=True):
    """at_s: seconds from the start of the clip. feature: what the picture looks like, a byte per channel of the
    detector's backbone, 255 for the strongest (base64 in JSON); pictures compare by the cosine.
    """

    uri: str
    at_s: float
    objects: list[Object]
    feature: Feature


class Detections(msgspec.Struct, frozen=True):
    """`detections.json`"""

    clip: str
    frames: list[Frame]


class Embeddings(msgspec.Struct, frozen=True):
    """`embeddings.json`: texts by clip and by frame, vectors (unit length) by text, features by frame (address)."""

    query: str
    clips: dict[str, str]
    frames: dict[str, str]
    vectors: dict[str, list[float]]
    features: dict[str, Feature]


class RankedFrame(msgspec.Struct, frozen=True, kw_only=True):
    """at_s: seconds from the start of the video."""

    uri: str
    at_s: float
    labels: dict[str, float]


class AlikeFrame(RankedFrame, frozen=True, kw_only=True):
    """similarity: cosine of its feature with the given frame's."""

    clip: str
    similarity: float


class RankedClip(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `ranking.json`. score is the weighted sum of the three parts, each 0 to 1.

    objects: best score of every label seen; labels, words: those of them that the query asks for. frames: distinct
    pictures of the clip, the one that shows most of what is wanted first.
    uncertain: what may have been said besides; it counts for nothing.
    """

    clip: str
    score: float
    seen_score: float
    said_score: float
    similarity: float
    start_s: float
    end_s: float
    labels: dict[str, float]
    words: tuple[str, ...]
    objects: dict[str, float]
    text: str
    uncertain: str = ""
    frames: list[RankedFrame] = []


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """`ranking.json`. like, alike: the frame that was given, and distinct ones like it, best first."""

    query: str
    clips: list[RankedClip]
    like: AlikeFrame | None = None
    alike: list[AlikeFrame] = []
