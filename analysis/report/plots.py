"""The figures, as SVG that comes out the same byte for byte, in Okabe and Ito's colours for all eyes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from fave.campaign.outcomes import Outcome

mpl.rcdefaults()  # whatever an account's matplotlibrc says

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
# Text and lines; a page replaces them by its own, so that figures can be read in the dark.
INK, GRID = "#1b1f24", "#e5e7eb"
SOFT = "#8b949e"
COLD = "#D55E00"
# A curve of more steps looks the same and makes the page slow.
MOST_MARKS = 400
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fave",
    "svg.fonttype": "path",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
Array = np.ndarray[Any, Any]


class Bars(NamedTuple):
    """A point with an interval, which may be missing."""

    label: str
    value: float
    low: float | None
    high: float | None
    note: str = ""


class Spread(NamedTuple):
    """Latencies of one regime: of each run, and of all runs together; sorted, answered requests. n: all requests."""

    regime: str
    runs: Sequence[tuple[Array, int]]
    pooled: Array
    n: int


class Price(NamedTuple):
    """One regime's point of latency against cost: GB-s per second, and a run figure of latency, with intervals."""

    regime: str
    executed: float
    held: Bars
    latency: Bars


def to_svg(draw: Callable[[], Any]) -> str:
    with mpl.rc_context(_STYLE):
        figure = draw()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "FAVE"})
        text = _cropped(buffer.getvalue().decode(), figure)
        plt.close(figure)
    return text[text.index("<svg") :]


def _cropped(svg: str, figure: Any) -> str:
    """To what is drawn, as `bbox_inches="tight"` would, which draws everything a second time."""
    box = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
    left, top, width, height = (
        72 * inches for inches in (box.x0, figure.get_figheight() - box.y1, box.width, box.height)
    )
    size = f'width="{width:.6g}pt" height="{height:.6g}pt" viewBox="{left:.6g} {top:.6g} {width:.6g} {height:.6g}"'
    return re.sub(r'width="[^"]*pt" height="[^"]*pt" viewBox="[^"]*"', size, svg, count=1)


def colours(regimes: Sequence[str]) -> dict[str, str]:
    return {regime: COLOURS[i % len(COLOURS)] for i, regime in enumerate(regimes)}


def _log_axis(axis: Any) -> None:
    axis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(mpl.ticker.NullFormatter())


def run_dots(
    rates: Mapping[tuple[str, str], Sequence[float]], loads: Sequence[str], regimes: Sequence[str], about: Outcome
) -> str:
    """F1: one dot per run, joined by block: pairs differ only in regime."""

    def draw() -> Any:
        figure, axes = plt.subplots(1, len(loads), figsize=(1.2 + 3.6 * len(loads), 3.6), sharey=True, squeeze=False)
        shade = colours(regimes)
        for axis, load in zip(axes[0], loads, strict=True):
            present = [regime for regime in regimes if rates.get((load, regime))]
            blocks = min((len(rates[load, regime]) for regime in present), default=0)
            for block in range(blocks):
                values = [rates[load, regime][block] for regime in present]
                axis.plot(range(len(present)), values, color=SOFT, lw=0.8, zorder=1)
            for x, regime in enumerate(present):
                axis.scatter([x] * len(rates[load, regime]), rates[load, regime], color=shade[regime], s=40, zorder=2)
            axis.set_xticks(range(len(present)), present, rotation=15 if len(present) > 3 else 0)
            axis.set_xlim(-0.4, len(present) - 0.6)
            axis.set_ylim(*((-0.03, 1.03) if about.share else (0, None)))
            axis.set_title(f"{load} ({blocks} blocks)")
        axes[0][0].set_ylabel(f"{about.title} of a run{' (0 to 1)' if about.share else f', {about.unit}'}")
        return figure

    return to_svg(draw)


def forest(
    rows: Sequence[tuple[Bars, tuple[float, float] | None]], band: tuple[float, float], what: str, unit: str
) -> str:
    """F2: differences of an outcome (`what`) with 95 % and simultaneous intervals, the equivalence margin as `band`.

    rows: in `unit`, with the simultaneous interval. A row without an interval is degenerate: a diamond.
    """

    def draw() -> Any:
        figure, axis = plt.subplots(figsize=(8.4, 0.9 + 0.36 * len(rows)))
        axis.axvspan(*band, color="#009E73", alpha=0.15, lw=0, label=f"margin ±{band[1]:g} {unit}")
        axis.axvline(0, color=INK, lw=0.8)
        for y, (bar, simultaneous) in enumerate(rows):
            if simultaneous:
                axis.plot(simultaneous, (y, y), color=COLOURS[0], lw=1.2)
            if bar.low is None or bar.high is None:
                axis.plot(bar.value, y, "D", color=COLD, ms=6, mfc="none")
            else:
                axis.plot((bar.low, bar.high), (y, y), color=COLOURS[0], lw=4, solid_capstyle="butt")
                axis.plot(bar.value, y, "o", color=INK, ms=5)
        axis.set_yticks(range(len(rows)), [bar.label for bar, _ in rows])
        axis.invert_yaxis()
        axis.set_xlabel(f"difference of {what}, {unit} (thick: 95 %, thin: all together 95 %, diamond: degenerate)")
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1))
        return figure

    return to_svg(draw)


