"""Recommendations that follow from the verdicts, each with its evidence and with where it stops holding."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.words import number, percent, points, relation, with_interval
from fave.campaign.results import Cell, Contrast, Front, KeptStage, OnFront, Recommendation, Sweep, Swept
from fave.campaign.validity import at_most, below

# What is called few cold starts when an idle timeout is advised.
_FEW_COLD = 0.05
# Points of slow requests that are called as quick.
_FEW_SLOW = 0.01
# Share of the mean request that is worth keeping a function warm for.
_WORTH_SAVING = 0.05
# How far the simulator may be off, in cold-start rate and share of slow requests, to be believed about settings that
# were not run: so much, and by less than this share of what it advises on.
_CREDIBLE, _OF_EFFECT = 0.10, 0.5
# A regime that fails so much more than another, as a share of requests, is not recommended.
_FEW_FAILURES = 0.01
_ALPHA = 0.05
# The same difference in every block is one, though there is no variance to test it against.
_SHOWN = ("different", "different-within-margin", "degenerate")


def recommendations(
    cells: Sequence[Cell],
    contrasts: Sequence[Contrast],
    fronts: Sequence[Front],
    sweeps: Sequence[Sweep],
    kept: Sequence[KeptStage],
) -> list[Recommendation]:
    """fronts: without the regimes in which more requests fail than in another of their load; a sentence says that."""
    warnings = failing(cells, contrasts)
    sound = [cell for cell in cells if (cell.load, cell.regime) not in warnings]
    found = [r for front in fronts if (r := _front(front, contrasts))]
    found += [r for sweep in sweeps if (r := _setting(sweep, sound))]
    # Of each load the regime with most cold starts: in the others little is left to save.
    worst = {cell.load: cell for cell in sorted(sound, key=lambda cell: cell.cold_rate.estimate or 0.0)}
    found += [r for cell in worst.values() if (r := _stage(cell, kept))]
    return found + list(warnings.values())


def failing(cells: Sequence[Cell], contrasts: Sequence[Contrast]) -> dict[tuple[str, str], Recommendation]:
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


def _front(front: Front, contrasts: Sequence[Contrast]) -> Recommendation | None:
    """The regimes that no other one beats; only where some difference is shown."""
    mine = [row for row in contrasts if row.load == front.load and row.difference]
    shown = [row for row in mine if row.verdict in _SHOWN]
    best = [each for each in front.regimes if not each.beaten_by]
    beaten = [f"{each.regime} by {each.beaten_by}" for each in front.regimes if each.beaten_by]
    if not shown:
        return None
    criteria = {"": "cold starts and memory held", "slow_rate": "cold starts, slow requests and memory held"}.get(
        front.slow, "cold starts, p95 and memory held"
    )
    points = "; ".join(_point(each, front.slow) for each in best)
    head = (
        f"Under {front.load} traffic {best[0].regime} is as good as any other regime, or better, in each of {criteria}"
        if len(best) == 1
        else f"Under {front.load} traffic choose among {len(best)} regimes that no other one beats in {criteria} "
        "together, cheapest first"
    )
    return Recommendation(
        text=f"{head}: {points}." + (f" Beaten: {', '.join(beaten)}." if beaten else ""),
        evidence=f"by estimates; shown to differ are {_shown(shown)}",
        holds="at the rate and in the order of arrivals that were offered; the sweep says what other settings would do",
    )


def _point(each: OnFront, slow: str) -> str:
    said = {"": "", "slow_rate": f", {percent(each.slow or 0.0)} slow", "p95": f", p95 {number(each.slow)} s"}[slow]
    return f"{each.regime} ({percent(each.cold_rate)} cold{said}, {number(each.held_gb)} GB)"


def _shown(rows: Sequence[Contrast]) -> str:
    names = ", ".join(f"{row.a} - {row.b}" for row in rows)
    highest = max((row.p_holm for row in rows if row.p_holm is not None), default=None)
    blocks = min(row.blocks for row in rows)
    exploratory = ", exploratory" * any(row.exploratory for row in rows)
    tested = f"Holm p {relation(highest).replace('=', 'up to')}, " if highest is not None else ""
    return f"{names} ({tested}{blocks} blocks{exploratory})"


def _setting(sweep: Sweep, cells: Sequence[Cell]) -> Recommendation | None:
    """The cheapest simulated setting with few cold starts, if the simulator was right about what was measured."""
    cell = next((c for c in cells if (c.load, c.regime) == (sweep.load, sweep.regime)), None)
    few = [each for each in sweep.settings if at_most(each.high or each.cold_rate, _FEW_COLD)]
    few = [each for each in few if _as_quick(each, sweep, cells)]
    if cell is None or cell.cold_rate.estimate is None or not few:
        return None
    best: Swept = min(few, key=lambda each: (each.held_gb, each.cold_rate, each.max_replicas))
    told = [(sweep.off, cell.cold_rate.estimate - best.cold_rate)]
    slow = cell.slow_rate.rate.estimate if cell.slow_rate else None
    if sweep.off_slow is not None and slow is not None and best.slow_rate is not None:
        told.append((sweep.off_slow, slow - best.slow_rate))
    if not all(_credible(off, promised) for off, promised in told):
        return None
    missed = f" (slow requests {_plain(told[1][0])})" if told[1:] else ""
    now = cell.cost_gb_s.provisioned
    return Recommendation(
        text=f"Under {sweep.load} traffic the cheapest setting with at most {percent(_FEW_COLD)} cold starts is "
        f"simulated to be {_named(best)}: {percent(best.cold_rate)} cold, {number(best.held_gb)} GB held"
        + (f" ({sweep.regime}: {percent(cell.cold_rate.estimate)}, {number(now)} GB)." if now is not None else "."),
        evidence=f"simulated on the arrivals and times of {sweep.runs} run{'s' * (sweep.runs != 1)}; measured "
        f"cold-start rates of this load are missed by at most {_plain(sweep.off)} points{missed}, less than half of "
        "what is promised",
        holds="as long as arrivals keep their rate and the lengths of their gaps: a timeout counts in mean gaps",
    )


def _credible(off: float, promised: float) -> bool:
    return below(off, min(_CREDIBLE, _OF_EFFECT * promised))


def _plain(share: float) -> str:
    return points(share).lstrip("+")


def _named(each: Swept) -> str:
    if each.min_replicas == each.max_replicas:
        return f"a minimum and a maximum of {each.min_replicas}, whatever the idle timeout"
    return (
        f"a minimum of {each.min_replicas}, a maximum of {each.max_replicas} and an idle timeout of "
        f"{number(each.idle_timeout_s)} s ({number(each.per_mean_gap)} mean gaps)"
    )


def _as_quick(each: Swept, sweep: Sweep, cells: Sequence[Cell]) -> bool:
    """About as quick as the best measured regime; where nothing is known of that, with the same maximum."""
    slow = [c.slow_rate.rate.estimate for c in cells if c.load == sweep.load and c.slow_rate]
    known = [share for share in slow if share is not None]
    if not known or each.slow_rate is None:
        return each.max_replicas == sweep.max_replicas
    return at_most(each.slow_rate, min(known) + _FEW_SLOW)


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
            f"{number(check.measured_extra_gb)} GB ({check.blocks} blocks)"
        )
    return Recommendation(
        text=f"To keep a single function warm in {cell.regime} ({cell.load}), choose {best.function}: "
        f"it saves {seconds} s per request and costs {number(best.extra_gb)} GB more, "
        f"{number(best.saved_s_per_gb_s)} s per GB-s, the most where at least {percent(_WORTH_SAVING)} is saved.",
        evidence=f"critical paths of {cell.path.requests} requests, its cold wait taken away{measured}",
        holds="while its cold start lies on the critical path: one on a branch that another outlasts saves nothing",
    )
