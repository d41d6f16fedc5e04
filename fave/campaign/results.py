"""The shape of `results.json`: named, frozen, every figure with its interval, n and method, or null with the reason.

`python -m analysis schema` writes the JSON Schema of it. Format history: docs/results-format.md.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fave.wire.records import SCHEMA


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """low and high are null when the data do not support an interval; `reason` says why."""

    estimate: float | None
    low: float | None
    high: float | None
    n_runs: int
    method: str
    confidence: float = 0.95
    reason: str = ""


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """a over b, of positive figures of the same blocks: exp of the mean log ratio, paired t on the logs.

    low, high: null where all ratios are the same, with less than two blocks, and where a figure is 0.
    """

    estimate: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: int
    confidence: float = 0.95
    method: str = "paired t over log ratios"
    reason: str = ""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One known answer and what came out. p: of equivalence, of a theory control."""

    kind: str
    load: str
    regimes: tuple[str, ...]
    expected: str
    measured: str
    state: Literal["passed", "failed", "undecided"]
    p: float | None = None
    reason: str = ""


class ThresholdResult(msgspec.Struct, frozen=True, kw_only=True):
    """One threshold in one cell. `observed`: the figure that was asked for."""

    threshold: str
    load: str
    regime: str
    state: Literal["met", "missed", "inconclusive"]
    observed: float | None
    reason: str = ""


class SwitchFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of regime during the runs of an arm (`regime`), from one to another. in_force_s: from asking until counts
    of replicas showed it, mean of run means. cold: of what was sent meanwhile. replaced: functions whose replicas the
    platform replaced for it.
    """

    load: str
    regime: str
    switch: str
    switches: int
    in_force_s: Estimate
    longest_s: float
    cold: Share
    replaced: list[str]


class PhaseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the runs of an arm (`regime`): while a regime stood, or came (`to X`), or while one kind of traffic was
    sent. seconds: of a run, on average. held_gb: GB-s per second. recovery_s: from the beginning of this traffic until
    the last request that was slower than the limit was due; unrecovered: runs in which that was the last one.
    """

    load: str
    regime: str
    phase: str
    runs: int
    seconds: float
    requests: int
    cold: Share
    mean_latency_s: Estimate
    held_gb: Estimate
    recovery_s: Estimate | None
    unrecovered: int


State = Literal["worse", "within", "undecided"]


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a is worse than b in one outcome (`not_worse`). difference, ci95, margin: as of the contrast.

    p_worse: that a is worse, adjusted over all outcomes and loads of the pair. p_within: that it is not worse by
    the margin. state: `worse`; else `within` the margin, or `undecided`.
    """

    load: str
    a: str
    b: str
    outcome: str
    difference: float | None
    ci95: tuple[float, float] | None
    margin: float
    p_worse: float | None
    p_within: float | None
    state: State
    reason: str = ""


class ColdRate(msgspec.Struct, frozen=True, kw_only=True):
    """Cold of those that have a label. outcome: of invocations or of requests.

    unknown: without a label (refused, failed, dropped, timed out, lost, undecided by the clocks). if_warm, if_cold: the
    estimate, had all of them been so; low and high hold the intervals of both. runs_upper: where no run had a cold
    start, the 95 % upper bound for the share of runs.
    """

    outcome: str
    estimate: float | None
    low: float | None
    high: float | None
    n_runs: int
    method: str
    confidence: float
    reason: str
    cold: int
    of: int
    runs_without_cold: int
    runs_upper: float | None
    unknown: float
    if_warm: float | None
    if_cold: float | None
    design_effect: float | None
    intraclass_correlation: float | None


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Pooled over all runs, with its interval."""

    estimate: float | None
    low: float | None
    high: float | None
    cold: int
    of: int


