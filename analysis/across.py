"""Two campaigns side by side: are they about the same thing, and what differs between them?"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from analysis import compare, measures
from analysis.intervals import geometric_mean_interval
from analysis.load import Campaign, Run, of_run, used_runs
from analysis.summary import number, p_value, percent, points, text_table, with_interval
from fave.errors import ConfigError

# A difference in one of these makes two cold shares answers to different questions.
_OF_LOADS = (
    "target",
    "sample",
    "inputs",
    "query",
    "settings",
    "max_in_flight",
    "request_timeout",
    "initial_replicas",
)
_OF_HOSTS = ("cpu_model", "cores", "memory_kb")
_COLUMNS = (
    "load",
    "regime",
    "A",
    "B",
    "B - A, points [95 %]",
    "p",
    "p Holm",
    "p permutation",
    "p50 s, A and B",
    "verdict",
)
_CONFIRMATORY_RUNS = 8


class Difference(NamedTuple):
    """Something that is not the same. refuses: because of it, the two cannot be compared."""

    what: str
    a: Any
    b: Any
    refuses: bool

    def __str__(self) -> str:
        return f"{self.what}: {_short(self.a)} in A, {_short(self.b)} in B"


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One load and regime that both have; differences are B - A."""

    load: str
    regime: str
    runs: tuple[int, int]
    cold_rate: tuple[float, float]
    result: compare.Unpaired
    p_holm: float | None
    verdict: str
    p50_s: tuple[float | None, float | None]
    exploratory: bool


def differences(a: Campaign, b: Campaign) -> list[Difference]:
    """Everything that is not the same about set-up and design, what refuses a comparison first."""
    found = [Difference("primary_outcome", *_both(a, b, "primary_outcome"), refuses=True)]
    for load in sorted(set(a.experiment["loads"]) & set(b.experiment["loads"])):
        found += _of_load(load, a, b)
    found += [Difference(f"host.{key}", a.info["host"][key], b.info["host"][key], refuses=True) for key in _OF_HOSTS]
    for key in ("provider", "routing", "orchestration"):
        sides = a.info["platform"].get("provider", {}).get(key), b.info["platform"].get("provider", {}).get(key)
        found.append(Difference(f"platform.{key}", *sides, refuses=True))
    found.append(Difference("co_located", a.info["co_located"], b.info["co_located"], refuses=True))
    digests = a.info.get("assets", {}), b.info.get("assets", {})
    found += [
        Difference(f"assets.{name}", digests[0].get(name), digests[1].get(name), refuses=all(digests))
        for name in sorted(digests[0].keys() | digests[1].keys())
    ]
    for part in ("host", "versions", "source"):
        one, two = a.info[part], b.info[part]
        found += [
            Difference(f"{part}.{key}", one.get(key), two.get(key), refuses=False)
            for key in sorted(one.keys() | two.keys())
            if not (part == "host" and (key in _OF_HOSTS or key.startswith(("load_", "memory_available"))))
        ]
    found.append(Difference("seed", *_both(a, b, "seed"), refuses=False))
    found.append(Difference("gates", *_both(a, b, "gates"), refuses=False))
    return sorted((each for each in found if each.a != each.b), key=lambda each: not each.refuses)


def _of_load(load: str, a: Campaign, b: Campaign) -> list[Difference]:
    one, two = (
        {**{f"traffic.{key}": value for key, value in each["traffic"].items()}, **each}
        for each in (a.experiment["loads"][load], b.experiment["loads"][load])
    )
    keys = [key for key in sorted(one.keys() | two.keys()) if key in _OF_LOADS or key.startswith("traffic.")]
    found = [Difference(f"loads.{load}.{key}", _set(one.get(key)), _set(two.get(key)), refuses=True) for key in keys]
    settings = _settings(a, load), _settings(b, load)
    for regime in sorted(settings[0].keys() & settings[1].keys()):
        mine, other = settings[0][regime], settings[1][regime]
        found.append(Difference(f"{load}, {regime}: functions", sorted(mine), sorted(other), refuses=True))
        found += [
            Difference(f"{load}, {regime}: {function}.{key}", value, other[function].get(key), refuses=True)
            for function in sorted(mine.keys() & other.keys())
            for key, value in mine[function].items()
        ]
    return found


def _set(value: Any) -> Any:
    """None for what says nothing: an earlier version may not have had the key at all."""
    return None if value in (0, "", "0s", "0ms", [], {}, False) else value


