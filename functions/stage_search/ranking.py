"""Which clips answer a query: words of the query among what is seen (labels) and what is said (transcript)."""

from __future__ import annotations

import re

import msgspec

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
    """labels: best detection score of each label seen, 0 to 1."""

    name: str
    text: str
    labels: dict[str, float]


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    clip: str
    score: float
    labels: dict[str, float]
    words: tuple[str, ...]
    text: str


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


def rank(query: str, clips: list[Clip], *, label_weight: float, transcript_weight: float) -> list[Ranked]:
    """Score = label_weight x mean best detection of the query's words + transcript_weight x share of them said.

    Ties keep the order of the clips in the video.
    """
    wanted = list(dict.fromkeys(words_of(query)))
    ranked = [_score(clip, wanted, label_weight, transcript_weight) for clip in clips]
    return sorted(ranked, key=lambda item: -item.score)


def _score(clip: Clip, wanted: list[str], label_weight: float, transcript_weight: float) -> Ranked:
    by_word = {
        word: score for label, score in sorted(clip.labels.items(), key=lambda i: i[1]) for word in words_of(label)
    }
    said = set(words_of(clip.text))
    count = max(1, len(wanted))
    seen_score = sum(by_word.get(word, 0.0) for word in wanted) / count
    said_score = sum(word in said for word in wanted) / count
    return Ranked(
        clip=clip.name,
        score=round(label_weight * seen_score + transcript_weight * said_score, 6),
        labels={label: score for label, score in clip.labels.items() if set(words_of(label)) & set(wanted)},
        words=tuple(word for word in wanted if word in said),
        text=clip.text,
    )
