"""The tables of a report, from results.json; those that a campaign has nothing for are left out."""

from __future__ import annotations

from analysis import outcome
from analysis.answers import capacity, controls, memory
from analysis.report import summary
from analysis.rows import fidelity
from analysis.rows.path import told
from analysis.words import Table, number, p_value, percent, ratio, with_interval
from fave.campaign.outcomes import OUTCOMES
from fave.campaign.results import PhaseFigures, Ratio, RatioContrast, Results


def tables(found: Results) -> list[Table]:
    """All but design and set-up, in the order of the report."""
    every = (
        Table("Cells", summary.CELL_COLUMNS, summary.cell_rows(found), [summary.LEGEND, *_reasons(found)]),
        Table(
            summary.contrasts_title(found.primary_outcome),
            summary.CONTRAST_COLUMNS,
            summary.contrast_rows(found.contrasts),
            _CONTRAST_NOTES if OUTCOMES[found.primary_outcome].share else _RATIO_NOTES,
        ),
        _effects(found),
        _variates(found),
        _secondary(found),
        _sizes(found),
        _slow(found),
        _ratios(found),
        _front(found),
        _cost(found),
        memory.table(found.memory),
        _break_even(found),
        _levels(found),
        Table("The first 30 seconds apart", summary.BY_TIME_COLUMNS, summary.by_time_rows(found)),
        _path(found),
        _keep_warm(found),
        _kept(found),
        _sweep(found),
        _switches(found),
        _phases(found),
        Table("Controls", controls.COLUMNS, controls.rows(found.controls), controls.notes(found.controls), True),
        Table("Thresholds", summary.THRESHOLD_COLUMNS, summary.threshold_rows(found), words=True),
        Table("Is an arm worse?", summary.GUARD_COLUMNS, summary.guard_rows(found), [_GUARD_NOTE]),
        Table("Capacity", capacity.COLUMNS, capacity.rows(found.capacity), words=True),
        _anomalies(found),
    )
    return [table for table in every if table.rows]


def validity(found: Results) -> list[Table]:
    """Exclusions and gates; the load as it left."""
    excluded = [(each.cell, "; ".join(each.reasons)) for each in found.validity.excluded]
    gates = [(name, f"{limit:g}") for name, limit in found.validity.gates.items()]
    return [
        Table("Excluded runs", ("cell", "why"), excluded or [("none", "every finished run is used")], words=True),
        Table("Gates", ("gate", "limit"), gates, words=True),
        Table("Load as sent", fidelity.COLUMNS, fidelity.rows(found.load_as_sent), [_AS_SENT]),
    ]


_CONTRAST_NOTES = (
    "difference: of the shares of all arrivals. p: CR2 with blocks as clusters (the paired t where all runs have the "
    "same number of arrivals); with looks the least over them, each divided by the look's share of alpha. Adjusted by "
    "Holm over all that is planned. Beside it the exact sign-flip permutation test, whose p is 2 / 2^blocks at least. "
    "Tests that take requests for independent raise false alarms (docs/methodology.md).",
)
_RATIO_NOTES = (
    "difference: by how much a is more than b, a / b - 1 of geometric means over runs. p: paired t over log ratios; "
    "with looks the least over them, each divided by the look's share of alpha. Adjusted by Holm over all "
    "that is planned. Beside it the exact sign-flip permutation test, whose p is 2 / 2^blocks at least.",
)
_GUARD_NOTE = (
    "worse: signs of whole blocks flipped in all outcomes at once, so that an arm that is not worse in any is called "
    "so in 5 % of campaigns. within: less than the margin worse, each outcome at 5 %"
)
_AS_SENT = (
    "over all runs of a cell: counts added up, otherwise the worst run. Rate and gaps compare when arrivals left with "
    "when the schedule wanted them; gap KS is the largest distance between the two distributions of gaps, beyond 5 ms"
)


def _reasons(found: Results) -> list[str]:
    """Why figures are missing, each reason once; what has no label in one line for all cells.

    What that does to a contrast stands in its sentence.
    """
    reasons = [cell.latency_s.reason for cell in found.cells]
    reasons += [cell.cold_rate.reason for cell in found.cells]
    reasons += [row.reason for row in found.contrasts if not row.unlabelled]
    told = dict.fromkeys(part for reason in reasons for part in reason.split("; ") if part)
    unknown = [
        f"{cell.load} {cell.regime} {cell.cold_rate.unknown:.4g}" for cell in found.cells if cell.cold_rate.unknown
    ]
    widened = [f"without a label, which widens the interval: {', '.join(unknown)}"] if unknown else []
    return [part for part in told if "without a label" not in part] + widened


