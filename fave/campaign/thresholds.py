"""Conditions on the bounds of intervals, so that a machine can decide: `steady/warm: cold_rate.high < 0.05`.

[load[/regime]:] figure[.low|.estimate|.high] < | <= | > | >= | == value [s | % | GB]
[load/]a vs b: figure.difference|ratio.low|estimate|high … value [%]

The second form is about a planned contrast: a less b, or a over b, paired by block.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from fave.campaign.outcomes import COLD, SLOW
from fave.campaign.results import Contrast, RatioContrast, ThresholdResult
from fave.campaign.validity import at_most, below

ANY = "*"
State = Literal["met", "missed", "inconclusive"]
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": at_most,
    ">=": lambda value, limit: at_most(limit, value),
    "==": lambda value, limit: at_most(value, limit) and at_most(limit, value),
    "<": below,
    ">": lambda value, limit: below(limit, value),
}
_NAMES = r"[a-z0-9-]+|\*"
_FORM = re.compile(
    rf"(?:(?:(?P<pair_load>{_NAMES})/)?(?P<a>[a-z0-9-]+)\s+vs\s+(?P<b>[a-z0-9-]+)\s*:\s*"
    rf"|(?P<load>{_NAMES})(?:/(?P<regime>{_NAMES}))?\s*:\s*)?"
    r"(?P<figure>[a-z0-9_]+)(?:\.(?P<kind>difference|ratio))?(?:\.(?P<bound>low|estimate|high))?"
    r"\s*(?P<operator><=|>=|==|<|>)\s*(?P<value>-?[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>s|ms|%|GB)?"
)


class _Figure(NamedTuple):
    """Where a figure stands in a cell of results.json, and the units it may be compared in (with their factors)."""

    part: str
    keys: tuple[str, ...]
    units: dict[str, float]


_SHARE, _TIME, _COST = {"%": 0.01}, {"s": 1.0, "ms": 0.001}, {"GB": 1.0}
# Three keys: estimate and the ends of its interval. One: a count, which has none.
_FIGURES = {
    "cold_rate": _Figure("cold_rate", ("estimate", "low", "high"), _SHARE),
    "slow_rate": _Figure("slow_rate.rate", ("estimate", "low", "high"), _SHARE),
    "p50": _Figure("latency_s", ("p50", "p50_low", "p50_high"), _TIME),
    "p90": _Figure("latency_s", ("p90", "p90_low", "p90_high"), _TIME),
    "p95": _Figure("latency_s", ("p95", "p95_low", "p95_high"), _TIME),
    "p99": _Figure("latency_s", ("p99", "p99_low", "p99_high"), _TIME),
    "failures": _Figure("", ("failures",), {}),
    "failure_rate": _Figure("failure_rate", ("estimate", "low", "high"), _SHARE),
    "requests": _Figure("", ("requests",), {}),
    "runs": _Figure("", ("runs",), {}),
    "executed_gb": _Figure("cost_gb_s", ("execution",), _COST),
    "held_gb": _Figure("cost_gb_s", ("provisioned", "provisioned_low", "provisioned_high"), _COST),
}


# Of a contrast, and the unit that a value may have.
_DIFFERENCES = {"cold_rate": COLD, "slow_rate": (SLOW,), "failure_rate": ("failure_rate",)}
_RATIOS = {"p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "mean": "mean", "held_gb": "held", "start": "start"}


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """against, kind: of a contrast, the other regime, and whether of the difference to it or of the ratio."""

    text: str
    load: str
    regime: str
    against: str = ""
    kind: str = ""
    figure: str
    bound: str
    operator: str
    value: float


def parse(text: str) -> Threshold:
    """Raises ValueError, saying what is wrong with `text`."""
    found = _FORM.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no condition; write for example 'steady/warm: cold_rate.high < 0.05'")
    if found["a"] or found["kind"]:
        return _of_contrast(text, found)
    name, bound, unit = found["figure"], found["bound"], found["unit"] or ""
    figure = _FIGURES.get(name)
    if figure is None:
        raise ValueError(f"{text!r}: unknown figure {name!r} (known: {', '.join(_FIGURES)})")
    if len(figure.keys) > 1 and not bound:
        raise ValueError(f"{text!r}: which bound? {name}.low, {name}.estimate or {name}.high")
    if len(figure.keys) == 1 and bound:
        raise ValueError(f"{text!r}: {name} has no interval; leave out .{bound}")
    if unit and unit not in figure.units:
        known = ", ".join(figure.units) or "none"
        raise ValueError(f"{text!r}: {name} is not measured in {unit} (units: {known})")
    return Threshold(
        text=text.strip(),
        load=found["load"] or ANY,
        regime=found["regime"] or ANY,
        figure=name,
        bound=bound or "estimate",
        operator=found["operator"],
        value=float(found["value"]) * figure.units.get(unit, 1.0),
    )


def _of_contrast(text: str, found: re.Match[str]) -> Threshold:
    kind, name = found["kind"], found["figure"]
    known = {"difference": list(_DIFFERENCES), "ratio": list(_RATIOS)}
    if not found["a"] or not kind:
        raise ValueError(f"{text!r}: of two regimes; write for example 'b vs a: p95.ratio.high < 1.1'")
    if name not in known[kind]:
        raise ValueError(f"{text!r}: no {kind} of {name!r} (known: {', '.join(known[kind])})")
    if not found["bound"]:
        raise ValueError(f"{text!r}: which bound? {name}.{kind}.low, .estimate or .high")
    if found["unit"] not in (None, "%") or (found["unit"] and kind == "ratio"):
        raise ValueError(f"{text!r}: a {kind} is a number, or a difference of shares in %")
    return Threshold(
        text=text.strip(),
        load=found["pair_load"] or ANY,
        regime=found["a"],
        against=found["b"],
        kind=kind,
        figure=name,
        bound=found["bound"],
        operator=found["operator"],
        value=float(found["value"]) * (0.01 if found["unit"] else 1.0),
    )


def applies(threshold: Threshold, load: str, regime: str) -> bool:
    return threshold.load in (ANY, load) and threshold.regime in (ANY, regime)


def evaluate(
    texts: Iterable[str],
    cells: list[dict[str, Any]],
    contrasts: Sequence[Contrast] = (),
    ratios: Sequence[RatioContrast] = (),
) -> list[ThresholdResult]:
    """Every threshold in every cell, or load, that it is about; one that is about none is not met by that.

    cells: of results.json. contrasts, ratios: the planned ones of pairs.
    """
    found: list[ThresholdResult] = []
    for threshold in map(parse, texts):
        if threshold.against:
            met = _of_pairs(threshold, contrasts, ratios)
        else:
            mine = [cell for cell in cells if applies(threshold, cell["load"], cell["regime"])]
            met = [_in_cell(threshold, cell) for cell in mine]
        found += met or [
            ThresholdResult(
                threshold=threshold.text,
                load=threshold.load,
                regime=_pair(threshold) if threshold.against else threshold.regime,
                state="inconclusive",
                observed=None,
                reason="nothing that it is about was measured",
            )
        ]
    return found


Ends = tuple[float | None, float | None, float | None]


def _of_pairs(
    threshold: Threshold, contrasts: Sequence[Contrast], ratios: Sequence[RatioContrast]
) -> list[ThresholdResult]:
    """One for each load that has the contrast, whichever way round it was planned."""
    rows: list[tuple[str, str, Ends, str]] = []
    if threshold.kind == "difference":
        for row in contrasts:
            if row.outcome in _DIFFERENCES[threshold.figure]:
                low, high = row.ci95 or (None, None)
                rows.append((row.load, f"{row.a} vs {row.b}", (low, row.difference, high), row.reason))
    else:
        for each in ratios:
            if each.figure == _RATIOS[threshold.figure]:
                ends = (each.ratio.low, each.ratio.estimate, each.ratio.high)
                rows.append((each.load, f"{each.a} vs {each.b}", ends, each.ratio.reason))
    pair, turned = _pair(threshold), f"{threshold.against} vs {threshold.regime}"
    return [
        _of_pair(threshold, load, ends if about == pair else _turned(threshold.kind, ends), reason)
        for load, about, ends, reason in rows
        if threshold.load in (ANY, load) and about in (pair, turned)
    ]


def _pair(threshold: Threshold) -> str:
    return f"{threshold.regime} vs {threshold.against}"


def _turned(kind: str, ends: Ends) -> Ends:
    """Of b and a, what was of a and b."""
    low, estimate, high = (
        None if end is None or (kind == "ratio" and not end) else (-end if kind == "difference" else 1 / end)
        for end in ends
    )
    return high, estimate, low


def _of_pair(threshold: Threshold, load: str, ends: Ends, reason: str) -> ThresholdResult:
    holds = _OPERATORS[threshold.operator]
    observed = dict(zip(("low", "estimate", "high"), ends, strict=True))[threshold.bound]
    about = {"threshold": threshold.text, "load": load, "regime": _pair(threshold)}
    if observed is None:
        return ThresholdResult(**about, observed=None, state="inconclusive", reason=reason or "it has no interval")
    if holds(observed, threshold.value):
        return ThresholdResult(**about, observed=observed, state="met")
    if any(end is not None and holds(end, threshold.value) for end in ends):
        return ThresholdResult(
            **about, observed=observed, state="inconclusive", reason="the interval lies on both sides of it"
        )
    return ThresholdResult(**about, observed=observed, state="missed")


def _in_cell(threshold: Threshold, cell: dict[str, Any]) -> ThresholdResult:
    holds = _OPERATORS[threshold.operator]
    part, keys, _ = _FIGURES[threshold.figure]
    about = {"threshold": threshold.text, "load": cell["load"], "regime": cell["regime"]}
    where = cell
    for name in filter(None, part.split(".")):
        where = where[name]
        if where is None:
            reason = "the load has no slo"
            return ThresholdResult(**about, observed=None, state="inconclusive", reason=reason)
    values = [where[key] for key in keys]
    if threshold.figure in where.get("among_failures", ()):
        # Failed requests count as longer than everything.
        values = [math.inf] * 3
    estimate, low, high = values if len(values) == 3 else values * 3
    observed = {"low": low, "estimate": estimate, "high": high}[threshold.bound]
    if observed is None or not cell["runs"]:
        reason = where.get("reason") or "no valid run"
        return ThresholdResult(**about, observed=None, state="inconclusive", reason=reason)
    shown = observed if math.isfinite(observed) else None
    # Arrivals without a label might have been warm or cold: a condition on the estimate must hold either way.
    ends = [where.get(key) for key in ("if_warm", "if_cold")] if threshold.bound == "estimate" else []
    either = [end for end in ends if end is not None]
    if all(holds(value, threshold.value) for value in (observed, *either)):
        return ThresholdResult(**about, observed=shown, state="met")
    # Where the other end of the interval would do, the data do not say that the condition is missed.
    if any(bound is not None and holds(bound, threshold.value) for bound in (low, estimate, high, *either)):
        return ThresholdResult(
            **about, observed=shown, state="inconclusive", reason="the interval lies on both sides of it"
        )
    reason = "" if shown is not None else f"{threshold.figure} falls among failed requests"
    return ThresholdResult(**about, observed=shown, state="missed", reason=reason)
