"""The results in words and plain tables: for the terminal, the Markdown report and the heading of the HTML one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CELL_COLUMNS = (
    "load",
    "regime",
    "runs",
    "requests",
    "failed",
    "cold share [95 %]",
    "p50 s",
    "p95 s",
    "ready",
    "GB-s exec / prov",
)
CONTRAST_COLUMNS = ("load", "contrast", "difference, points [95 %]", "p", "p Holm", "p sign-flip", "blocks", "verdict")


BY_TIME_COLUMNS = ("load", "regime", "cold share, first 30 s [95 %]", "cold share, later [95 %]")
THRESHOLD_COLUMNS = ("threshold", "load", "regime", "observed", "result")

LEGEND = (
    "cold share: mean over runs; where every run has none, the upper end is a bound that counts ten requests as one "
    "(requests of a run depend on each other). p50, p95: latency from the scheduled arrival. ready: replicas of all "
    "functions together, averaged over a run. GB-s: per run, while executing / while held. A block is one run of each "
    "regime with the same schedule; differences are in percentage points, paired by block."
)


def cell_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for cell in results["cells"]:
        rate, latency, cost = cell["cold_rate"], cell["latency_s"], cell["cost_gb_s"]
        rows.append(
            (
                cell["load"],
                cell["regime"],
                str(cell["runs"]),
                str(cell["requests"]),
                str(cell["failures"]),
                with_interval(rate["estimate"], rate["low"], rate["high"], percent),
                number(latency["p50"]),
                number(latency["p95"]),
                number(cell["ready_replicas_mean"]),
                f"{number(cost['execution'])} / {number(cost['provisioned'])}",
            )
        )
    return rows


def contrast_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            row["load"],
            f"{row['a']} - {row['b']}",
            _difference(row),
            p_value(row["p"]),
            p_value(row["p_holm"]),
            p_value(row["p_sign_flip"]),
            str(row["blocks"]),
            row["verdict"] + (", exploratory" if row["exploratory"] else ""),
        )
        for row in results["contrasts"]
    ]


def by_time_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Of the cells whose runs are long enough."""
    return [
        (
            cell["load"],
            cell["regime"],
            *(
                with_interval(part["estimate"], part["low"], part["high"], percent)
                for part in (cell["cold_rate_by_time"][name] for name in ("first_30_s", "after_30_s"))
            ),
        )
        for cell in results["cells"]
        if cell["cold_rate_by_time"] and cell["runs"]
    ]


def threshold_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            each["threshold"],
            each["load"],
            each["regime"],
            number(each["observed"]),
            each["state"] + (f" ({each['reason']})" if each["reason"] else ""),
        )
        for each in results["thresholds"]
    ]


def findings(results: dict[str, Any]) -> list[str]:
    """One sentence per contrast, in the words of its verdict."""
    return [_sentence(row) for row in results["contrasts"]]


def _sentence(row: dict[str, Any]) -> str:
    head = f"{row['load']}: {row['a']} against {row['b']}"
    if row["risk_difference"] is None:
        return f"{head}: not compared ({row['reason']})."
    difference = _difference(row)
    mark = " (exploratory)" if row["exploratory"] else ""
    margin = f"±{row['margin'] * 100:g} points"
    said = {
        "different": f"the cold share differs by {difference}, Holm p {_relation(row['p_holm'])}",
        "equivalent": f"equivalent within {margin} ({difference})",
        "different-within-margin": f"differs by {difference}, but stays within {margin}",
        "inconclusive": f"no verdict: {difference}, Holm p {_relation(row['p_holm'])}; "
        "neither difference nor equivalence is shown",
        "degenerate": _constant(row),
    }
    return f"{head}: {said[row['verdict']]}{mark}."


def _constant(row: dict[str, Any]) -> str:
    if row["risk_difference"] == 0:
        return "no difference in any block; with no variance there is nothing to test"
    difference = points(row["risk_difference"])
    return f"the same difference in every block ({difference}), sign-flip p {_relation(row['p_sign_flip'])}"


def _difference(row: dict[str, Any]) -> str:
    low, high = row["ci95"] or (None, None)
    return with_interval(row["risk_difference"], low, high, points)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be, numbers to the right."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        cells = [row[i].ljust(widths[i]) if i < 2 else row[i].rjust(widths[i]) for i in range(len(columns))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(columns), line(["-" * width for width in widths]), *(line(row) for row in rows)])


def with_interval(value: float | None, low: float | None, high: float | None, style: Any) -> str:
    if value is None:
        return "-"
    return f"{style(value)} [{style(low)}, {style(high)}]" if low is not None and high is not None else style(value)


def percent(value: float) -> str:
    return f"{value * 100:.1f} %"


def points(value: float) -> str:
    """A difference of rates, in percentage points."""
    return f"{value * 100:+.1f}"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _relation(p: float | None) -> str:
    """`= .012` or `< .001`, to follow a p in a sentence."""
    said = p_value(p)
    return said if said.startswith("<") else f"= {said}"


def p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"