def _sizes(found: Results) -> Table:
    rows = [
        (
            row.load,
            f"{row.a} - {row.b}",
            f"{row.hodges_lehmann * 100:+.1f}",
            f"{row.cliffs_delta:+.2f}",
            _ratio(row.rate_ratio),
            p_value(row.p_equivalence),
            p_value(row.p_equivalence_holm),
            f"±{row.margin * 100:g}",
        )
        for row in found.contrasts
        if row.hodges_lehmann is not None
    ]
    columns = (
        "load",
        "contrast",
        "Hodges-Lehmann, points",
        "Cliff's delta",
        "rate ratio [95 %]",
        "p equivalence",
        "p equivalence, Holm",
        "margin",
    )
    return Table("How large the differences are", columns, rows)


def _ratio(each: Ratio | None) -> str:
    return "-" if each is None else ratio(each.estimate, each.low, each.high)


def _ratios(found: Results) -> Table:
    """Planned contrasts only; the mean stands for the percentiles that n does not support."""
    rows = [
        (
            each.load,
            f"{each.a} / {each.b}",
            each.figure + "?" * _on_jump(found, each),
            _ratio(each.ratio),
            p_value(each.ratio.p),
            str(each.ratio.n) + (", exploratory" if each.exploratory else ""),
        )
        for each in found.ratios
    ]
    notes = [
        "ratios of geometric-mean run percentiles, of means and of memory held, paired by block; secondary: p is not "
        "adjusted, there is no verdict. ?: in one of the two on the jump between warm and cold requests, where a "
        "percentile is either by chance"
    ]
    return Table("Latency and cost as ratios", ("load", "a / b", "figure", "ratio [95 %]", "p", "blocks"), rows, notes)


def _on_jump(found: Results, row: RatioContrast) -> bool:
    mine = [c for c in found.cells if c.load == row.load and c.regime in (row.a, row.b)]
    return any(row.figure in cell.latency_s.near_jump for cell in mine)


def _cost(found: Results) -> Table:
    cells = [(cell, cell.cost_gb_s) for cell in found.cells if cell.cost_gb_s.provisioned is not None]
    priced = any(cost.money for _, cost in cells)
    rows = []
    for cell, cost in cells:
        row = [
            cell.load,
            cell.regime,
            number(cost.execution),
            with_interval(cost.provisioned, cost.provisioned_low, cost.provisioned_high, number),
            percent(cost.idle_share),
            number(cost.per_request_gb_s),
            number(cost.per_hour_gb_s),
            "-" if cell.generator_cpu_share is None else percent(cell.generator_cpu_share),
        ]
        if priced:
            money = cost.money
            all_three = (
                (money.executed_per_1000_requests, money.held_per_1000_requests, money.held_per_hour) if money else ()
            )
            row += [f"{each:.4g}" for each in all_three] or ["-"] * 3
        rows.append(tuple(row))
    columns = [
        "load",
        "regime",
        "executed GB-s/s",
        "held GB-s/s [95 %]",
        "idle share",
        "held GB-s a request",
        "held GB-s an hour",
        "generator's CPU",
    ]
    notes = [
        "GB-s per second of the planned window. held: all replicas from their start to their end, idle, starting and "
        "draining included"
    ]
    if priced and found.prices:
        prices = found.prices
        unit = prices.currency
        columns += [f"{unit} per 1000, per use", f"{unit} per 1000, held", f"{unit} an hour, held"]
        notes.append(f"prices: {prices.name} {prices.version} ({prices.source})")
    return Table("Cost", columns, rows, notes)


def _break_even(found: Results) -> Table:
    rows = [
        (
            each.load,
            f"{each.a}, {each.b}",
            number(each.offered_rate_per_s),
            _ratio(each.held_ratio),
            with_interval(each.rate_per_s, each.low, each.high, number)
            if each.rate_per_s or not each.n
            else f"none up to {number(each.up_to_per_s)}",
            f"{each.crossing} of {each.n}" if each.n else "not simulated",
        )
        for each in found.break_even
    ]
    columns = ("load", "to zero, kept", "offered /s", "held, ratio [95 %]", "break-even /s [95 %]", "in blocks")
    note = (
        "break-even: from which arrival rate on the one that scales to zero holds as much, simulated: each block's "
        "arrivals in less time, until it holds all the replicas that it may. held, ratio: as measured, paired by block"
    )
    return Table("Break-even arrival rate", columns, rows, [note])


def _levels(found: Results) -> Table:
    rows = []
    for cell in (each for each in found.cells if each.runs):
        levels = cell.levels
        every = (levels.request, levels.invocation, levels.on_path, levels.first_use, levels.triggered)
        grades = ", ".join(f"{name} {count}" for name, count in levels.evidence.items())
        rows.append((cell.load, cell.regime, *(percent(each.estimate) for each in every), grades))
    columns = (
        "load",
        "regime",
        "requests",
        "invocations",
        "critical paths",
        "first uses",
        "triggered",
        "labels by evidence",
    )
    note = (
        "requests with a cold invocation; invocations whose replica was not ready when they were sent; requests with a "
        "cold wait on their critical path; a replica's first invocations; invocations that a replica was started for; "
        "all of those that have a label"
    )
    return Table("Cold starts by level", columns, rows, [note])


