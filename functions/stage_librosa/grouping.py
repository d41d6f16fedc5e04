"""From spans of sound to clips. Pure."""

from __future__ import annotations

import msgspec


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """top_db: how far below the peak silence begins. Pauses shorter than merge_gap_s stay within a clip."""

    top_db: float = 35.0
    merge_gap_s: float = 0.7
    pad_s: float = 0.1
    min_clip_s: float = 0.5
    max_clips: int = 64


class Interval(msgspec.Struct, frozen=True):
    clip: str
    start_s: float
    end_s: float


def group(spans_s: list[tuple[float, float]], config: Config, total_s: float) -> list[Interval]:
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
