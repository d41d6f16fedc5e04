"""Two campaigns side by side: are they about the same thing, and what differs between them?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from analysis.answers.cells import cold_counts, in_cell, run_quantile
from analysis.report import pages, plots
from analysis.report.plots import Bars
from analysis.rows import digest
from analysis.rows.digest import Digest, cold_outcome
from analysis.rows.folder import Campaign, used_runs
from analysis.statistics import compare
from analysis.statistics.clustered import Counts, pooled_rate
from analysis.statistics.intervals import geometric_mean_interval, pooled_rate_interval
from analysis.words import Table, filled, number, p_value, percent, points, text_table, with_interval
from fave.campaign import record
from fave.campaign.alike import Difference, between, of_setup
from fave.campaign.results import Estimate
from fave.campaign.rundir import write_json
from fave.errors import ConfigError
from fave.settings import to_plain

# A difference in one of these makes two cold-start rates answers to different questions.
_OF_LOADS = (
    "target",
    "variables",
    "max_in_flight",
    "request_timeout",
    "initial_replicas",
    "processes",
)
# Of cold-start rates, where an experiment is about something else.
_MARGIN = 0.05
_OF_EXPERIMENTS = ("primary_outcome", "settle")
_COLUMNS = (
    "load",
    "regime",
    "A",
    "B",
    "B - A, points [95 %]",
    "p",
    "p Holm",
    "p permutation",
    "failed, A and B [95 %]",
    "p50 s, A and B",
    "p95 s, A and B",
    "verdict",
)


class Comparison(NamedTuple):
    """left_out: what only one of the two has enough runs of, with the reason."""

    a: Campaign
    b: Campaign
    differences: list[Difference]
    rows: list[Compared]
    left_out: list[str]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One load and regime that both have; differences are B - A."""

    load: str
    regime: str
    runs: tuple[int, int]
    cold_rate: tuple[float, float]
    result: compare.Unpaired
    p_holm: float | None
    verdict: str
    failure_rate: tuple[Estimate, Estimate]
    p50_s: tuple[float | None, float | None]
    p95_s: tuple[float | None, float | None]
    exploratory: bool


def differences(a: Campaign, b: Campaign) -> list[Difference]:
    """Everything that is not the same about set-up and design, what refuses a comparison first."""
    one, two = record.known(a.facts), record.known(b.facts)
    found = between(one["experiment"], two["experiment"], "", _OF_EXPERIMENTS, refuses=True)
    for key in ("variants", "decompositions", "switching", "prewarming"):
        for arm in sorted(set(a.experiment.regimes) & set(b.experiment.regimes)):
            mine, other = (each["experiment"].get(key, {}).get(arm) for each in (one, two))
            if mine != other:
                found.append(Difference(f"{key}.{arm}", mine or "none", other or "none", refuses=True))
    for load in sorted(set(a.experiment.loads) & set(b.experiment.loads)):
        found += _of_load(load, a, b)
    found += of_setup(one, two)
    found += between(one["experiment"], two["experiment"], "", ("seed", "gates", "equivalence_margin"), refuses=False)
    return sorted(found, key=lambda each: not each.refuses)


def _of_load(load: str, a: Campaign, b: Campaign) -> list[Difference]:
    one, two = to_plain(a.experiment.loads[load]), to_plain(b.experiment.loads[load])
    found = between(one, two, f"loads.{load}.", _OF_LOADS, refuses=True)
    # What a rate came to stands in `requests`.
    keys = sorted(one["traffic"].keys() - {"rate_per_s"})
    found += between(one["traffic"], two["traffic"], f"loads.{load}.traffic.", keys, refuses=True)
    settings = _settings(a, load), _settings(b, load)
    for regime in sorted(settings[0].keys() & settings[1].keys()):
        mine, other = settings[0][regime], settings[1][regime]
        if mine.keys() != other.keys():
            found.append(Difference(f"{load}, {regime}: functions", sorted(mine), sorted(other), refuses=True))
        for function in sorted(mine.keys() & other.keys()):
            where = f"{load}, {regime}: {function}."
            found += between(mine[function], other[function], where, mine[function], refuses=True)
    return found