def _path(found: Results) -> Table:
    parts = told(cell.path.parts_s for cell in found.cells if cell.path)
    rows = [
        (
            cell.load,
            cell.regime,
            str(cell.path.requests),
            f"{cell.path.response_s:.2f}",
            *(f"{cell.path.parts_s[name]:.3f}" for name in parts),
            percent(cell.path.unexplained_share),
        )
        for cell in found.cells
        if cell.path
    ]
    columns = (
        "load",
        "regime",
        "requests",
        "mean, s",
        *(name.replace("_", " ") for name in parts),
        "unexplained, median",
    )
    note = "seconds of the mean request from send to reply, each part from stamps of its own"
    return Table("Critical path", columns, rows, [note])


def _keep_warm(found: Results) -> Table:
    rows = [
        (
            cell.load,
            cell.regime,
            each.function,
            f"{each.on_path_s:.2f}",
            with_interval(each.saved_s, each.saved_low_s, each.saved_high_s, lambda s: f"{s:.2f}"),
            number(each.extra_gb),
            number(each.saved_s_per_gb_s),
        )
        for cell in found.cells
        if cell.path
        for each in cell.path.keep_warm
    ]
    columns = (
        "load",
        "regime",
        "function",
        "cold on the path, s a request",
        "saved if kept, s a request [95 %]",
        "more GB-s/s",
        "s per GB-s",
    )
    note = "predicted: that function's cold wait taken away, all else as it was; less where another branch then decides"
    return Table("A single function kept warm", columns, rows, [note])


def _kept(found: Results) -> Table:
    rows = [
        (
            each.load,
            f"{each.a}, {each.b}",
            each.function,
            f"{each.predicted_s:.2f}",
            with_interval(each.measured_s, each.low_s, each.high_s, lambda s: f"{s:.2f}"),
            number(each.predicted_extra_gb),
            number(each.measured_extra_gb),
            {True: "agrees", False: "does not agree", None: "too few blocks"}[each.agrees],
        )
        for each in found.kept_stages
    ]
    columns = (
        "load",
        "without, with",
        "function",
        "predicted, s a request",
        "measured [95 %]",
        "predicted, GB-s/s",
        "measured, GB-s/s",
        "",
    )
    return Table("Kept warm: predicted against measured", columns, rows)


def _sweep(found: Results) -> Table:
    """What lies on each load's front; all else stands in results.json."""
    rows = [
        (
            each.load,
            f"{point.min_replicas} to {point.max_replicas}",
            number(point.idle_timeout_s),
            number(point.per_mean_gap),
            with_interval(point.cold_rate, point.low, point.high, percent),
            percent(point.slow_rate) if point.slow_rate is not None else "-",
            number(point.p95_s),
            number(point.held_gb),
        )
        for each in found.sweeps
        for point in sorted(each.settings, key=lambda point: point.held_gb)
        if point.on_front
    ]
    columns = (
        "load",
        "replicas",
        "idle timeout, s",
        "mean gaps",
        "cold-start rate [95 %]",
        "slow",
        "p95 s",
        "held GB-s/s",
    )
    off = ", ".join(
        f"{each.load} {100 * each.off:.1f}" + (f" and {100 * each.off_slow:.1f}" if each.off_slow is not None else "")
        for each in found.sweeps
    )
    notes = [
        "simulated on measured arrivals, service and start times; shown are settings that no other one beats in cold "
        "starts, slow requests (without a limit p95) and memory held together. Simulated so, measured cold-start rates "
        f"(and shares of slow requests) are missed by at most, in points: {off}"
    ]
    return Table("Other settings, simulated", columns, rows, notes)


def _front(found: Results) -> Table:
    rows = [
        (
            each.load,
            point.regime,
            percent(point.cold_rate),
            "-" if not each.slow else percent(point.slow) if each.slow == "slow_rate" else number(point.slow),
            number(point.held_gb),
            point.beaten_by or "-",
        )
        for each in found.fronts
        for point in each.regimes
    ]
    note = "beaten: another regime is at least as good in all three, by the estimates"
    return Table("Front", ("load", "regime", "cold", "slow, or p95 s", "held GB-s/s", "beaten by"), rows, [note])


def _slow(found: Results) -> Table:
    rows = [
        (
            cell.load,
            cell.regime,
            number(cell.slow_rate.limit_s),
            with_interval(rate.estimate, rate.low, rate.high, percent),
            f"{rate.cold} of {rate.of}",
        )
        for cell in found.cells
        if cell.slow_rate and cell.runs
        for rate in [cell.slow_rate.rate]
    ]
    note = "from the scheduled arrival; a request that failed was not answered in time either"
    return Table("Slow requests", ("load", "regime", "limit, s", "slower [95 %]", "requests"), rows, [note])


