"""Is this run valid? One pure decision, used by generator, driver and analysis alike (methodology §5)."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

_LAG = "schedule_lag_p99_s"
# Far above what sums and quotients lose to rounding, far below any difference that could matter.
_ROUNDING = {"rel_tol": 1e-9, "abs_tol": 1e-12}


def at_most(value: float, limit: float) -> bool:
    """`value <= limit`, where rounding decides nothing: 4/7 - 3/7 is at most 1/7, though not as floats."""
    return value <= limit or math.isclose(value, limit, **_ROUNDING)


def below(value: float, limit: float) -> bool:
    """`value < limit`, by more than rounding."""
    return value < limit and not math.isclose(value, limit, **_ROUNDING)


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """The limits beyond which a run is not believed."""

    schedule_lag_p99_s: float = 0.050
    schedule_lag_share_of_median: float = 0.05
    schedule_lag_floor_s: float = 0.010
    rate_error: float = 0.01
    # Gaps are compared to this: no function can tell them closer, and timers wake to the millisecond.
    gap_tolerance_s: float = 0.005
    gap_cv_error: float = 0.1
    gap_ks: float = 0.1
    unsent_share: float = 0.01
    generator_cpu_share: float = 0.80
    cold_missing_share: float = 0.01
    # Two scrape intervals, and the jitter of half a one.
    replica_gap_s: float = 1.25
    replica_age_p99_s: float = 1.0
    cold_label_disagreement: float = 0.05
    clock_offset_s: float = 0.020
    # Share of the run in which something waited for memory. Evictions and kernel kills are never allowed.
    memory_pressure_share: float = 0.10
    # Of the cores' time. A core that others hold for a twentieth of the time makes starts and service about that much
    # longer, which is within what they vary by anyway; kernel threads and writing back to disk take about 1 %.
    foreign_cpu_share: float = 0.05
    # Of twenty looks a second. A gateway that is late makes warm requests wait for what it does for others.
    gateway_late_share: float = 0.01
    # Beyond what a regime's policy allows: what a platform takes to notice, and samples to tell.
    policy_lag_s: float = 3.0

    def __post_init__(self) -> None:
        wrong = [name for name in self.__struct_fields__ if not 0 <= getattr(self, name) < math.inf]
        if wrong:
            raise ValueError("\n".join(f"{name}: {getattr(self, name)} is not a number from 0 up" for name in wrong))


# Limits that have another name than the gate in which they count.
JUDGES = {
    "schedule_lag_share_of_median": "schedule_lag_p99_s",
    "schedule_lag_floor_s": "schedule_lag_p99_s",
    "gap_tolerance_s": "gap_ks",
    "policy_lag_s": "policy_enforced",
}


class Fidelity(msgspec.Struct, frozen=True, kw_only=True):
    """How the load as sent compares with the schedule. What needs two arrivals, or three, is None below.

    scheduled = sent + dropped (at the in-flight cap: an outcome, no gate) + unsent. Rates and gaps are of the arrivals
    that were sent; `scheduled_gap_*` is when the schedule had wanted these, `sent_gap_*` when they left.
    rate_error: |sent rate / scheduled rate - 1|. span_error_s: the same as a difference of the two spans.
    gap_ks: largest distance between the two distribution functions of gaps, beyond `gap_tolerance_s`.
    generator_cpu_share: of one core, of the busiest generator process.
    """

    scheduled: int
    sent: int
    dropped: int
    unsent: int
    scheduled_rate_per_s: float | None = None
    sent_rate_per_s: float | None = None
    rate_error: float | None = None
    span_error_s: float | None = None
    schedule_lag_p50_s: float | None = None
    schedule_lag_p99_s: float | None = None
    schedule_lag_max_s: float | None = None
    scheduled_gap_mean_s: float | None = None
    scheduled_gap_cv: float | None = None
    sent_gap_cv: float | None = None
    gap_ks: float | None = None
    generator_cpu_share: float | None = None


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What a run showed. None where a figure could not be observed, which a gate reports as such.

    reference_latency_s: what the schedule lag is judged by, of the campaign and load; None until there is one. served:
    requests and invocations that reached a replica or should have; those that the platform refused are failures, an
    outcome and no gate. cold_missing: those among them without a label. label_mismatches: of `labelled` invocations,
    where the label and the platform's own events disagree. replica_age_p99_s: of the newest replica sample at a moment
    of the run. clock_offset_s: the least by which the clocks of caller and replica differ if the stamps are possible.
    memory_pressure_share, evictions: of the node or nodes; evictions are pods', or processes that the kernel killed.
    foreign_cpu_share: of the generator's machine, what others used: processes that are not FAVE's, and other guests of
    the host (cpu_steal_share alone). gateway_late_share: of looks at which the gateway's loop was held up for 50 ms or
    more, where it tells. policy_lag_s: for how long replicas were more or fewer than the regime's policy allows, at
    worst, and policy_breach where. switching: why an arm's regimes did not change as it says. cpu_pressure_share: of
    the time, while some task waited for a core, own or not.
    """

    fidelity: Fidelity
    median_latency_s: float | None
    cold_missing: int
    served: int
    replica_gap_s: float | None
    initial_state_ok: bool
    configuration_unchanged: bool
    drained: bool
    labelled: int = 0
    label_mismatches: int | None = None
    replica_age_p99_s: float | None = None
    clock_offset_s: float | None = None
    memory_pressure_share: float | None = None
    evictions: int | None = None
    reference_latency_s: float | None = None
    foreign_cpu_share: float | None = None
    cpu_steal_share: float | None = None
    cpu_pressure_share: float | None = None
    gateway_late_share: float | None = None
    policy_lag_s: float | None = None
    policy_breach: str = ""
    switching: str = ""


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
        return [f"{f.gate}: {f.note or _over(f.observed, f.limit)}" for f in self.findings if not f.ok]


