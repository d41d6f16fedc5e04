"""Figures of single runs and requests: replicas over time, the critical path, waterfalls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from analysis.report.plots import COLD, COLOURS, INK, MOST_MARKS, SOFT, Array, Bars, colours, to_svg
from analysis.report.waterfall import Waterfall
from analysis.rows.path import told

PART_COLOURS = {
    "cold_wait": COLD,
    "held": "#F0E442",
    "queue": "#E69F00",
    "storage": "#56B4E9",
    "compute": "#0072B2",
    "orchestration": "#8b949e",
    "network": "#CC79A7",
    "unexplained": "#009E73",
}


class Timeline(NamedTuple):
    """Replicas of all functions of one run; times in seconds since the first scheduled arrival.

    phases: (from, name), where the run has several.
    """

    title: str
    times_s: Array
    ready: Array
    desired: Array
    limit: int
    arrivals_s: Array
    cold_s: Array
    phases: Sequence[tuple[float, str]] = ()


# Seconds before the first arrival that are drawn: the initial state, not how long it took to reach.
_BEFORE_S = -2.0


def replica_timeline(line: Timeline) -> str:
    """F5: ready and all replicas, with each cold start below and each arrival on top."""

    def draw() -> Any:
        figure, axis = plt.subplots(figsize=(8.4, 3.4))
        limit = line.limit
        label = "all (starting and ready)"
        axis.step(line.times_s, line.desired, where="post", color=COLOURS[1], lw=1.6, label=label)
        axis.fill_between(line.times_s, line.ready, step="post", color=COLOURS[0], alpha=0.35, label="ready")
        axis.axhline(limit, color=SOFT, ls=":", lw=1, label=f"max ({limit})")
        arrivals, cold = _marks(line.arrivals_s), _marks(line.cold_s)
        axis.plot(arrivals, np.full(len(arrivals), limit * 1.12), "|", color=INK, ms=7, label="arrival")
        axis.plot(cold, np.full(len(cold), -limit * 0.08), "|", color=COLD, ms=9, mew=1.8, label="cold invocation")
        for from_s, name in line.phases:
            axis.axvline(from_s, color=SOFT, lw=1)
            axis.text(from_s, limit * 1.18, f" {name}", fontsize=8, va="top")
        axis.set_ylim(-limit * 0.16, limit * 1.2)
        axis.set_xlim(left=_BEFORE_S)
        # The cold marks stand below 0; there are no replicas there.
        axis.set_yticks(range(0, limit + 1, max(1, -(-limit // 6))))
        axis.set_xlabel("seconds since the first scheduled arrival")
        axis.set_ylabel("replicas")
        axis.set_title(line.title)
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        return figure

    return to_svg(draw)


def _marks(at_s: Array) -> Array:
    """One for all that would stand on the same spot."""
    if len(at_s) <= MOST_MARKS:
        return at_s
    step_s = max(float(at_s[-1] - at_s[0]), 1e-9) / MOST_MARKS
    return np.unique(np.round(at_s / step_s)) * step_s


def by_stage(shares: Mapping[str, Mapping[str, Bars]], regimes: Sequence[str], title: str) -> str:
    """F7: cold-start rate of each function, by regime."""

    def draw() -> Any:
        stages = list(dict.fromkeys(stage for each in shares.values() for stage in each))
        present = [regime for regime in regimes if regime in shares]
        figure, axis = plt.subplots(figsize=(8.4, 0.8 + 0.34 * len(stages)))
        height = 0.8 / max(1, len(present))
        shade = colours(regimes)
        for i, regime in enumerate(present):
            for y, stage in enumerate(stages):
                bar = shares[regime].get(stage)
                if bar is None:
                    continue
                at = y - 0.4 + height * (i + 0.5)
                axis.barh(at, bar.value, height=height * 0.9, color=shade[regime], label=regime if y == 0 else None)
                # Bounds of shares that are 0 would hide the others; the table has them.
                if bar.low is not None and bar.high is not None and bar.value:
                    axis.plot((bar.low, bar.high), (at, at), color=INK, lw=1)
        axis.set_yticks(range(len(stages)), stages)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.02)
        axis.set_xlabel("share of invocations that were cold (95 % over runs)")
        axis.set_title(title)
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        return figure

    return to_svg(draw)


def path_parts(parts: Mapping[str, Mapping[str, float]], title: str) -> str:
    """F7: what the critical path's time goes to, by regime."""

    def draw() -> Any:
        figure, axis = plt.subplots(figsize=(8.4, 1.2 + 0.42 * len(parts)))
        for y, split in enumerate(parts.values()):
            left = 0.0
            for name, seconds in split.items():
                axis.barh(y, seconds, left=left, color=PART_COLOURS[name], height=0.7)
                left += seconds
        axis.set_yticks(range(len(parts)), list(parts))
        axis.invert_yaxis()
        axis.set_xlabel("seconds of the mean request, send to reply")
        axis.set_title(title)
        _part_legend(axis, (0.4, -0.75 / (0.5 + 0.42 * len(parts))), told(parts.values()))
        return figure

    return to_svg(draw)


def waterfalls(shown: Sequence[Waterfall]) -> str:
    """F7: requests invocation by invocation, on the same scale; what is not on the critical path is pale."""

    def draw() -> Any:
        heights = [max(1, len(each.bars)) for each in shown]
        size = (8.4, 0.9 + 0.24 * sum(heights) + 0.5 * len(shown))
        figure, axes = plt.subplots(
            len(shown), 1, figsize=size, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for axis, each in zip(axes[:, 0], shown, strict=True):
            for y, bar in enumerate(each.bars):
                left = bar.at_s
                for name, width in bar.parts_s.items():
                    alpha = 1.0 if bar.on_path else 0.3
                    axis.barh(y, width, left=left, color=PART_COLOURS[name], height=0.72, alpha=alpha)
                    left += width
            axis.set_yticks(range(len(each.bars)), [bar.label for bar in each.bars], fontsize=8)
            axis.invert_yaxis()
            axis.set_title(f"{each.title} ({each.regime}): {each.response_s:.2f} s", loc="left")
        axes[-1, 0].set_xlabel("seconds since the request was sent")
        parts = told(bar.parts_s for each in shown for bar in each.bars)
        _part_legend(axes[-1, 0], (0.4, -0.16), parts)
        figure.tight_layout()
        return figure

    return to_svg(draw)


def _part_legend(axis: Any, anchor: tuple[float, float], parts: Sequence[str]) -> None:
    handles = [mpl.patches.Rectangle((0, 0), 1, 1, color=PART_COLOURS[name]) for name in parts]
    names = [name.replace("_", " ") for name in parts]
    axis.legend(handles, names, loc="upper center", bbox_to_anchor=anchor, ncols=4, fontsize=8)