def latency_ecdf(title: str, spreads: Sequence[Spread], regimes: Sequence[str]) -> str:
    """F3: share of requests answered within x seconds of their scheduled arrival; failures keep the curve below 1."""

    def draw() -> Any:
        figure, axis = plt.subplots(figsize=(8.4, 3.8))
        shade = colours(regimes)
        for each in spreads:
            for answered, n in each.runs:
                _step(axis, answered, n, color=shade[each.regime], alpha=0.3, lw=0.9)
            failed = each.n - len(each.pooled)
            label = f"{each.regime} (n = {each.n}" + (f", {failed} failed)" if failed else ")")
            _step(axis, each.pooled, each.n, color=shade[each.regime], lw=2.2, label=label)
        axis.set_xscale("log")
        _log_axis(axis.xaxis)
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("latency from the scheduled arrival (s, log)")
        axis.set_ylabel("share of requests")
        axis.set_title(f"{title}: thin lines are runs, thick ones all runs of a regime")
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        return figure

    return to_svg(draw)


def _step(axis: Any, answered: Array, n: int, **style: Any) -> None:
    if len(answered):
        at = np.unique(np.linspace(0, len(answered) - 1, min(len(answered), MOST_MARKS)).round().astype(int))
        axis.step(answered[at], (at + 1) / n, where="post", **style)


def percentiles(
    figures: Mapping[str, Mapping[str, tuple[Sequence[float], Bars]]], regimes: Sequence[str], title: str
) -> str:
    """F4: each run's percentiles, their geometric mean and its interval. figures: by percentile and regime."""

    def draw() -> Any:
        size = (1.2 + 3.2 * len(figures), 3.6)
        figure, axes = plt.subplots(1, len(figures), figsize=size, squeeze=False)
        shade = colours(regimes)
        for axis, (name, by_regime) in zip(axes[0], figures.items(), strict=True):
            present = [regime for regime in regimes if regime in by_regime]
            for x, regime in enumerate(present):
                values, mean = by_regime[regime]
                axis.scatter([x - 0.12] * len(values), values, color=shade[regime], s=18, alpha=0.6)
                if mean.low is not None:
                    axis.plot((x + 0.14, x + 0.14), (mean.low, mean.high), color=shade[regime], lw=3)
                axis.plot(x + 0.14, mean.value, "_", color=INK, ms=12, mew=2)
            axis.set_yscale("log")
            _log_axis(axis.yaxis)
            seen = [value for values, mean in by_regime.values() for value in (*values, mean.value)]
            if max(seen) < 1.001 * min(seen):
                axis.set_ylim(seen[0] / 2, 2 * seen[0])  # an axis of one point has no height of its own
            labels = [f"{regime}\nn = {len(by_regime[regime][0])}" for regime in present]
            axis.set_xticks(range(len(present)), labels, fontsize=8)
            axis.set_xlim(-0.5, len(present) - 0.5)
            axis.set_title(f"{title}, {name}")
        axes[0][0].set_ylabel("s from the scheduled arrival (log)")
        figure.tight_layout()
        return figure

    return to_svg(draw)


def latency_and_cost(
    spreads: Sequence[Spread], prices: Sequence[Price], regimes: Sequence[str], title: str, figure_name: str
) -> str:
    """F6: latency boxplots beside cost bars, and one against the other with intervals; idle cost included."""

    def draw() -> Any:
        figure, (boxes, bars, pareto) = plt.subplots(1, 3, figsize=(12, 3.8), gridspec_kw={"wspace": 0.32})
        shade = colours(regimes)
        _boxes(boxes, spreads, shade)
        boxes.set_title(f"{title}: latency")
        for x, each in enumerate(prices):
            bars.bar(x, each.held.value - each.executed, bottom=each.executed, color=shade[each.regime], alpha=0.35)
            bars.bar(x, each.executed, color=shade[each.regime])
            pareto.plot(each.held.value, each.latency.value, "o", color=shade[each.regime], ms=7, label=each.regime)
            _cross(pareto, each, shade[each.regime])
        bars.set_xticks(range(len(prices)), [each.regime for each in prices], fontsize=8, rotation=15)
        bars.set_ylabel("GB-s per second")
        bars.set_title("cost: executing (full), idle (light)")
        pareto.set_xlabel("held GB-s per second (idle included)")
        pareto.set_ylabel(f"{figure_name}, s")
        pareto.set_xlim(left=0)
        pareto.set_ylim(bottom=0)
        pareto.set_title("better: lower left")
        pareto.legend(fontsize=8)
        return figure

    return to_svg(draw)