def compared(a: Campaign, b: Campaign, *, anyway: bool = False) -> list[Compared]:
    """Every load and regime of both; Welch on run rates, Holm over all of them.

    Raises
    ------
    ConfigError
        `Incomparable`, with every reason, unless `anyway`; when they have no load and regime in common.
    """
    refusals = [each for each in differences(a, b) if each.refuses]
    if refusals and not anyway:
        raise ConfigError(
            [f"Incomparable: {each}" for each in refusals],
            hint="--anyway compares them all the same and states this",
        )
    sides = [_by_cell(campaign) for campaign in (a, b)]
    common = [cell for cell in sides[0] if cell in sides[1] and min(len(side[cell]) for side in sides) >= 2]
    if not common:
        raise ConfigError(f"{a.name} and {b.name}: no load and regime of which both have two valid runs")
    outcome, margin = a.experiment["primary_outcome"], a.experiment["equivalence_margin"]
    results = []
    for cell in common:
        rates = [_rates(campaign, side[cell], outcome) for campaign, side in zip((a, b), sides, strict=True)]
        results.append((rates, compare.unpaired(rates[1], rates[0], margin=margin)))
    adjusted = compare.holm([1.0 if result.p is None else result.p for _, result in results])
    rows = []
    for cell, (rates, result), p_adjusted in zip(common, results, adjusted, strict=True):
        p_holm = None if result.p is None else p_adjusted
        medians = [_p50(campaign, side[cell]) for campaign, side in zip((a, b), sides, strict=True)]
        rows.append(
            Compared(
                load=cell[0],
                regime=cell[1],
                runs=(len(rates[0]), len(rates[1])),
                cold_rate=(sum(rates[0]) / len(rates[0]), sum(rates[1]) / len(rates[1])),
                result=result,
                p_holm=p_holm,
                verdict=compare.verdict(result, p_holm),
                p50_s=(medians[0], medians[1]),
                exploratory=min(map(len, rates)) < _CONFIRMATORY_RUNS,
            )
        )
    return rows


def in_terminal(a: Campaign, b: Campaign, rows: list[Compared]) -> str:
    found = differences(a, b)
    table = [
        (
            row.load,
            row.regime,
            f"{percent(row.cold_rate[0])} ({row.runs[0]})",
            f"{percent(row.cold_rate[1])} ({row.runs[1]})",
            _interval(row.result),
            p_value(row.result.p),
            p_value(row.p_holm),
            p_value(row.result.p_permutation),
            f"{number(row.p50_s[0])}, {number(row.p50_s[1])}",
            row.verdict + (", exploratory" if row.exploratory else ""),
        )
        for row in rows
    ]
    return "\n".join(
        [
            f"A {a.name}",
            f"B {b.name}",
            "",
            text_table(_COLUMNS, table),
            "",
            "  cold share: mean over runs (their number); Welch's t on run rates. Campaigns are no blocks: what else",
            "  changed between them (time, load of the host, the versions below) is in the difference, too.",
            *(f"  UNLIKE  {each}" for each in found if each.refuses),
            *(f"  differs {each}" for each in found if not each.refuses),
        ]
    )


def _interval(result: compare.Unpaired) -> str:
    low, high = result.ci95 or (None, None)
    return with_interval(result.mean, low, high, points)


def _both(a: Campaign, b: Campaign, key: str) -> tuple[Any, Any]:
    return a.experiment.get(key), b.experiment.get(key)


def _settings(campaign: Campaign, load: str) -> dict[str, dict[str, Any]]:
    """As applied, by regime."""
    return {run.regime: run.settings for run in campaign.runs if run.load == load}


def _by_cell(campaign: Campaign) -> dict[tuple[str, str], list[Run]]:
    found: dict[tuple[str, str], list[Run]] = {}
    for run in used_runs(campaign.runs, campaign.experiment):
        found.setdefault((run.load, run.regime), []).append(run)
    return found


def _rates(campaign: Campaign, runs: list[Run], outcome: str) -> list[float]:
    counts = [
        measures.cold_counts(of_run(campaign.stages, run), of_run(campaign.requests, run), outcome) for run in runs
    ]
    return [cold / known for cold, known in counts if known]


def _p50(campaign: Campaign, runs: list[Run]) -> float | None:
    values = [measures.latency_quantile(of_run(campaign.requests, run), 0.5).value for run in runs]
    known = [value for value in values if value is not None]
    return geometric_mean_interval(known).estimate if len(known) == len(values) else None


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
