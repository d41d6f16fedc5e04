"""Which figures a report has, F1 to F8, each with the table that it was drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from analysis import outcome
from analysis.answers.cells import QUANTILES, in_cell, run_quantile
from analysis.report import plots, plots_path, summary
from analysis.report.plots import Bars, Price, Spread
from analysis.report.plots_path import Timeline
from analysis.report.waterfall import waterfalls
from analysis.rows import measures, phases
from analysis.rows.digest import Digest
from analysis.rows.folder import Campaign, Run
from analysis.rows.path import told
from analysis.words import Table, more, number, percent, points, with_interval
from fave.campaign.outcomes import OUTCOMES
from fave.campaign.results import Contrast, Results, Sweep, Swept

# Rows of a figure's table, at most: a reader who wants more has the rows themselves.
_MOST_ROWS = 60
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


class Figure(NamedTuple):
    """name: of the file. data: what was drawn."""

    name: str
    title: str
    svg: str
    data: Table


def figures(campaign: Campaign, found: Results, digests: Sequence[Digest]) -> list[Figure]:
    """found: results.json. digests: of the used runs."""
    loads = [load for load in campaign.experiment.loads if any(each.run.load == load for each in digests)]
    drawn = [*_run_dots(campaign, found), *_forest(found)]
    for load in loads:
        drawn.append(_ecdf(campaign, digests, load))
    for load in loads:
        drawn += _percentiles(campaign, found, digests, load)
    for load in loads:
        drawn += _timelines(campaign, digests, load)
    for load in loads:
        drawn += _latency_and_cost(campaign, found, digests, load)
    drawn += _by_stage(campaign, found)
    drawn += _path(campaign, found)
    drawn += _waterfalls(campaign, digests)
    return drawn + _theory(found)


def _run_dots(campaign: Campaign, found: Results) -> list[Figure]:
    rates = {(row.load, name): values for row in found.contrasts for name, values in row.rates.items()}
    loads = list(dict.fromkeys(load for (load, _), values in rates.items() if values))
    if not loads:
        return []
    rows = [
        (load, regime, *(f"{value:.3f}" for value in rates[load, regime]))
        for load in loads
        for regime in campaign.regimes
        if rates.get((load, regime))
    ]
    blocks = max(len(row) for row in rows) - 2
    columns = ("load", "regime", *(f"block {i + 1}" for i in range(blocks)))
    padded = [row + ("-",) * (len(columns) - len(row)) for row in rows]
    about = OUTCOMES[found.primary_outcome]
    svg = plots.run_dots(rates, loads, campaign.regimes, about)
    what = about.title[0].upper() + about.title[1:]
    return [Figure("f1-run-dots", f"F1. {what} of each run, joined by block", svg, Table("", columns, padded))]


def _forest(found: Results) -> list[Figure]:
    rows = [row for row in [*found.contrasts, *found.effects] if row.difference is not None]
    if not rows:
        return []
    bars = [
        (_points(row), (100 * row.simultaneous95[0], 100 * row.simultaneous95[1]) if row.simultaneous95 else None)
        for row in rows
    ]
    data = [
        (
            row.load,
            outcome.named(row),
            summary.difference(row),
            _all_together(row),
            row.verdict,
        )
        for row in rows
    ]
    columns = ("load", "contrast", "difference [95 %]", "[all together 95 %]", "verdict")
    about, margin = OUTCOMES[found.primary_outcome], found.campaign.equivalence_margin
    band = (100 * about.off_scale(-about.on_scale(margin)), 100 * margin)
    svg = plots.forest(bars, band, about.several, about.difference_unit)
    return [Figure("f2-forest", f"F2. Differences of {about.several}", svg, Table("", columns, data))]


def _all_together(row: Contrast) -> str:
    low, high = row.simultaneous95 or (None, None)
    return with_interval(row.difference, low, high, points if OUTCOMES[row.outcome].share else more)


def _points(row: Contrast) -> Bars:
    ends = [100 * end for end in row.ci95] if row.ci95 else [None, None]
    return _bar(f"{row.load}: {outcome.named(row)}", 100 * (row.difference or 0.0), *ends)


def _bar(label: str, value: float | None, low: float | None, high: float | None) -> Bars:
    return Bars(label, math.nan if value is None else value, low, high)


def _spreads(campaign: Campaign, digests: Sequence[Digest], load: str) -> list[Spread]:
    found = []
    for regime in campaign.experiment.regimes_of(load):
        mine = in_cell(digests, load, regime)
        if mine:
            pooled = np.sort(np.concatenate([each.latencies_s for each in mine]))
            runs = [(each.latencies_s, each.requests) for each in mine]
            found.append(Spread(regime, runs, pooled, sum(each.requests for each in mine)))
    return found


def _ecdf(campaign: Campaign, digests: Sequence[Digest], load: str) -> Figure:
    spreads = _spreads(campaign, digests, load)
    rows = []
    for each in spreads:
        ranks = [int(np.ceil(share * each.n)) - 1 for share in _SHARES]
        values = [number(float(each.pooled[rank])) if rank < len(each.pooled) else "failed" for rank in ranks]
        rows.append((each.regime, str(each.n), str(each.n - len(each.pooled)), *values))
    columns = ("regime", "requests", "failed", *(f"{share:.0%} within, s" for share in _SHARES))
    svg = plots.latency_ecdf(load, spreads, campaign.regimes)
    notes = ("all runs of a regime together: descriptive",)
    title = f"F3. Latency from the scheduled arrival, {load}"
    return Figure(f"f3-latency-{load}", title, svg, Table("", columns, rows, notes))


def _percentiles(campaign: Campaign, found: Results, digests: Sequence[Digest], load: str) -> list[Figure]:
    shown: dict[str, dict[str, tuple[list[float], Bars]]] = {}
    rows = []
    for cell in (each for each in found.cells if each.load == load and each.runs):
        latency = cell.latency_s
        for name, q in QUANTILES.items():
            if latency.percentile(name)[0] is None:
                continue
            runs = [run_quantile(each, q).value for each in in_cell(digests, load, cell.regime)]
            values = [value for value in runs if value is not None]
            bar = _bar(cell.regime, *latency.percentile(name))
            shown.setdefault(name, {})[cell.regime] = (values, bar)
            mean = with_interval(bar.value, bar.low, bar.high, number)
            rows.append((cell.regime, name, str(len(values)), mean, ", ".join(number(value) for value in values)))
    if not shown:
        return []
    columns = ("regime", "percentile", "runs", "geometric mean, s [95 %]", "of each run, s")
    svg = plots.percentiles(shown, campaign.regimes, load)
    return [Figure(f"f4-percentiles-{load}", f"F4. Percentiles of each run, {load}", svg, Table("", columns, rows))]


def _timelines(campaign: Campaign, digests: Sequence[Digest], load: str) -> list[Figure]:
    """Of the regime with most cold starts, as its first run has them: there is something to see; and of those that
    switch.
    """
    firsts = [mine[0] for regime in campaign.regimes if (mine := in_cell(digests, load, regime))]
    most = max(firsts, key=lambda each: each.cold.invocations[0])
    shown = [most, *(each for each in firsts if each.run.switches and each is not most)]
    return [_timeline(campaign, each.run, f"-{each.run.regime}" * (each is not most)) for each in shown]


def _timeline(campaign: Campaign, run: Run, suffix: str) -> Figure:
    load = run.load
    rows = campaign.rows(run)
    zero_ns, _ = measures.window_ns(rows.requests, run.planned_end_ns)
    samples = (
        rows.replicas.filter(pl.col("ready").is_not_null())
        .group_by("at_ns")
        .agg(pl.col("ready").sum(), pl.col("desired").sum())
        .sort("at_ns")
    )
    marks = [(each.since_ns, each.name) for each in phases.of_traffic(run, campaign.experiment)]
    marks += [(change.requested_at_ns, change.regime) for change in run.switches]
    line = Timeline(
        title=f"{load} / {run.regime}, block {run.block + 1}",
        times_s=(samples["at_ns"].to_numpy() - zero_ns) / 1e9,
        ready=samples["ready"].to_numpy(),
        desired=samples["desired"].to_numpy(),
        limit=sum(run.max_replicas.values()),
        arrivals_s=(rows.requests["scheduled_at_ns"].sort().to_numpy() - zero_ns) / 1e9,
        cold_s=(rows.stages.filter(pl.col("cold"))["sent_at_ns"].sort().to_numpy() - zero_ns) / 1e9,
        phases=[((at_ns - zero_ns) / 1e9, name) for at_ns, name in sorted(marks)],
    )
    changed = [i for i in range(len(samples)) if not i or samples.row(i)[1:] != samples.row(i - 1)[1:]]
    data = [(f"{line.times_s[i]:.1f}", str(line.ready[i]), str(line.desired[i])) for i in changed[:_MOST_ROWS]]
    more = len(changed) - len(data)
    notes = [f"{more} further changes: replicas.jsonl of {run.folder}"] if more else []
    return Figure(
        f"f5-replicas-{load}{suffix}",
        f"F5. Replicas over time in one run, {load}, {run.regime}",
        plots_path.replica_timeline(line),
        Table("", ("since, s", "ready", "all"), data, notes),
    )


def _latency_and_cost(campaign: Campaign, found: Results, digests: Sequence[Digest], load: str) -> list[Figure]:
    cells = [cell for cell in found.cells if cell.load == load and cell.cost_gb_s.provisioned is not None]
    name = next(
        (n for n in ("p95", "p50") if cells and all(c.latency_s.percentile(n)[0] is not None for c in cells)), ""
    )
    if not name:
        return []
    prices, rows = [], []
    for cell in cells:
        cost, latency = cell.cost_gb_s, cell.latency_s
        held = _bar("", cost.provisioned, cost.provisioned_low, cost.provisioned_high)
        seconds = _bar("", *latency.percentile(name))
        prices.append(Price(cell.regime, cost.execution or 0.0, held, seconds))
        rows.append(
            (
                cell.regime,
                with_interval(seconds.value, seconds.low, seconds.high, number),
                number(cost.execution),
                with_interval(held.value, held.low, held.high, number),
                percent(cost.idle_share) if cost.idle_share is not None else "-",
            )
        )
    columns = ("regime", f"{name}, s [95 %]", "GB-s/s executed", "GB-s/s held [95 %]", "idle share")
    spreads = _spreads(campaign, digests, load)
    svg = plots.latency_and_cost(spreads, prices, campaign.regimes, load, name)
    return [Figure(f"f6-latency-cost-{load}", f"F6. Latency against cost, {load}", svg, Table("", columns, rows))]


def _by_stage(campaign: Campaign, found: Results) -> list[Figure]:
    drawn = []
    for load in dict.fromkeys(cell.load for cell in found.cells if cell.path and cell.runs):
        cells = [cell for cell in found.cells if cell.load == load and cell.cold_by_stage]
        shares = {
            cell.regime: {
                stage: Bars(stage, share.estimate or 0.0, share.low, share.high)
                for stage, share in cell.cold_by_stage.items()
            }
            for cell in cells
        }
        rows = [
            (stage, regime, with_interval(bar.value, bar.low, bar.high, percent))
            for regime, each in shares.items()
            for stage, bar in each.items()
        ]
        svg = plots_path.by_stage(shares, campaign.regimes, load)
        table = Table("", ("function", "regime", "cold-start rate [95 %]"), sorted(rows))
        drawn.append(Figure(f"f7-cold-by-stage-{load}", f"F7. Cold-start rate by function, {load}", svg, table))
    return drawn


def _path(campaign: Campaign, found: Results) -> list[Figure]:
    drawn = []
    for load in dict.fromkeys(cell.load for cell in found.cells if cell.path and cell.runs):
        split = {c.regime: c.path.parts_s for c in found.cells if c.load == load and c.path}
        names = told(split.values())
        rows = [(regime, *(f"{parts[name]:.3f}" for name in names)) for regime, parts in split.items()]
        columns = ("regime", *(f"{name.replace('_', ' ')}, s" for name in names))
        title = f"F7. What the critical path's time goes to, {load}"
        drawn.append(Figure(f"f7-path-{load}", title, plots_path.path_parts(split, load), Table("", columns, rows)))
    return drawn


def _waterfalls(campaign: Campaign, digests: Sequence[Digest]) -> list[Figure]:
    shown = waterfalls(campaign, digests)
    if not shown:
        return []
    names = told(bar.parts_s for each in shown for bar in each.bars)
    rows = [
        (
            each.regime,
            each.title,
            bar.label,
            f"{bar.at_s:.3f}",
            "yes" if bar.on_path else "no",
            *(f"{bar.parts_s[name]:.3f}" for name in names),
        )
        for each in shown
        for bar in each.bars
    ]
    columns = ("regime", "request", "invocation", "sent, s", "on the path", *(name.replace("_", " ") for name in names))
    notes = [f"{each.title}, {each.regime}: {each.request_id}" for each in shown]
    title = "F7. Single requests, invocation by invocation (pale: not on the critical path)"
    return [Figure("f7-waterfall", title, plots_path.waterfalls(shown), Table("", columns, rows, notes))]


def _over_timeouts(sweep: Sweep) -> list[Swept]:
    """The sweep's settings with the bounds of the regime that its times are of."""
    bounds = (sweep.min_replicas, sweep.max_replicas)
    return [each for each in sweep.settings if (each.min_replicas, each.max_replicas) == bounds]


def _theory(found: Results) -> list[Figure]:
    cells = [(c, c.cold_rate, c.predicted) for c in found.cells if c.predicted and c.cold_rate.estimate is not None]
    if not cells:
        return []
    measured = [(c.load, p.cold_rate, _bar(c.regime, r.estimate, r.low, r.high)) for c, r, p in cells]
    curves = {
        each.load: tuple(np.array([(s.idle_timeout_s, s.cold_rate, s.held_gb) for s in settings]).T)
        for each in found.sweeps
        if len(settings := _over_timeouts(each)) > 1
    }
    rows = [
        (
            cell.load,
            cell.regime,
            with_interval(rate.estimate, rate.low, rate.high, percent),
            percent(predicted.cold_rate),
            number(cell.cost_gb_s.provisioned),
            number(predicted.held_gb),
        )
        for cell, rate, predicted in cells
    ]
    columns = ("load", "regime", "cold-start rate measured", "simulated", "GB-s/s held, measured", "simulated")
    notes = ("the simulator gets each run's arrivals and draws from its service and start times; nothing else",)
    svg = plots.against_theory(measured, curves)
    return [Figure("f8-theory", "F8. Measured against theory", svg, Table("", columns, rows, notes))]