def _boxes(axis: Any, spreads: Sequence[Spread], shade: Mapping[str, str]) -> None:
    """Pooled, descriptive: quartiles, whiskers to the 5th and 95th percentile."""
    shown = [each for each in spreads if len(each.pooled)]
    stats = []
    for each in shown:
        low, q1, median, q3, high = np.quantile(each.pooled, (0.05, 0.25, 0.5, 0.75, 0.95))
        stats.append({"label": each.regime, "whislo": low, "q1": q1, "med": median, "q3": q3, "whishi": high})
    if stats:
        ink = {"color": INK}
        drawn = axis.bxp(
            stats,
            showfliers=False,
            patch_artist=True,
            medianprops=ink,
            whiskerprops=ink,
            capprops=ink,
            boxprops={"ec": INK},
        )
        for box, each in zip(drawn["boxes"], shown, strict=True):
            box.set_facecolor(shade[each.regime])
            box.set_alpha(0.7)
    axis.set_yscale("log")
    _log_axis(axis.yaxis)
    axis.tick_params(axis="x", labelsize=8, labelrotation=15)
    axis.set_ylabel("s from the schedule (log); 5, 25, 50, 75, 95 %")


def _cross(axis: Any, each: Price, colour: str) -> None:
    held, latency = each.held, each.latency
    if held.low is not None and held.high is not None:
        axis.plot((held.low, held.high), (latency.value, latency.value), color=colour, lw=1.5)
    if latency.low is not None and latency.high is not None:
        axis.plot((held.value, held.value), (latency.low, latency.high), color=colour, lw=1.5)


def against_theory(points: Sequence[tuple[str, float, Bars]], curves: Mapping[str, tuple[Array, Array, Array]]) -> str:
    """F8: cold-start rates as measured against those predicted; rate and held memory over the idle timeout, if swept.

    points: (load, predicted, measured). curves: by load, idle timeouts (s), cold-start rates, held GB-s per second.
    """

    def draw() -> Any:
        panels = 2 if curves else 1
        figure, axes = plt.subplots(1, panels, figsize=(5.25 * panels, 4), gridspec_kw={"wspace": 0.3}, squeeze=False)
        square = axes[0][0]
        square.plot((0, 1), (0, 1), color=SOFT, lw=1)
        loads = list(dict.fromkeys(load for load, _, _ in points))
        shade = colours(loads)
        for load, predicted, bar in points:
            square.plot(predicted, bar.value, "o", color=shade[load], ms=6)
            if bar.low is not None:
                square.plot((predicted, predicted), (bar.low, bar.high), color=shade[load], lw=1.5)
        handles = [mpl.lines.Line2D([], [], marker="o", ls="", color=shade[load]) for load in loads]
        square.legend(handles, loads, loc="upper left")
        square.set_xlabel("cold-start rate, predicted")
        square.set_ylabel("cold-start rate, measured (95 %)")
        square.set_title("each load in each regime")
        if curves:
            over_timeouts(axes[0][1], shade)
        return figure

    def over_timeouts(lines: Any, shade: Mapping[str, str]) -> None:
        held = lines.twinx()
        held.grid(visible=False)
        for load, (seconds, cold, gb_s) in curves.items():
            colour = shade.get(load, COLOURS[5])
            lines.plot(seconds, cold, "-", color=colour, marker="o", ms=4, label=f"{load}: cold-start rate")
            held.plot(seconds, gb_s, ":", color=colour, lw=1.5)
        lines.set_xscale("log")
        _log_axis(lines.xaxis)
        lines.set_ylim(0, 1.02)
        lines.set_xlabel("idle timeout (s, log), simulated")
        lines.set_ylabel("cold-start rate (solid)")
        held.set_ylabel("held GB-s per second (dotted)")
        held.set_ylim(bottom=0)
        lines.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))

    return to_svg(draw)


def distortion(records: dict[str, Any]) -> str:
    """Latency of each arrival of one schedule, as open loop and as closed loop record it, over the time it was due."""

    def draw() -> Any:
        figure, axes = plt.subplots(figsize=(9, 3.4))
        opened, closed = records["open"], records["closed"]
        axes.plot(opened.due_s, opened.delay_s, "o", ms=4, color=COLOURS[0], label="open loop, from the schedule")
        axes.plot(closed.due_s, closed.latency_s, "x", ms=5, color=COLOURS[5], label="closed loop, from the send")
        axes.set_xlabel("scheduled arrival, s from the start of the run")
        axes.set_ylabel("latency, s")
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        return figure

    return to_svg(draw)