class SlowRate(msgspec.Struct, frozen=True, kw_only=True):
    """Share of all requests that were not answered within `limit_s` of their scheduled arrival."""

    limit_s: float
    rate: Share


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """Cold starts at three levels, and what is known of them.

    request: any invocation was cold. invocation: its replica was not ready when it was sent (affected). on_path: a cold
    wait lies on the request's critical path. first_use: it was its replica's first invocation. triggered: a start began
    for it. evidence: labels by grade.
    """

    request: Share
    invocation: Share
    on_path: Share
    first_use: Share
    triggered: Share
    evidence: dict[str, int]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Geometric means of run percentiles with t intervals on the log, seconds from the scheduled arrival.

    at_least_s: for percentiles among failures. near_jump: percentiles next to the share of cold requests, where latency
    jumps from warm to cold. timeouts: requests given up, which are right-censored.
    """

    p50: float | None
    p50_low: float | None
    p50_high: float | None
    p90: float | None
    p90_low: float | None
    p90_high: float | None
    p95: float | None
    p95_low: float | None
    p95_high: float | None
    p99: float | None
    p99_low: float | None
    p99_high: float | None
    mean: float | None
    among_failures: list[str]
    at_least_s: dict[str, float]
    near_jump: list[str]
    timeouts: int
    reason: str

    def percentile(self, name: str) -> tuple[float | None, float | None, float | None]:
        """p50, p90, p95 or p99, and the ends of its interval."""
        return getattr(self, name), getattr(self, f"{name}_low"), getattr(self, f"{name}_high")


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """By the campaign's price table. executed: paid per use. held: paid while replicas are there."""

    currency: str
    executed_per_1000_requests: float
    held_per_1000_requests: float
    held_per_hour: float


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """GB-s per second of the planned window, that is GB: mean over runs.

    execution: service time x memory limit; provisioned: replica time x memory limit. idle_share: of what is held, what
    executes nothing. per_request_gb_s, per_hour_gb_s: of what is held.
    """

    execution: float | None
    provisioned: float | None
    provisioned_low: float | None
    provisioned_high: float | None
    provisioned_from: list[str]
    per: str
    idle_share: float | None
    per_request_gb_s: float | None
    per_hour_gb_s: float | None
    money: Money | None
    reason: str


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulator makes of the same arrivals, with service and start times drawn from the measured ones."""

    cold_rate: float
    held_gb: float
    runs: int


class KeepWarm(msgspec.Struct, frozen=True, kw_only=True):
    """One replica of one function kept: what it saves, as predicted from runs in which it was not kept.

    on_path_s: cold wait on the critical path, a request. saved_s: a request; less than on_path_s where another branch
    then decides. extra_gb: GB-s per second, beyond what was held anyway.
    """

    function: str
    on_path_s: float
    saved_s: float
    saved_low_s: float | None
    saved_high_s: float | None
    extra_gb: float
    saved_s_per_gb_s: float | None


class PathSplit(msgspec.Struct, frozen=True, kw_only=True):
    """Of answered requests, send to reply. parts_s: means over all of them; they add up to response_s.

    unexplained_share: median over requests of the part that no stamp explains.
    """

    requests: int
    response_s: float
    parts_s: dict[str, float]
    unexplained_share: float
    keep_warm: list[KeepWarm]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One load in one arm (`regime`). start_s: from starting a replica to its being ready, by the platform's events;
    mean of run means, of the runs that had starts.
    """

    target: str
    load: str
    regime: str
    runs: int
    requests: int
    failures: int
    failure_rate: Estimate
    statuses: dict[str, int]
    cold_rate: ColdRate
    levels: Levels
    cold_by_stage: dict[str, Share]
    cold_rate_by_time: dict[str, Share] | None
    latency_s: Latency
    slow_rate: SlowRate | None
    start_s: Estimate
    queue_s_mean: float | None
    ready_replicas_mean: float | None
    generator_cpu_share: float | None
    cost_gb_s: Cost
    predicted: Prediction | None
    path: PathSplit | None


class FailureDifference(msgspec.Struct, frozen=True, kw_only=True):
    """a - b of the shares of requests that were not answered, by CR2. p: not adjusted; null where nothing varies."""

    estimate: float
    ci95: tuple[float, float] | None
    p: float | None


