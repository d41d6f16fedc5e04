"""Which clips answer a query: by what is seen (labels), what is said (transcript), and likeness in meaning."""

from __future__ import annotations

import re

import msgspec

from functions.documents import Embeddings, Frame, RankedClip, RankedFrame
from functions.stage_search.config import Config
from functions.stage_search.pictures import Pictures

# Words of a request that say nothing about its object.
_IDLE_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "any",
        "are",
        "at",
        "be",
        "by",
        "clip",
        "clips",
        "every",
        "find",
        "for",
        "from",
        "get",
        "give",
        "has",
        "have",
        "he",
        "her",
        "him",
        "i",
        "in",
        "is",
        "it",
        "its",
        "me",
        "of",
        "on",
        "or",
        "part",
        "parts",
        "scene",
        "scenes",
        "search",
        "see",
        "seen",
        "she",
        "show",
        "some",
        "that",
        "the",
        "their",
        "them",
        "there",
        "they",
        "this",
        "to",
        "video",
        "videos",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "with",
        "you",
    ]
)


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a clip; seconds from the start of the video."""

    name: str
    start_s: float
    end_s: float
    text: str
    frames: list[Frame]
    uncertain: str = ""


def stem(word: str) -> str:
    """The singular of a regular plural: cars → car, buses → bus, cities → city."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def words_of(text: str) -> list[str]:
    """The words that count, in order, stemmed."""
    return [stem(word) for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in _IDLE_WORDS]


def rank(query: str, clips: list[Clip], embeddings: Embeddings, config: Config) -> list[RankedClip]:
    """Clips by score, best first; ties keep the order of the clips in the video.

    score = label_weight x mean best detection of the query's words (0 where one is not seen)
          + transcript_weight x share of the query's words that are said
          + embedding_weight x largest cosine of the query with the transcript or with what a frame shows, at least 0.
    """
    wanted = list(dict.fromkeys(words_of(query)))
    pictures = Pictures(embeddings.features, config.same_picture)
    scored = [_score(clip, wanted, embeddings, pictures, config) for clip in clips]
    return sorted(scored, key=lambda item: -item.score)


def _score(clip: Clip, wanted: list[str], embeddings: Embeddings, pictures: Pictures, config: Config) -> RankedClip:
    objects = best_scores(clip.frames)
    said = set(words_of(clip.text))
    seen_score = _seen(objects, wanted)
    said_score = sum(word in said for word in wanted) / max(1, len(wanted))
    likeness = {frame.uri: _likeness(embeddings, embeddings.frames.get(frame.uri, "")) for frame in clip.frames}
    similarity = max([_likeness(embeddings, embeddings.clips.get(clip.name, "")), *likeness.values()])
    score = (
        config.label_weight * seen_score + config.transcript_weight * said_score + config.embedding_weight * similarity
    )
    return RankedClip(
        clip=clip.name,
        score=round(score, 6),
        seen_score=round(seen_score, 6),
        said_score=round(said_score, 6),
        similarity=round(similarity, 6),
        start_s=clip.start_s,
        end_s=clip.end_s,
        labels={label: score for label, score in objects.items() if set(words_of(label)) & set(wanted)},
        words=tuple(word for word in wanted if word in said),
        objects=objects,
        text=clip.text,
        uncertain=clip.uncertain,
        frames=_best_frames(clip, wanted, likeness, pictures, config.max_pictures),
    )


def best_scores(frames: list[Frame]) -> dict[str, float]:
    """The best score of every label, strongest first."""
    best: dict[str, float] = {}
    for frame in frames:
        for item in frame.objects:
            best[item.label] = max(best.get(item.label, 0.0), item.score)
    return dict(sorted(best.items(), key=lambda item: (-item[1], item[0])))


def _best_frames(
    clip: Clip, wanted: list[str], likeness: dict[str, float], pictures: Pictures, at_most: int
) -> list[RankedFrame]:
    """Distinct pictures, from the one on that shows most of what is wanted; of equals the first first."""

    def worth(frame: Frame) -> float:
        return _seen(best_scores([frame]), wanted) + likeness[frame.uri]

    frames = {frame.uri: frame for frame in sorted(clip.frames, key=worth, reverse=True)}
    return [ranked(clip, frames[uri]) for uri in pictures.distinct(frames, at_most)]


def ranked(clip: Clip, frame: Frame) -> RankedFrame:
    return RankedFrame(uri=frame.uri, at_s=round(clip.start_s + frame.at_s, 3), labels=best_scores([frame]))


def _seen(objects: dict[str, float], wanted: list[str]) -> float:
    """Mean over the query's words of the best detection that a word names."""
    by_word: dict[str, float] = {}
    for label, score in objects.items():
        for word in words_of(label):
            by_word[word] = max(by_word.get(word, 0.0), score)
    return sum(by_word.get(word, 0.0) for word in wanted) / max(1, len(wanted))


def _likeness(embeddings: Embeddings, text: str) -> float:
    """Cosine of the query and `text`, at least 0; both vectors have unit length."""
    query, other = embeddings.vectors.get(embeddings.query), embeddings.vectors.get(text)
    return max(0.0, sum(a * b for a, b in zip(query, other, strict=True))) if query and other else 0.0