def _over(observed: float | None, limit: float | None) -> str:
    """With as many digits as it takes to see it."""
    said = (f"{observed:.{digits}g} > {limit:.{digits}g}" for digits in (4, 10, 17))
    return next(text for text in said if len(set(text.split(" > "))) > 1)


def quantile(values: Sequence[float], q: float) -> float:
    """Linear interpolation between order statistics (numpy's default), without numpy."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def measure(
    pairs: Sequence[tuple[int, int]],
    *,
    scheduled: int,
    dropped: int,
    cpu_share: float | None,
    gap_tolerance_s: float = Gates().gap_tolerance_s,
) -> Fidelity:
    """The fidelity of a load. `pairs`: (scheduled, sent) of what was sent, in microseconds, in any order."""
    sent = len(pairs)
    counts = {"scheduled": scheduled, "sent": sent, "dropped": dropped, "unsent": scheduled - sent - dropped}
    if not sent:
        return Fidelity(**counts, generator_cpu_share=cpu_share)
    lags_s = sorted((at - due) / 1e6 for due, at in pairs)
    due_gaps_s, sent_gaps_s = (_gaps_s([pair[i] for pair in pairs]) for i in (0, 1))
    due_span_s, sent_span_s = math.fsum(due_gaps_s), math.fsum(sent_gaps_s)
    spans = due_span_s > 0 and sent_span_s > 0
    several = spans and len(due_gaps_s) > 1
    return Fidelity(
        **counts,
        scheduled_rate_per_s=(sent - 1) / due_span_s if spans else None,
        sent_rate_per_s=(sent - 1) / sent_span_s if spans else None,
        rate_error=abs(due_span_s / sent_span_s - 1) if spans else None,
        span_error_s=abs(sent_span_s - due_span_s) if spans else None,
        schedule_lag_p50_s=quantile(lags_s, 0.5),
        schedule_lag_p99_s=quantile(lags_s, 0.99),
        schedule_lag_max_s=lags_s[-1],
        scheduled_gap_mean_s=due_span_s / (sent - 1) if spans else None,
        scheduled_gap_cv=_cv(due_gaps_s) if several else None,
        sent_gap_cv=_cv(sent_gaps_s) if several else None,
        gap_ks=gap_distance(due_gaps_s, sent_gaps_s, gap_tolerance_s) if several else None,
        generator_cpu_share=cpu_share,
    )


def gap_distance(a: Sequence[float], b: Sequence[float], tolerance: float) -> float:
    """The Kolmogorov-Smirnov distance of two samples, where values closer than `tolerance` count as equal.

    sup over x of F_a(x) - F_b(x + tolerance) and of F_b(x) - F_a(x + tolerance); with tolerance 0 the usual D.
    """
    a, b = sorted(a), sorted(b)

    def excess(low: Sequence[float], high: Sequence[float]) -> float:
        return max((i + 1) / len(low) - bisect_right(high, x + tolerance) / len(high) for i, x in enumerate(low))

    return max(0.0, excess(a, b), excess(b, a))


def _gaps_s(times_us: list[int]) -> list[float]:
    return [(b - a) / 1e6 for a, b in pairwise(sorted(times_us))]


def _cv(gaps_s: list[float]) -> float:
    return statistics.pstdev(gaps_s) / statistics.fmean(gaps_s)


class Judged(NamedTuple):
    """A run of one load, with its own median latency."""

    block: int
    attempt: int
    regime: str
    median_latency_s: float | None
    verdict: Verdict


def reference_latency_s(runs: Iterable[Judged], regimes: Iterable[str]) -> float | None:
    """The latency that schedule lag is judged by in all runs of a load; None until it is known.

    The smallest run median of the first block and attempt in which the runs of all regimes hold every other gate. Fixed
    from then on: neither a disturbed run nor one full of cold starts widens its own limit.
    """
    medians_s: dict[tuple[int, int], dict[str, float]] = {}
    for run in runs:
        if run.median_latency_s is not None and all(f.ok or f.gate == _LAG for f in run.verdict.findings):
            medians_s.setdefault((run.block, run.attempt), {})[run.regime] = run.median_latency_s
    whole = [key for key, found in medians_s.items() if found.keys() >= set(regimes)]
    return min(medians_s[min(whole)].values()) if whole else None


def judge_load(fidelity: Fidelity, gates: Gates | None = None, reference_latency_s: float | None = None) -> Verdict:
    """Is this the load that was asked for? The part of the verdict that the generator alone can give."""
    limits = gates or Gates()
    if not fidelity.sent:
        return _verdict((_fact("requests", False, "no requests were sent"),))
    return _verdict(_load_findings(fidelity, limits, reference_latency_s))


def judge(observed: Observed, gates: Gates | None = None) -> Verdict:
    """Check every gate; a run is valid when all hold."""
    limits = gates or Gates()
    if not observed.fidelity.sent:
        return judge_load(observed.fidelity, limits)
    findings = (
        *_load_findings(observed.fidelity, limits, observed.reference_latency_s),
        _at_most("cold_missing_share", observed.cold_missing / max(1, observed.served), limits.cold_missing_share),
        _at_most("replica_gap_s", observed.replica_gap_s, limits.replica_gap_s),
        _at_most("replica_age_p99_s", observed.replica_age_p99_s, limits.replica_age_p99_s),
        _at_most("clock_offset_s", observed.clock_offset_s, limits.clock_offset_s),
        _at_most("memory_pressure_share", observed.memory_pressure_share, limits.memory_pressure_share),
        _at_most("evictions", observed.evictions, 0),
        _at_most("foreign_cpu_share", observed.foreign_cpu_share, limits.foreign_cpu_share),
        _at_most("gateway_late_share", observed.gateway_late_share, limits.gateway_late_share),
        _policy(observed, limits),
        _disagreement(observed, limits),
        _fact("initial_state", observed.initial_state_ok, "wrong initial replicas"),
        _fact(
            "configuration",
            observed.configuration_unchanged,
            "configuration changed during the run, or the gateway was started again",
        ),
        *([_fact("switching", False, observed.switching)] if observed.switching else []),
        _fact("drained", observed.drained, "work was still in flight when the rows were collected"),
    )
    return _verdict(findings)


def _verdict(findings: tuple[Finding, ...]) -> Verdict:
    return Verdict(valid=all(finding.ok for finding in findings), findings=findings)


def _load_findings(fidelity: Fidelity, limits: Gates, reference_s: float | None) -> tuple[Finding, ...]:
    return (
        _lag(fidelity, limits, reference_s),
        _rate(fidelity, limits),
        _gap_cv(fidelity, limits),
        # Of few gaps a single one is more than the limit: one alone is what the lag gate judges.
        _at_most("gap_ks", fidelity.gap_ks, max(limits.gap_ks, 1 / max(1, fidelity.sent - 1))),
        _at_most("unsent_share", fidelity.unsent / fidelity.scheduled, limits.unsent_share),
        _at_most("generator_cpu_share", fidelity.generator_cpu_share, limits.generator_cpu_share),
    )


def _lag(fidelity: Fidelity, limits: Gates, reference_s: float | None) -> Finding:
    p99_s = fidelity.schedule_lag_p99_s or 0.0
    limit_s = limits.schedule_lag_p99_s
    if reference_s is not None:
        share_s = limits.schedule_lag_share_of_median * reference_s
        # The stricter of the two, but never stricter than the floor.
        limit_s = min(limit_s, max(share_s, limits.schedule_lag_floor_s))
    few = fidelity.sent < 100
    note = f"p99 {p99_s * 1000:.1f} ms against {limit_s * 1000:.1f} ms" + (", p99 is the maximum here" if few else "")
    return Finding(gate=_LAG, ok=at_most(p99_s, limit_s), observed=p99_s, limit=limit_s, note=note)


def _rate(fidelity: Fidelity, limits: Gates) -> Finding:
    """A short run's rate is wrong by its lag alone: what the lag gate lets pass is no error of the rate."""
    finding = _at_most("rate_error", fidelity.rate_error, limits.rate_error)
    if finding.ok or not at_most(fidelity.span_error_s or 0.0, limits.schedule_lag_floor_s):
        return finding
    return msgspec.structs.replace(finding, ok=True, note="within the schedule lag that is allowed")


