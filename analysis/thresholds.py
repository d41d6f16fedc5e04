"""Conditions on the bounds of intervals, so that a machine can decide: `steady/warm: cold_rate.high < 0.05`.

[load[/regime]:] figure[.low|.estimate|.high] < | <= | > | >= | == value [s | % | GB-s]
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any, Literal

import msgspec

ANY = "*"
State = Literal["met", "missed", "inconclusive"]
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_NAMES = r"[a-z0-9-]+|\*"
_FORM = re.compile(
    rf"(?:(?P<load>{_NAMES})(?:/(?P<regime>{_NAMES}))?\s*:\s*)?"
    r"(?P<figure>[a-z0-9_]+)(?:\.(?P<bound>low|estimate|high))?"
    r"\s*(?P<operator><=|>=|==|<|>)\s*(?P<value>-?\d+(?:\.\d+)?)\s*(?P<unit>s|ms|%|GB-s)?"
)
_SCALE = {"ms": 0.001, "%": 0.01}
# Where the figures stand in a cell of results.json: (part, estimate, low, high); counts have no interval.
_INTERVALS = {
    "cold_rate": ("cold_rate", "estimate", "low", "high"),
    "p50": ("latency_s", "p50", "p50_low", "p50_high"),
    "p95": ("latency_s", "p95", "p95_low", "p95_high"),
}
_COUNTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "failures": lambda cell: cell["failures"],
    "requests": lambda cell: cell["requests"],
    "runs": lambda cell: cell["runs"],
    "execution_gb_s": lambda cell: cell["cost_gb_s"]["execution"],
    "provisioned_gb_s": lambda cell: cell["cost_gb_s"]["provisioned"],
}


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    load: str
    regime: str
    figure: str
    bound: str
    operator: str
    value: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One threshold in one cell. `observed`: the figure that was asked for."""

    threshold: str
    load: str
    regime: str
    state: State
    observed: float | None
    reason: str = ""


def parse(text: str) -> Threshold:
    """Raises ValueError, saying what is wrong with `text`."""
    found = _FORM.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no condition; write for example 'steady/warm: cold_rate.high < 0.05'")
    figure, bound = found["figure"], found["bound"]
    if figure not in _INTERVALS and figure not in _COUNTS:
        raise ValueError(f"{text!r}: unknown figure {figure!r} (known: {', '.join((*_INTERVALS, *_COUNTS))})")
    if figure in _INTERVALS and not bound:
        raise ValueError(f"{text!r}: which bound? {figure}.low, {figure}.estimate or {figure}.high")
    if figure in _COUNTS and bound:
        raise ValueError(f"{text!r}: {figure} has no interval; leave out .{bound}")
    return Threshold(
        text=text.strip(),
        load=found["load"] or ANY,
        regime=found["regime"] or ANY,
        figure=figure,
        bound=bound or "estimate",
        operator=found["operator"],
        value=float(found["value"]) * _SCALE.get(found["unit"] or "", 1.0),
    )


def evaluate(texts: list[str], cells: list[dict[str, Any]]) -> list[Outcome]:
    """Every threshold in every cell it is about. cells: those of results.json."""
    return [
        _in_cell(threshold, cell)
        for threshold in map(parse, texts)
        for cell in cells
        if threshold.load in (ANY, cell["load"]) and threshold.regime in (ANY, cell["regime"])
    ]


def _in_cell(threshold: Threshold, cell: dict[str, Any]) -> Outcome:
    holds = _OPERATORS[threshold.operator]
    if threshold.figure in _COUNTS:
        estimate = low = high = _COUNTS[threshold.figure](cell)
    else:
        part, *keys = _INTERVALS[threshold.figure]
        estimate, low, high = (cell[part][key] for key in keys)
    observed = {"low": low, "estimate": estimate, "high": high}[threshold.bound]
    about = {"threshold": threshold.text, "load": cell["load"], "regime": cell["regime"], "observed": observed}
    if observed is None or not math.isfinite(observed) or not cell["runs"]:
        reason = cell["latency_s"]["reason"] or cell["cold_rate"]["reason"] or "no valid run"
        return Outcome(**about, state="inconclusive", reason=reason)
    if holds(observed, threshold.value):
        return Outcome(**about, state="met")
    # Where the other end of the interval would do, the data do not say that the condition is missed.
    if any(bound is not None and holds(bound, threshold.value) for bound in (low, estimate, high)):
        return Outcome(**about, state="inconclusive", reason="the interval lies on both sides of it")
    return Outcome(**about, state="missed")
