"""A short explanation without a language model: what was found where, in the video's own words. Pure."""

from __future__ import annotations

import re
import textwrap

from fave.clock import minutes
from functions.documents import RankedClip, Ranking

_MAX_QUOTE_CHARACTERS = 300


def summarise(ranking: Ranking, max_clips: int) -> str:
    """One sentence on the whole, one on each of the best clips that have anything to do with the query.

    And one on what was said and not understood: it may answer the query too.
    """
    return " ".join(part for part in (_found(ranking, max_clips), _not_understood(ranking)) if part)


def _not_understood(ranking: Ranking) -> str:
    count = sum(bool(clip.uncertain) for clip in ranking.clips)
    return f"What is said in {count} of {len(ranking.clips)} clips was not understood for certain." if count else ""


def _found(ranking: Ranking, max_clips: int) -> str:
    found = [clip for clip in ranking.clips if clip.labels or clip.words]
    if not found:
        best = ranking.clips[0]
        near = f"The nearest in meaning is {_where(best)}{_quoted(best)}." if best.similarity > 0 else ""
        return f"Nothing in the video shows or says \u201c{ranking.query}\u201d. {near}".strip()
    count = f"{len(found)} of {len(ranking.clips)} clips answer"
    return " ".join([f"{count} \u201c{ranking.query}\u201d.", *(_sentence(clip) for clip in found[:max_clips])])


def _sentence(clip: RankedClip) -> str:
    seen = ", ".join(f"{label} ({score:.0%} sure)" for label, score in clip.labels.items())
    parts = [f"shows {seen}"] if seen else []
    if clip.frames and seen:
        parts[0] += f", best at {minutes(clip.frames[0].at_s)}"
    if clip.words or not parts:
        parts.append(f"says{_quoted(clip)}")
    return f"{_where(clip)} {' and '.join(parts)}."


def _where(clip: RankedClip) -> str:
    return f"{clip.clip} ({minutes(clip.start_s)} to {minutes(clip.end_s)})"


def _quoted(clip: RankedClip) -> str:
    """The sentence of the transcript that holds most of the query's words, the first of equals."""
    sentences = [part.strip() for part in re.split(r"(?<=[.!?])\s+", clip.text) if part.strip()]
    if not sentences:
        return ""
    best = max(sentences, key=lambda sentence: sum(word in sentence.lower() for word in clip.words))
    # A transcript without stops is one sentence, however long.
    quoted = textwrap.shorten(best.rstrip("."), _MAX_QUOTE_CHARACTERS, placeholder=" \u2026")
    return f" \u201c{quoted}\u201d"