def _gap_cv(fidelity: Fidelity, limits: Gates) -> Finding:
    """The spread of gaps, compared in seconds: a paced schedule's coefficient of variation is 0."""
    wanted, sent, mean_s = fidelity.scheduled_gap_cv, fidelity.sent_gap_cv, fidelity.scheduled_gap_mean_s
    if wanted is None or sent is None or mean_s is None:
        return _at_most("gap_cv_error", None, limits.gap_cv_error)
    error = abs(sent - wanted) / max(1.0, wanted)
    finding = _at_most("gap_cv_error", error, limits.gap_cv_error)
    if finding.ok or not at_most(abs(sent - wanted) * mean_s, limits.gap_tolerance_s):
        return finding
    return msgspec.structs.replace(finding, ok=True, note="below the tolerance for gaps")


def _policy(observed: Observed, limits: Gates) -> Finding:
    """Whether somebody enforced what the regime says."""
    finding = _at_most("policy_enforced", observed.policy_lag_s, limits.policy_lag_s)
    if finding.ok or observed.policy_lag_s is None:
        return finding
    note = f"{observed.policy_breach}, for {observed.policy_lag_s:.1f} s ({limits.policy_lag_s:g} s are allowed)"
    return msgspec.structs.replace(finding, note=note)


def _disagreement(observed: Observed, limits: Gates) -> Finding:
    """Cold labels against the platform's events, in both directions."""
    gate = "cold_label_disagreement"
    if observed.label_mismatches is None:
        return Finding(gate=gate, ok=True, observed=None, limit=None, note="platform has no events")
    return _at_most(gate, observed.label_mismatches / max(1, observed.labelled), limits.cold_label_disagreement)


def _at_most(gate: str, value: float | None, limit: float) -> Finding:
    if value is not None and not math.isfinite(value):
        # Files know no infinity: what was observed is nothing at all.
        return Finding(gate=gate, ok=False, observed=None, limit=limit, note="no observation at all")
    if value is None:
        return Finding(gate=gate, ok=True, observed=None, limit=limit, note="not observed")
    return Finding(gate=gate, ok=at_most(value, limit), observed=value, limit=limit)


def _fact(gate: str, ok: bool, note: str) -> Finding:
    return Finding(gate=gate, ok=ok, observed=None, limit=None, note="" if ok else note)