def compared(a: Campaign, b: Campaign, *, anyway: bool = False) -> Comparison:
    """Every load and regime of which both have two valid runs; CR2 over runs, Holm over all of them.

    Raises
    ------
    ConfigError
        `Incomparable`, with every reason, unless `anyway`; when they have no load and regime in common.
    """
    found = differences(a, b)
    refusals = [each for each in found if each.refuses]
    if refusals and not anyway:
        raise ConfigError(
            [f"Incomparable: {each}" for each in refusals],
            hint="--anyway compares them all the same and states this",
        )
    sides = _cells(a, digest.of_all(a)), _cells(b, digest.of_all(b))
    common = [cell for cell, mine in sides[0].items() if min(len(mine.counts), len(_side(sides[1], cell).counts)) >= 2]
    if not common:
        raise ConfigError(f"{a.name} and {b.name}: no load and regime of which both have two valid runs")
    named = cold_outcome(a.experiment) in (a.experiment.primary_outcome, *a.experiment.secondary_outcomes)
    margin = a.experiment.margin_of(cold_outcome(a.experiment)) if named else _MARGIN
    results = [_difference(sides[1][cell], sides[0][cell], margin) for cell in common]
    adjusted = compare.holm([result.p for result in results])
    equivalence = compare.holm([result.p_equivalence for result in results])
    rows = [
        _row(cell, sides[0][cell], sides[1][cell], result, both)
        for cell, result, both in zip(common, results, zip(adjusted, equivalence, strict=True), strict=True)
    ]
    left_out = [
        f"{load}, {regime}: {len(_side(sides[0], (load, regime)).counts)} usable runs in A, "
        f"{len(_side(sides[1], (load, regime)).counts)} in B; both need 2"
        for load, regime in sorted((sides[0].keys() | sides[1].keys()) - set(common))
    ]
    return Comparison(a, b, found, rows, left_out)


class _Side(NamedTuple):
    """One load and regime of one campaign: (cold, known) of its runs, and their latencies, where they are known.

    ends: the counts, had all without a label been warm, and had they been cold.
    """

    counts: list[Counts]
    ends: tuple[list[Counts], list[Counts]]
    failures: Estimate
    p50_s: float | None
    p95_s: float | None


def _side(cells: dict[tuple[str, str], _Side], cell: tuple[str, str]) -> _Side:
    return cells.get(cell) or _made([], "")


def _made(mine: Sequence[Digest], outcome: str) -> _Side:
    warm, cold = ([counts for each in mine if (counts := each.bounded(outcome)[end])[1]] for end in (0, 1))
    return _Side(
        cold_counts(mine, outcome),
        (warm, cold),
        pooled_rate_interval([(each.failures, each.requests) for each in mine]),
        *(_percentile(mine, q) for q in (0.5, 0.95)),
    )


def _difference(a: _Side, b: _Side, margin: float) -> compare.Unpaired:
    """What holds wherever those without a label belong."""
    labelled = compare.unpaired(a.counts, b.counts, margin=margin)
    if (a.counts, b.counts) == (a.ends[0], b.ends[0]):
        return labelled
    ends = [compare.unpaired(a.ends[i], b.ends[1 - i], margin=margin) for i in (0, 1)]
    return compare.surviving(labelled, ends, margin)


def _cells(campaign: Campaign, digests: Sequence[Digest]) -> dict[tuple[str, str], _Side]:
    used = {run.key for run in used_runs(campaign.runs, campaign.experiment, digest.unsound(digests))}
    mine = [each for each in digests if each.run.key in used]
    outcome = cold_outcome(campaign.experiment)
    cells = dict.fromkeys((each.run.load, each.run.regime) for each in mine)
    return {cell: _made(found, outcome) for cell in cells if (found := in_cell(mine, *cell))}


def _percentile(mine: Sequence[Digest], q: float) -> float | None:
    """Geometric mean of the runs', where all of them support it."""
    values = [run_quantile(each, q).value for each in mine]
    known = [value for value in values if value is not None]
    return geometric_mean_interval(known).estimate if len(known) == len(values) else None


