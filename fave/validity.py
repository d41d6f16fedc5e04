"""Is this run valid? One pure decision, used by generator, driver and analysis alike (methodology §5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """The limits beyond which a run is not believed."""

    schedule_lag_p99_s: float = 0.050
    schedule_lag_share_of_median: float = 0.05
    schedule_lag_floor_s: float = 0.010
    unsent_share: float = 0.01
    generator_cpu_share: float = 0.80
    cold_missing_share: float = 0.01
    # Two scrape intervals, and the jitter of half a one.
    replica_gap_s: float = 1.25
    cold_label_disagreement: float = 0.05


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What a run showed. None where a figure could not be observed, which a gate reports as such.

    served: requests and invocations that reached a replica or should have; those that the platform refused are
    failures, an outcome and no gate. cold_missing: those among them without a label.
    label_mismatches: of `labelled` invocations, where the label and the platform's own events disagree.
    """

    scheduled: int
    sent: int
    unsent: int
    schedule_lags_s: tuple[float, ...]
    median_latency_s: float | None
    cold_missing: int
    served: int
    generator_cpu_share: float | None
    replica_gap_s: float | None
    initial_state_ok: bool
    configuration_unchanged: bool
    drained: bool
    labelled: int = 0
    label_mismatches: int | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    gate: str
    ok: bool
    observed: float | None
    limit: float | None
    note: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    valid: bool
    findings: tuple[Finding, ...]

    def reasons(self) -> list[str]:
        return [f"{f.gate}: {f.note or f'{f.observed:.4g} > {f.limit:.4g}'}" for f in self.findings if not f.ok]


def quantile(values: Sequence[float], q: float) -> float:
    """Linear interpolation between order statistics (numpy's default), without numpy."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def judge(observed: Observed, gates: Gates | None = None) -> Verdict:
    """Check every gate; a run is valid when all hold."""
    limits = gates or Gates()
    if observed.scheduled == 0 or observed.sent == 0:
        return Verdict(valid=False, findings=(_fact("requests", False, "no requests were sent"),))
    findings = (
        _lag(observed, limits),
        _at_most("unsent_share", observed.unsent / observed.scheduled, limits.unsent_share),
        _at_most("generator_cpu_share", observed.generator_cpu_share, limits.generator_cpu_share),
        _at_most("cold_missing_share", observed.cold_missing / max(1, observed.served), limits.cold_missing_share),
        _at_most("replica_gap_s", observed.replica_gap_s, limits.replica_gap_s),
        _disagreement(observed, limits),
        _fact("initial_state", observed.initial_state_ok, "wrong initial replicas"),
        _fact("configuration", observed.configuration_unchanged, "configuration changed during the run"),
        _fact("drained", observed.drained, "work was still in flight when the rows were collected"),
    )
    return Verdict(valid=all(finding.ok for finding in findings), findings=findings)


def _lag(observed: Observed, limits: Gates) -> Finding:
    p99_s = quantile(observed.schedule_lags_s, 0.99)
    limit_s = limits.schedule_lag_p99_s
    if observed.median_latency_s is not None:
        share_s = limits.schedule_lag_share_of_median * observed.median_latency_s
        # The stricter of the two, but never stricter than the floor.
        limit_s = min(limit_s, max(share_s, limits.schedule_lag_floor_s))
    few = len(observed.schedule_lags_s) < 100
    note = f"p99 {p99_s * 1000:.1f} ms against {limit_s * 1000:.1f} ms" + (", p99 is the maximum here" if few else "")
    return Finding(gate="schedule_lag_p99_s", ok=p99_s <= limit_s, observed=p99_s, limit=limit_s, note=note)


def _disagreement(observed: Observed, limits: Gates) -> Finding:
    """Cold labels against the platform's events, in both directions."""
    gate = "cold_label_disagreement"
    if observed.label_mismatches is None:
        return Finding(gate=gate, ok=True, observed=None, limit=None, note="platform has no events")
    return _at_most(gate, observed.label_mismatches / max(1, observed.labelled), limits.cold_label_disagreement)


def _at_most(gate: str, value: float | None, limit: float) -> Finding:
    if value is None:
        return Finding(gate=gate, ok=True, observed=None, limit=limit, note="not observed")
    return Finding(gate=gate, ok=value <= limit, observed=value, limit=limit)


def _fact(gate: str, ok: bool, note: str) -> Finding:
    return Finding(gate=gate, ok=ok, observed=None, limit=None, note="" if ok else note)