def _effects(found: Results) -> Table:
    """Holm's p is over contrasts and effects together."""
    note = (
        "main effects: the mean of both differences between a factor's levels. Interaction: by how much the effect of "
        "one factor differs between the other's levels. Adjusted together with the contrasts"
    )
    rows = summary.contrast_rows(found.effects)
    return Table("Effects of the factors", ("load", "effect", *summary.CONTRAST_COLUMNS[2:]), rows, [note])


def _variates(found: Results) -> Table:
    rows = [
        (
            row.load,
            outcome.named(row),
            *(summary.difference(each, row.outcome) for each in (variate.unadjusted, variate.adjusted)),
            number(variate.variance_ratio),
            ", ".join(f"{name} {value:.2f}" for name, value in variate.coefficients.items() if value),
            "adjusted" if variate.decides else "unadjusted",
        )
        for row in [*found.contrasts, *found.effects]
        if (variate := row.control_variate)
    ]
    columns = (
        "load",
        "contrast",
        "unadjusted, points [95 %]",
        "adjusted [95 %]",
        "variance /",
        "coefficients",
        "decides",
    )
    note = (
        "adjusted: less what the simulator makes of each block's arrivals beyond what it makes of other schedules; the "
        "mean is that of the unadjusted one, whatever the simulator gets wrong. What decides was fixed beforehand"
    )
    return Table("With the simulator as control variate", columns, rows, [note])


def _secondary(found: Results) -> Table:
    rows = [
        (row[0], row[1], OUTCOMES[each.outcome].title, *row[2:])
        for each, row in zip(found.secondary_contrasts, summary.contrast_rows(found.secondary_contrasts), strict=True)
    ]
    columns = (*summary.CONTRAST_COLUMNS[:2], "outcome", *summary.CONTRAST_COLUMNS[2:])
    note = "a family of its own, adjusted together. Shares: points; others: by how much a is more than b, per cent"
    return Table("Secondary outcomes", columns, rows, [note])


def _switches(found: Results) -> Table:
    rows = [
        (
            each.load,
            each.regime,
            each.switch,
            str(each.switches),
            with_interval(each.in_force_s.estimate, each.in_force_s.low, each.in_force_s.high, number),
            number(each.longest_s),
            f"{each.cold.cold} of {each.cold.of}",
            ", ".join(each.replaced) or "none",
        )
        for each in found.switches
    ]
    columns = (
        "load",
        "arm",
        "switch",
        "switches",
        "in force after, s [95 %]",
        "longest, s",
        "cold meanwhile",
        "replaced",
    )
    note = (
        "in force: every function has its new minimum ready and no more than its new maximum, seen by Prometheus, too"
    )
    return Table("Switches", columns, rows, [note])


def _phases(found: Results) -> Table:
    rows = [
        (
            each.load,
            each.regime,
            each.phase,
            number(each.seconds),
            str(each.requests),
            with_interval(each.cold.estimate, each.cold.low, each.cold.high, percent),
            with_interval(each.mean_latency_s.estimate, each.mean_latency_s.low, each.mean_latency_s.high, number),
            number(each.held_gb.estimate),
            _recovery(each),
        )
        for each in found.phases
    ]
    columns = (
        "load",
        "arm",
        "phase",
        "s a run",
        "requests",
        "cold-start rate [95 %]",
        "mean latency, s [95 %]",
        "held, GB",
        "recovered after, s [95 %]",
    )
    note = (
        "a request belongs to the phase in which it was due. to X: from asking for regime X until it was in force. "
        "recovered: when the last request was due that took longer than the load's limit"
    )
    return Table("Phases of a run", columns, rows, [note])


def _recovery(each: PhaseFigures) -> str:
    if each.recovery_s is None:
        return "-"
    shown = with_interval(each.recovery_s.estimate, each.recovery_s.low, each.recovery_s.high, number)
    return shown + f"; not in {each.unrecovered} of {each.runs}" * bool(each.unrecovered)


def _anomalies(found: Results) -> Table:
    rows = [(each.what, each.where, str(each.count), "\n".join(each.detail)) for each in found.anomalies]
    return Table("Anomalies", ("what", "where", "count", "examples, and what the replica wrote last"), rows, words=True)


def scorecard(found: Results) -> Table:
    rows = [(f"P{each.number}", each.title, each.state, each.evidence) for each in found.scorecard]
    note = "principles: Papadopoulos et al., IEEE Transactions on Software Engineering 47(8), 2021"
    return Table("Scorecard", ("", "principle", "state", "evidence, or what is missing"), rows, [note], words=True)
