"""From spans of sound to clips. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from functions.documents import Interval
from functions.stage_librosa.config import Config

Spans = list[tuple[float, float]]
_STEP_DB = 1.0
_LONGEST_MEAN_S, _SHORTEST_MEAN_S = 30.0, 6.0


def find_clips(spans_at: Callable[[float], Spans], config: Config, total_s: float) -> list[Interval]:
    """`spans_at(top_db)` says where sound is. With `search_threshold` the first threshold whose number of clips lies in

    [total/30, total/6) counts, as in the original; where none does, the one that comes nearest to it.
    """
    if not config.search_threshold:
        return group(spans_at(config.top_db), config, total_s)
    low, high = total_s / _LONGEST_MEAN_S, total_s / _SHORTEST_MEAN_S
    nearest: list[Interval] = []
    for top_db in _thresholds(config):
        clips = group(spans_at(top_db), config, total_s)
        if low <= len(clips) < high:
            return clips
        if _distance(len(clips), low, high) < _distance(len(nearest), low, high) or not nearest:
            nearest = clips
    return nearest


def group(spans_s: Spans, config: Config, total_s: float) -> list[Interval]:
    """Spans of sound, in order, into clips: near ones joined, padded, short ones dropped."""
    joined: list[list[float]] = []
    for start_s, end_s in spans_s:
        if joined and start_s - joined[-1][1] < config.merge_gap_s:
            joined[-1][1] = end_s
        else:
            joined.append([start_s, end_s])
    kept = [(start_s, end_s) for start_s, end_s in joined if end_s - start_s >= config.min_clip_s]
    return [
        Interval(
            clip=f"clip-{index:03d}",
            start_s=round(max(0.0, start_s - config.pad_s), 3),
            end_s=round(min(total_s, end_s + config.pad_s), 3),
        )
        for index, (start_s, end_s) in enumerate(kept[: config.max_clips])
    ]


def _thresholds(config: Config) -> Iterator[float]:
    top_db = config.lowest_top_db
    while top_db <= config.highest_top_db:
        yield top_db
        top_db += _STEP_DB


def _distance(count: int, low: float, high: float) -> float:
    return max(low - count, count - high, 0.0)
