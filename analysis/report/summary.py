"""The results in words and plain tables: for the terminal, the Markdown report and the heading of the HTML one."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.outcome import named
from analysis.words import more, number, p_value, percent, points, relation, with_interval
from fave.campaign.outcomes import OUTCOMES
from fave.campaign.results import Beside, Cell, Contrast, Guard, Latency, Results, WithExcluded

CELL_COLUMNS = (
    "load",
    "regime",
    "runs",
    "requests",
    "failed [95 %]",
    "cold-start rate [95 %]",
    "p50 s",
    "p95 s",
    "ready",
    "GB-s/s exec / held",
)
CONTRAST_COLUMNS = (
    "load",
    "contrast",
    "difference [95 %]",
    "p",
    "p Holm",
    "p sign-flip",
    "blocks",
    "failures [95 %]",
    "verdict",
)


BY_TIME_COLUMNS = ("load", "regime", "cold-start rate, first 30 s [95 %]", "cold-start rate, later [95 %]")
GUARD_COLUMNS = ("load", "arm", "outcome", "difference [95 %]", "margin", "p worse", "p within", "result")
THRESHOLD_COLUMNS = ("threshold", "load", "regime", "observed", "result")

LEGEND = (
    "cold-start rate: share of all arrivals, with an interval over runs (requests of a run depend on each other); "
    "where every run has none, the upper end is a bound that counts ten requests as one. p50, p95: latency from the "
    "scheduled arrival; with a ? in some run on the jump between warm and cold requests, where it is either by chance. "
    "failed: refused, dropped, timed out or lost; such an arrival might have been warm or cold, so "
    "the cold-start rate's interval reaches from one to the other. ready: replicas of all functions together, averaged "
    "over a run. GB-s per second: while executing / while replicas are there. A block is one run of each regime with "
    "the same schedule; differences are paired by block, of shares in percentage points, of other figures in per cent."
)


def cell_rows(results: Results) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for cell in results.cells:
        rate, latency, cost = cell.cold_rate, cell.latency_s, cell.cost_gb_s
        rows.append(
            (
                cell.load,
                cell.regime,
                str(cell.runs),
                str(cell.requests),
                failures(cell),
                with_interval(rate.estimate, rate.low, rate.high, percent),
                percentile(latency, "p50"),
                percentile(latency, "p95"),
                number(cell.ready_replicas_mean),
                f"{number(cost.execution)} / {number(cost.provisioned)}",
            )
        )
    return rows


def percentile(latency: Latency, name: str) -> str:
    """In seconds; never bare where it is one thing or another by chance."""
    return number(latency.percentile(name)[0]) + "?" * (name in latency.near_jump)


def failures(cell: Cell) -> str:
    """Share of the requests that were not answered."""
    rate = cell.failure_rate
    return with_interval(rate.estimate, rate.low, rate.high, percent)


def _failure_difference(row: Contrast) -> str:
    """In points."""
    if row.failures is None:
        return "-"
    low, high = row.failures.ci95 or (None, None)
    return with_interval(row.failures.estimate, low, high, points)


def contrast_rows(contrasts: Sequence[Contrast]) -> list[tuple[str, ...]]:
    return [
        (
            row.load,
            named(row),
            difference(row),
            p_value(row.p),
            p_value(row.p_holm),
            p_value(row.p_sign_flip),
            str(row.blocks),
            _failure_difference(row),
            row.verdict + (", exploratory" if row.exploratory else ""),
        )
        for row in contrasts
    ]


def contrasts_title(outcome: str) -> str:
    return f"Contrasts of {OUTCOMES[outcome].several}"


def by_time_rows(results: Results) -> list[tuple[str, ...]]:
    """Of the cells whose runs are long enough."""
    return [
        (
            cell.load,
            cell.regime,
            *(
                with_interval(part.estimate, part.low, part.high, percent)
                for part in (cell.cold_rate_by_time[name] for name in ("first_30_s", "after_30_s"))
            ),
        )
        for cell in results.cells
        if cell.cold_rate_by_time and cell.runs
    ]


def threshold_rows(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            each.threshold,
            each.load,
            each.regime,
            number(each.observed),
            each.state + (f" ({each.reason})" if each.reason else ""),
        )
        for each in results.thresholds
    ]


def guard_rows(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            each.load,
            f"{each.a} - {each.b}",
            OUTCOMES[each.outcome].title,
            difference(each),
            f"{each.margin * 100:g}",
            p_value(each.p_worse),
            p_value(each.p_within),
            each.state + (f" ({each.reason})" if each.reason else ""),
        )
        for each in results.guards
    ]


def sentences(results: Results) -> list[str]:
    """One sentence per contrast, in the words of its verdict; another with the runs that were excluded."""
    return [said for row in [*results.contrasts, *results.effects] for said in (_sentence(row), *_with_excluded(row))]


def _against(row: Contrast) -> str:
    return f"{row.a} against {row.b}" if row.b else f"interaction {row.a}"


def _with_excluded(row: Contrast) -> list[str]:
    other = row.with_excluded
    if not other:
        return []
    head = f"{row.load}: {_against(row)}"
    runs = f"{other.runs} excluded run{'s' * (other.runs != 1)}"
    same = "still " * (other.verdict == row.verdict)
    return [f"{head} with {runs} put back: {same}{other.verdict}, {difference(other, row.outcome)}."]


def _sentence(row: Contrast) -> str:
    head = f"{row.load}: {_against(row)}"
    if row.difference is None:
        return f"{head}: not compared ({row.reason})."
    shown = difference(row)
    mark = " (exploratory)" if row.exploratory else ""
    margin = f"±{row.margin * 100:g} {OUTCOMES[row.outcome].difference_unit}"
    said = {
        "different": f"the {OUTCOMES[row.outcome].title} differs by {shown}, Holm p {relation(row.p_holm)}",
        "equivalent": f"equivalent within {margin} ({shown})",
        "different-within-margin": f"differs by {shown}, but stays within {margin}",
        "inconclusive": f"no verdict: {shown}, Holm p {relation(row.p_holm)}; "
        "neither difference nor equivalence is shown",
        "degenerate": _constant(row),
    }
    return f"{head}: {said[row.verdict]}{mark}{_unlabelled(row)}."


def _unlabelled(row: Contrast) -> str:
    if not row.bounds:
        return ""
    low, high = (points(end) for end in row.bounds)
    return f"; {row.unlabelled:.4g} without a label might have been warm or cold, which gives {low} to {high}"


def _constant(row: Contrast) -> str:
    if row.difference == 0:
        return "no difference in any block; with no variance there is nothing to test"
    return f"the same difference in every block ({difference(row)}), sign-flip p {relation(row.p_sign_flip)}"


def difference(row: Contrast | Guard | WithExcluded | Beside, outcome: str = "") -> str:
    """Of a contrast: in percentage points (which is not said) of a share, else in per cent. outcome: where the row does
    not say it.
    """
    low, high = row.ci95 or (None, None)
    shares = OUTCOMES[row.outcome if isinstance(row, Contrast | Guard) else outcome].share
    return with_interval(row.difference, low, high, points if shares else more)
