"""Recommendations that follow from the verdicts, each with its evidence and with where it stops holding."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.answers import BreakEven, Cell, Contrast, IdleTimeout, IdleTimeouts, KeptStage, Recommendation
from analysis.words import number, percent, points, relation, with_interval
from fave.validity import at_most, below

# What is called few cold starts when an idle timeout is advised.
_FEW_COLD = 0.05
# Share of the mean request that is worth keeping a function warm for.
_WORTH_SAVING = 0.05
# Regimes that hold so much more than the cheapest are called as cheap.
_SAME_COST = 0.05
# How far the simulator may be off, in cold-start rate, to be believed about settings that were not run.
_CREDIBLE = 0.10
# A regime that fails so much more than another, as a share of requests, is not recommended.
_FEW_FAILURES = 0.01
_ALPHA = 0.05
# The same difference in every block is one, though there is no variance to test it against.
_SHOWN = ("different", "different-within-margin", "degenerate")


def recommendations(
    cells: Sequence[Cell],
    contrasts: Sequence[Contrast],
    even: Sequence[BreakEven],
    curves: Sequence[IdleTimeouts],
    kept: Sequence[KeptStage],
) -> list[Recommendation]:
    """Never for a regime in which more requests fail than in another of its load; instead a sentence says that."""
    loads = list(dict.fromkeys(cell.load for cell in cells))
    failing = _failing(cells, contrasts)
    sound = [cell for cell in cells if (cell.load, cell.regime) not in failing]
    found = [r for load in loads if (r := _regime(load, sound, contrasts, even))]
    found += [r for curve in curves if (r := _idle_timeout(curve, sound))]
    # Of each load the regime with most cold starts: in the others little is left to save.
    worst = {cell.load: cell for cell in sorted(sound, key=lambda cell: cell.cold_rate.estimate or 0.0)}
    found += [r for cell in worst.values() if (r := _stage(cell, kept))]
    return found + list(failing.values())


def _failing(cells: Sequence[Cell], contrasts: Sequence[Contrast]) -> dict[tuple[str, str], Recommendation]:
    """By load and regime: what fails more than another regime of the load, by over a point or by test."""
    by_test = {
        (row.load, *((row.a, row.b) if row.failures.estimate > 0 else (row.b, row.a)))
        for row in contrasts
        if row.failures and row.failures.p is not None and below(row.failures.p, _ALPHA)
    }
    found: dict[tuple[str, str], Recommendation] = {}
    for cell in cells:
        others = [each for each in cells if each.load == cell.load and each.failure_rate.estimate is not None]
        least = min(others, key=lambda each: each.failure_rate.estimate or 0.0, default=cell)
        apart = (cell.failure_rate.estimate or 0.0) - (least.failure_rate.estimate or 0.0)
        than = (
            least.regime
            if below(_FEW_FAILURES, apart)
            else next((each.regime for each in others if (cell.load, cell.regime, each.regime) in by_test), None)
        )
        if than is not None:
            found[cell.load, cell.regime] = _not_recommended(cell, next(o for o in others if o.regime == than))
    return found


def _not_recommended(cell: Cell, other: Cell) -> Recommendation:
    return Recommendation(
        text=f"Under {cell.load} traffic {cell.regime} is not recommended for anything: {_failed(cell)} of its "
        f"requests failed, {_failed(other)} in {other.regime}.",
        evidence="a request that was refused or lost is no warm one, whatever the cold-start rate of the others",
        holds="until its failures are mended: the report's anomalies say what they were",
    )


def _failed(cell: Cell) -> str:
    rate = cell.failure_rate
    return with_interval(rate.estimate, rate.low, rate.high, percent)


def _regime(
    load: str, cells: Sequence[Cell], contrasts: Sequence[Contrast], even: Sequence[BreakEven]
) -> Recommendation | None:
    """Of the regimes that are shown to have fewer cold starts than the one with most, the cheapest; of as cheap ones
    the one with fewest.
    """
    mine = [cell for cell in cells if cell.load == load and cell.runs and cell.cold_rate.estimate is not None]
    known = {cell.regime for cell in mine}
    held = {cell.regime: cell.cost_gb_s.provisioned for cell in mine}
    most = max(mine, key=lambda cell: cell.cold_rate.estimate or 0.0).regime if mine else ""
    better: list[tuple[float, str, Contrast]] = []
    for row in contrasts:
        if row.load != load or row.verdict not in _SHOWN or not row.risk_difference or not {row.a, row.b} <= known:
            continue
        fewer, more = (row.b, row.a) if row.risk_difference > 0 else (row.a, row.b)
        if more == most and held.get(fewer) is not None:
            better.append((held[fewer] or 0.0, fewer, row))
    if not better:
        return None
    shares = {cell.regime: cell.cold_rate for cell in mine}
    least = min(better, key=lambda each: each[0])[0]
    enough = [each for each in better if at_most(each[0], (1 + _SAME_COST) * least)]
    cost, regime, row = min(enough, key=lambda each: (shares[each[1]].estimate or 0.0, *each[:2]))
    worst = row.a if regime == row.b else row.b
    before = held.get(worst)
    times = cost / before if before else None
    point = next((each for each in even if (each.load, each.a, each.b) == (load, worst, regime)), None)
    return Recommendation(
        text=f"Under {load} traffic prefer {regime} to {worst} where cold starts matter: "
        f"{percent(shares[regime].estimate or 0.0)} instead of {percent(shares[worst].estimate or 0.0)} cold"
        + (f", for {number(times)} times the memory held." if times else "."),
        evidence=f"{row.a} - {row.b}: {_difference(row)} points, "
        f"Holm p {relation(row.p_holm)}, {row.blocks} blocks{', exploratory' if row.exploratory else ''}",
        holds=_until(point, worst, regime),
    )


def _difference(row: Contrast) -> str:
    low, high = row.ci95 or (None, None)
    return with_interval(row.risk_difference, low, high, points)


def _until(point: BreakEven | None, zero: str, kept: str) -> str:
    if point is None or point.rate_per_s is None:
        return f"at the rate that was offered; what {zero} and {kept} hold was compared at no other"
    bounds = with_interval(point.rate_per_s, point.low, point.high, number)
    return (
        f"as long as fewer cold starts are worth memory: {zero} holds less up to {bounds} requests a second or more "
        f"(in proportion from the {number(point.offered_rate_per_s)}/s offered), the less the more share replicas"
    )


def _idle_timeout(curve: IdleTimeouts, cells: Sequence[Cell]) -> Recommendation | None:
    """The shortest simulated timeout with few cold starts, if the simulator was right about what was measured."""
    cell = next((c for c in cells if (c.load, c.regime) == (curve.load, curve.regime)), None)
    if cell is None or cell.predicted is None or cell.cold_rate.estimate is None:
        return None
    off = abs(cell.predicted.cold_rate - cell.cold_rate.estimate)
    best: IdleTimeout | None = next(
        (each for each in curve.curve if at_most(each.high or each.cold_rate, _FEW_COLD)), None
    )
    if not at_most(off, _CREDIBLE) or best is None:
        return None
    now = cell.cost_gb_s.provisioned
    return Recommendation(
        text=f"Under {curve.load} traffic an idle timeout of {number(best.idle_timeout_s)} s "
        f"({number(best.per_mean_gap)} mean gaps) brings the cold-start rate of a function that scales to zero below "
        f"{percent(_FEW_COLD)}: {percent(best.cold_rate)}, holding {number(best.held_gb_s)} GB-s a run"
        + (f" (now {number(now)})." if now is not None else "."),
        evidence=f"simulated on the arrivals and times of {curve.runs} run{'s' * (curve.runs != 1)}; it gives "
        f"{percent(cell.predicted.cold_rate)} where {percent(cell.cold_rate.estimate)} were measured ({curve.regime})",
        holds="as long as the gaps between arrivals keep their length: it is their ratio that counts, not the timeout",
    )


def _stage(cell: Cell, kept: Sequence[KeptStage]) -> Recommendation | None:
    if cell.path is None or not cell.path.keep_warm:
        return None
    worth = _WORTH_SAVING * cell.path.response_s
    best = next((each for each in cell.path.keep_warm if each.saved_s_per_gb_s and at_most(worth, each.saved_s)), None)
    if best is None:
        return None
    check = next((k for k in kept if (k.load, k.a, k.function) == (cell.load, cell.regime, best.function)), None)
    seconds = with_interval(best.saved_s, best.saved_low_s, best.saved_high_s, number)
    measured = ""
    if check:
        measured = (
            f"; measured with {check.b}: {with_interval(check.measured_s, check.low_s, check.high_s, number)} s, "
            f"{number(check.measured_extra_gb_s)} GB-s ({check.blocks} blocks)"
        )
    return Recommendation(
        text=f"To keep a single function warm in {cell.regime} ({cell.load}), choose {best.function}: "
        f"it saves {seconds} s per request and costs {number(best.extra_gb_s)} GB-s more per run, "
        f"{number(best.saved_s_per_gb_s)} s per GB-s, the most where at least {percent(_WORTH_SAVING)} is saved.",
        evidence=f"critical paths of {cell.path.requests} requests, its cold wait taken away{measured}",
        holds="while its cold start lies on the critical path: one on a branch that another outlasts saves nothing",
    )