def _row(
    cell: tuple[str, str], a: _Side, b: _Side, result: compare.Unpaired, adjusted: tuple[float | None, float | None]
) -> Compared:
    """adjusted: p of the difference and of equivalence, by Holm."""
    runs = (len(a.counts), len(b.counts))
    return Compared(
        load=cell[0],
        regime=cell[1],
        runs=runs,
        cold_rate=(pooled_rate(a.counts), pooled_rate(b.counts)),
        result=result,
        p_holm=adjusted[0],
        verdict=compare.verdict(*adjusted, min(runs)),
        failure_rate=(a.failures, b.failures),
        p50_s=(a.p50_s, b.p50_s),
        p95_s=(a.p95_s, b.p95_s),
        exploratory=min(runs) < compare.CONFIRMATORY_BLOCKS,
    )


_LEGEND = (
    "cold-start rate: of all runs together (their number); variances clustered by run (CR2). Campaigns are no blocks: "
    "what else changed between them (time, load of the host, versions) is in the difference, too."
)


def _table(found: Comparison) -> Table:
    rows = [
        (
            row.load,
            row.regime,
            f"{percent(row.cold_rate[0])} ({row.runs[0]})",
            f"{percent(row.cold_rate[1])} ({row.runs[1]})",
            _interval(row.result),
            p_value(row.result.p),
            p_value(row.p_holm),
            p_value(row.result.p_permutation),
            ", ".join(with_interval(each.estimate, each.low, each.high, percent) for each in row.failure_rate),
            f"{number(row.p50_s[0])}, {number(row.p50_s[1])}",
            f"{number(row.p95_s[0])}, {number(row.p95_s[1])}",
            row.verdict + (", exploratory" if row.exploratory else ""),
        )
        for row in found.rows
    ]
    return Table("", _COLUMNS, rows, [_LEGEND])


def in_terminal(found: Comparison) -> str:
    table = _table(found)
    return "\n".join(
        [
            f"A {found.a.name}",
            f"B {found.b.name}",
            "",
            text_table(table.columns, table.rows),
            "",
            filled(_LEGEND),
            *(f"  left out {each}" for each in found.left_out),
            *(f"  UNLIKE  {each}" for each in found.differences if each.refuses),
            *(f"  differs {each}" for each in found.differences if not each.refuses),
        ]
    )


def write(found: Comparison, folder: Path) -> Path:
    """A page and the numbers behind it into `folder`, named after both; the same campaigns give the same bytes."""
    name = f"{found.a.name}--{found.b.name}"
    bars, margin = [(_bar(row), None) for row in found.rows], 100 * found.a.experiment.equivalence_margin
    facts = {
        "a": found.a.name,
        "b": found.b.name,
        "table": _table(found),
        "forest": plots.forest(bars, (-margin, margin), "cold-start rates", "points"),
        "unlike": [str(each) for each in found.differences if each.refuses],
        "differs": [str(each) for each in found.differences if not each.refuses],
        "left_out": found.left_out,
    }
    pages.write(folder, "compare", facts, name=name, forms="html")
    write_json(folder / f"{name}.json", {"a": found.a.name, "b": found.b.name, "rows": found.rows, **_told(facts)})
    return folder / f"{name}.html"


def _told(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in ("unlike", "differs", "left_out")}


def _bar(row: Compared) -> Bars:
    low, high = (100 * end for end in row.result.ci95) if row.result.ci95 else (None, None)
    return Bars(f"{row.load}, {row.regime}: B - A", 100 * row.result.mean, low, high)


def _interval(result: compare.Unpaired) -> str:
    low, high = result.ci95 or (None, None)
    return with_interval(result.mean, low, high, points)


def _settings(campaign: Campaign, load: str) -> dict[str, dict[str, Any]]:
    """As applied, by regime; not of arms that switch, where what they begin with depends on the block."""
    return {
        run.regime: to_plain(run.settings)
        for run in campaign.runs
        if run.load == load and not campaign.experiment.switches(run.regime)
    }