class WithExcluded(msgspec.Struct, frozen=True, kw_only=True):
    """What a contrast had been with the runs put back that were excluded and can be read. runs: so many of them."""

    runs: int
    blocks: int
    difference: float | None
    ci95: tuple[float, float] | None
    verdict: str


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A contrast with, or without, its control variate, at the last look."""

    difference: float
    ci95: tuple[float, float] | None
    p: float | None
    standard_error: float | None
    df: float | None


class ControlVariate(msgspec.Struct, frozen=True, kw_only=True):
    """decides: whether the contrast is the adjusted one. coefficients: by regime, mean over blocks; 0: not adjusted."""

    decides: bool
    coefficients: dict[str, float]
    variance_ratio: float | None
    unadjusted: Beside
    adjusted: Beside


class Contrast(msgspec.Struct, frozen=True, kw_only=True):
    """a against b, paired by block; of two regimes, or an effect of the factorial (`weights` by regime).

    difference, its intervals, and `margin`: of an outcome that is a share of arrivals, a - b of pooled rates; of any
    other one a / b - 1 of geometric means (0.2: a is 20 % more). standard_error is then that of the mean log ratio.

    decided: by its verdict, or constant over eight blocks. chance_next: of a difference at the next look, if estimate
    and spread stay as they are. confidence: of `ci95`; more than 95 % where there are looks. simultaneous95: for all
    planned contrasts together (Bonferroni). p: over the looks so far. standard_error, df: of the difference (CR2,
    blocks as clusters). rates: each run's figure. unlabelled: arrivals without a label; bounds: the least and the
    greatest difference that they allow. Intervals hold those of both ends, p is the greatest, and 1 where the ends have
    different signs.
    """

    target: str
    load: str
    outcome: str
    a: str
    b: str
    weights: dict[str, float]
    difference: float | None
    ci95: tuple[float, float] | None
    confidence: float
    simultaneous95: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    p_sign_flip: float | None
    p_equivalence: float | None
    p_equivalence_holm: float | None
    standard_error: float | None
    df: float | None
    margin: float
    method: str
    blocks: int
    hodges_lehmann: float | None
    cliffs_delta: float | None
    rate_ratio: Ratio | None
    exploratory: bool
    verdict: str
    decided: bool
    chance_next: float | None
    reason: str
    rates: dict[str, list[float]]
    unlabelled: float
    bounds: tuple[float, float] | None
    failures: FailureDifference | None
    control_variate: ControlVariate | None
    with_excluded: WithExcluded | None


class RatioContrast(msgspec.Struct, frozen=True, kw_only=True):
    """a over b, of `p50`, `p95`, `p99`, `mean` latency, `held` memory, or mean `start` of a replica. Secondary: no
    correction, no verdict; exploratory with less than eight blocks.
    """

    load: str
    a: str
    b: str
    figure: str
    ratio: Ratio
    exploratory: bool


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """From `rate_per_s` on scaling to zero (a) holds as much memory as keeping replicas (b), or more.

    Simulated: each block's arrivals in less and less time, until a holds all the replicas that it may, or one cannot
    keep up, at `up_to_per_s`. crossing: blocks in which a reaches b. held_ratio: as measured, at the offered rate.
    """

    load: str
    a: str
    b: str
    offered_rate_per_s: float
    up_to_per_s: float | None
    rate_per_s: float | None
    low: float | None
    high: float | None
    held_ratio: Ratio
    crossing: int
    n: int
    method: str
    reason: str


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """One setting, simulated. slow_rate: where the load has a limit of latency. p95_s: of all arrivals together.

    held_gb: GB-s per second. on_front: no other setting of the sweep beats it in all of cold-start rate, slow_rate
    (without a limit p95_s) and held_gb.
    """

    min_replicas: int
    max_replicas: int
    idle_timeout_s: float
    per_mean_gap: float
    cold_rate: float
    low: float | None
    high: float | None
    slow_rate: float | None
    p95_s: float
    held_gb: float
    on_front: bool


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """Minimum x maximum x idle timeout, simulated on the measured arrivals and times of a load in one regime.

    off, off_slow: by how much it misses, at most, a cold-start rate and a share of slow requests (null without a limit)
    that were measured in any regime of the load.
    """

    load: str
    regime: str
    runs: int
    min_replicas: int
    max_replicas: int
    off: float
    off_slow: float | None
    settings: list[Swept]


class OnFront(msgspec.Struct, frozen=True, kw_only=True):
    """beaten_by: a regime that is at least as good in every criterion, and better in one; empty on the front."""

    regime: str
    cold_rate: float
    slow: float | None
    held_gb: float
    beaten_by: str


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """The measured regimes of a load, by what they hold. slow: what `OnFront.slow` is: slow_rate, p95 or nothing."""

    load: str
    slow: str
    regimes: list[OnFront]


class KeptStage(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction of `KeepWarm` against runs of a regime that keeps just that function. a: without, b: with."""

    load: str
    a: str
    b: str
    function: str
    predicted_s: float
    measured_s: float
    low_s: float | None
    high_s: float | None
    predicted_extra_gb: float
    measured_extra_gb: float
    blocks: int
    agrees: bool | None


class AtLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What a function costs with a memory limit, in GB-s per second: means over its runs. Money an hour, by the
    campaign's price table.

    replicas_per_node: of this function alone, on the smallest node, all of whose memory counts.
    """

    executed_gb: float | None
    provisioned_gb: float | None
    executed_money: float | None
    provisioned_money: float | None
    replicas_per_node: int | None


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What one function took. MB are 2^20 bytes, as in limits. limit_mb: the highest, where runs differ.

    peak_mb: highest of `invocations` with a known peak. start_peak_mb: highest of its replicas until ready.
    p99_upper_mb: one-sided 95 % bound of the 99th percentile. without_peak: invocations that may have taken more.
    kills: replicas over their limit; null where the platform tells of none. reason: why there is no safe limit, or
    what it does not rest on. inputs: what was measured, and all that it was measured on.
    """

    function: str
    limit_mb: int
    peak_mb: float | None
    start_peak_mb: float | None
    share_of_limit: float | None
    p99_upper_mb: float | None
    p99_reason: str
    invocations: int
    without_peak: int
    runs: int
    replicas: int
    kills: int | None
    inputs: list[str]
    safe_limit_mb: int | None
    rule: str
    reason: str
    now: AtLimit
    at_safe_limit: AtLimit | None


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    where: str
    count: int
    detail: list[str]


class Principle(msgspec.Struct, frozen=True, kw_only=True):
    """state: `earned`, `partly` or `missing`."""

    number: int
    title: str
    state: str
    evidence: str


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    evidence: str
    holds: str


class Excluded(msgspec.Struct, frozen=True, kw_only=True):
    cell: str
    reasons: list[str]


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """findings: what is wrong with the data. notes: what a reader must know."""

    valid: bool
    runs_planned: int
    runs_used: int
    excluded: list[Excluded]
    findings: list[str]
    worst_schedule_lag_p99_s: float | None
    gates: dict[str, Any]
    notes: list[str]


class About(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    experiment: str
    description: str
    seed: int
    started_at_ns: int
    co_located: bool
    equivalence_margin: float


class Looks(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks after which the campaign was to be judged, and was; ended: loads that were decided before the last one."""

    planned: list[int]
    taken: list[int]
    ended: dict[str, int]


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """A price table: `prices.yml` in the run folder. Per GB-s executed and held, per million requests."""

    name: str
    version: str
    source: str
    currency: str
    per_gb_s_executed: float
    per_gb_s_held: float
    per_million_requests: float = 0.0

    def __post_init__(self) -> None:
        wrong = [
            n for n in ("per_gb_s_executed", "per_gb_s_held", "per_million_requests") if not 0 <= getattr(self, n) < 1e9
        ]
        if wrong:
            raise ValueError("\n".join(f"{name}: {getattr(self, name)} is not a price" for name in wrong))


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One offered load in one regime, over all its runs. sustained: null where no run is valid.

    queue_first_s, queue_last_s: waits for a free replica, means of the first and the last third of invocations.
    """

    load: str
    rate_per_s: float
    runs: int
    failures: int
    out_of_memory_kills: int
    queue_first_s: float | None
    queue_last_s: float | None
    sustained: bool | None
    reasons: list[str]


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """Of one regime: its rungs from the lowest rate up, the highest that it sustains, what broke at the next."""

    regime: str
    sustained_rate_per_s: float | None
    broke_rate_per_s: float | None
    broke_by: list[str]
    rungs: list[Rung]


class AsSent(msgspec.Struct, frozen=True, kw_only=True):
    """The load of a cell as it left: counts added up over all runs, the worst of every other figure."""

    load: str
    regime: str
    scheduled: int
    sent: int
    dropped: int
    unsent: int
    rate_error: float | None
    schedule_lag_p99_s: float | None
    scheduled_gap_cv: float | None
    sent_gap_cv: float | None
    gap_ks: float | None


class Results(msgspec.Struct, frozen=True, kw_only=True):
    schema: int = SCHEMA
    campaign: About
    primary_outcome: str
    cells: list[Cell]
    contrasts: list[Contrast]
    effects: list[Contrast]
    secondary_contrasts: list[Contrast]
    ratios: list[RatioContrast]
    break_even: list[BreakEven]
    sweeps: list[Sweep]
    fronts: list[Front]
    kept_stages: list[KeptStage]
    memory: list[Memory]
    thresholds: list[ThresholdResult]
    guards: list[Guard]
    switches: list[SwitchFigures]
    phases: list[PhaseFigures]
    controls: list[Checked]
    capacity: list[Ladder]
    looks: Looks
    load_as_sent: list[AsSent]
    anomalies: list[Anomaly]
    recommendations: list[Recommendation]
    scorecard: list[Principle]
    prices: Prices | None
    validity: Validity


def share(estimate: Estimate, cold: int, of: int) -> Share:
    return Share(estimate=estimate.estimate, low=estimate.low, high=estimate.high, cold=cold, of=of)
