"""The figures, as SVG that comes out the same byte for byte, in Okabe and Ito's colours for all eyes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import polars as pl

from analysis.load import Campaign, Run, of_run, used_runs
from analysis.waterfall import Waterfall

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_PARTS = (
    ("cold wait", "#D55E00"),
    ("queue", "#F0E442"),
    ("storage", "#56B4E9"),
    ("compute", "#0072B2"),
    ("directing", "#9ca3af"),
)
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fave",
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def _svg(draw: Callable[[], Any]) -> str:
    with mpl.rc_context(_STYLE):
        figure = draw()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": "FAVE"})
        plt.close(figure)
    text = buffer.getvalue().decode()
    return text[text.index("<svg") :]


def colours(regimes: list[str]) -> dict[str, str]:
    return {regime: COLOURS[i % len(COLOURS)] for i, regime in enumerate(regimes)}


def run_dots(results: dict[str, Any], regimes: list[str]) -> str:
    """F1: one dot per run, joined by block: pairs differ only in regime."""
    loads = list(dict.fromkeys(row["load"] for row in results["contrasts"]))
    rates = {(row["load"], name): values for row in results["contrasts"] for name, values in row["rates"].items()}

    def draw() -> Any:
        figure, axes = plt.subplots(
            1, max(1, len(loads)), figsize=(4.2 * max(1, len(loads)), 3.6), sharey=True, squeeze=False
        )
        shade = colours(regimes)
        for axis, load in zip(axes[0], loads, strict=False):
            present = [regime for regime in regimes if rates.get((load, regime))]
            blocks = min((len(rates[load, regime]) for regime in present), default=0)
            for block in range(blocks):
                axis.plot(
                    range(len(present)), [rates[load, r][block] for r in present], color="#9ca3af", lw=1, zorder=1
                )
            for x, regime in enumerate(present):
                axis.scatter([x] * len(rates[load, regime]), rates[load, regime], color=shade[regime], s=46, zorder=2)
            axis.set_xticks(range(len(present)), present)
            axis.set_xlim(-0.4, len(present) - 0.6)
            axis.set_ylim(-0.03, 1.03)
            axis.set_title(f"{load} ({blocks} blocks)")
        axes[0][0].set_ylabel("cold share of a run (0 to 1)")
        return figure

    return _svg(draw)


def latency_ecdf(campaign: Campaign, load: str, regimes: list[str]) -> str:
    """F3: share of requests answered within x seconds of their scheduled arrival; failures keep the curve below 1."""

    def draw() -> Any:
        figure, axis = plt.subplots(figsize=(6.4, 3.8))
        shade = colours(regimes)
        runs = [run for run in used_runs(campaign.runs, campaign.experiment) if run.load == load]
        for regime in regimes:
            mine = [of_run(campaign.requests, run) for run in runs if run.regime == regime]
            for table in mine:
                _step(axis, table, color=shade[regime], alpha=0.3, lw=0.9)
            if mine:
                pooled = pl.concat(mine)
                failed = len(pooled.filter(pl.col("status") != "ok"))
                label = f"{regime} (n = {len(pooled)}" + (f", {failed} failed)" if failed else ")")
                _step(axis, pooled, color=shade[regime], lw=2.2, label=label)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("latency from the scheduled arrival (s, log)")
        axis.set_ylabel("share of requests")
        axis.set_title(f"{load}: thin lines are runs, thick ones all runs of a regime")
        axis.legend(loc="lower right")
        return figure

    return _svg(draw)


def _step(axis: Any, table: pl.DataFrame, **style: Any) -> None:
    done = table.filter(pl.col("status") == "ok")["latency_s"].drop_nulls().sort().to_numpy()
    if len(done):
        axis.step(done, np.arange(1, len(done) + 1) / len(table), where="post", **style)


def replica_timeline(campaign: Campaign, run: Run) -> str:
    """F5: replicas of all functions of one run, ready and all, with each cold start below and each arrival on top."""
    requests, stages, replicas = (of_run(t, run) for t in (campaign.requests, campaign.stages, campaign.replicas))
    zero_ns = int(requests["scheduled_at_ns"].min() or 0)  # type: ignore[arg-type]
    samples = (
        replicas.filter(pl.col("source") == "prometheus")
        .group_by("at_ns")
        .agg(pl.col("ready").sum(), pl.col("desired").sum())
        .sort("at_ns")
    )

    def draw() -> Any:
        figure, axis = plt.subplots(figsize=(8.4, 3.4))
        times = (samples["at_ns"].to_numpy() - zero_ns) / 1e9
        limit = sum(run.max_replicas.values())
        axis.step(times, samples["desired"], where="post", color=COLOURS[1], lw=1.6, label="all (starting and ready)")
        axis.fill_between(times, samples["ready"], step="post", color=COLOURS[0], alpha=0.35, label="ready")
        axis.axhline(limit, color="#6b7280", ls=":", lw=1, label=f"max ({limit})")
        arrivals = (requests["scheduled_at_ns"].to_numpy() - zero_ns) / 1e9
        cold = (stages.filter(pl.col("cold"))["sent_at_ns"].to_numpy() - zero_ns) / 1e9
        axis.plot(arrivals, np.full(len(arrivals), limit * 1.12), "|", color="#374151", ms=7, label="arrival")
        axis.plot(cold, np.full(len(cold), -limit * 0.08), "|", color="#D55E00", ms=9, mew=1.8, label="cold invocation")
        axis.set_ylim(-limit * 0.16, limit * 1.2)
        # The cold marks stand below 0; there are no replicas there.
        axis.set_yticks(range(0, limit + 1, max(1, -(-limit // 6))))
        axis.set_xlabel("seconds since the first scheduled arrival")
        axis.set_ylabel("replicas")
        axis.set_title(f"{run.load} / {run.regime}, block {run.block + 1}")
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        return figure

    return _svg(draw)


def waterfalls(pair: list[Waterfall]) -> str:
    """F7: a cold and a warm request, invocation by invocation, on the same scale."""

    def draw() -> Any:
        heights = [max(1, len(each.bars)) for each in pair]
        size = (8.4, 0.9 + 0.24 * sum(heights) + 0.5 * len(pair))
        figure, axes = plt.subplots(
            len(pair), 1, figsize=size, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for axis, each in zip(axes[:, 0], pair, strict=True):
            for y, bar in enumerate(each.bars):
                left = bar.at_s
                for (_, colour), width in zip(_PARTS, bar[2:], strict=True):
                    axis.barh(y, width, left=left, color=colour, height=0.72)
                    left += width
            axis.set_yticks(range(len(each.bars)), [bar.label for bar in each.bars], fontsize=8)
            axis.invert_yaxis()
            axis.set_title(f"{each.title} ({each.regime}): {each.latency_s:.2f} s", loc="left")
        axes[-1, 0].set_xlabel("seconds since the request was sent")
        handles = [mpl.patches.Rectangle((0, 0), 1, 1, color=colour) for _, colour in _PARTS]
        names = [name for name, _ in _PARTS]
        axes[-1, 0].legend(handles, names, loc="upper center", bbox_to_anchor=(0.4, -0.16), ncols=len(names))
        figure.tight_layout()
        return figure

    return _svg(draw)


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

    return _svg(draw)
