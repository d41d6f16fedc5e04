"""All that the report takes from one run's rows, in one pass: afterwards the rows can go."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from analysis.rows import fidelity, measures, phases, simulate, soundness
from analysis.rows.folder import Campaign, Rows, Run
from analysis.rows.path import Paths, paths
from analysis.rows.phases import Phase, Switched
from fave.campaign.experiment import Experiment
from fave.campaign.outcomes import COLD, SLOW
from fave.campaign.validity import Fidelity
from fave.wire import replica_events

# What is reported apart, of runs at least twice as long.
_FIRST_NS = 30_000_000_000
Array = np.ndarray[Any, Any]
Counts = tuple[int, int]


class Held(NamedTuple):
    """By function: seconds of all its replicas together, and seconds in which there was at least one."""

    replica_s: dict[str, float]
    any_s: dict[str, float]


class Cold(NamedTuple):
    """(cold, known) at each level. A row without a label counts in neither.

    requests: any invocation was cold. invocations: affected. on_path: requests with a cold wait on their critical path.
    first_use, triggered: invocations that were their replica's first, that a start began for; of all invocations.
    first, rest: of the primary outcome, sent in the first 30 seconds and later.
    """

    requests: Counts
    invocations: Counts
    on_path: Counts
    first_use: Counts
    triggered: Counts
    by_stage: dict[str, Counts]
    first: Counts
    rest: Counts


class Unlabelled(NamedTuple):
    """Requests, and invocations on their behalf, of which nobody knows whether they were cold.

    requests: without a label. of_answered: invocations without one, of answered requests. failed: the other requests,
    by how many labelled invocations they had (none where they were refused, dropped or lost). answered: (invocations,
    requests) of answered ones.
    """

    requests: int
    of_answered: int
    failed: dict[int, int]
    answered: Counts

    def invocations(self, expected: float) -> float:
        """expected: what a request would have had, had it been answered."""
        return self.of_answered + sum(max(0.0, expected - known) * n for known, n in self.failed.items())


class BadEnd(NamedTuple):
    """A replica that did not stop as it should. event: `crashed`, `oom_killed`, `start_failed`."""

    event: str
    function: str
    after_s: float
    reason: str
    last_words: tuple[str, ...]


class Taken(NamedTuple):
    """Memory of one function's invocations. peaks_mb: how many had each peak. start_peak_mb: None where not recorded.

    unknown: invocations that reached a replica, or may have, and left no peak.
    """

    peaks_mb: dict[float, int]
    unknown: int
    start_peak_mb: float | None
    replicas: int
    service_s: float


class Digest(NamedTuple):
    """One run. None where its rows do not support a figure.

    problems: why its rows are not to be believed. latencies_s: sorted, of answered requests, from the schedule.
    waited_s: sorted, of requests that were given up: so long at least they would have taken. slow: (slower than the
    load's limit or not answered, all) requests; (0, 0) without a limit. statuses: requests by how they ended.
    unlabelled: what the rate of cold invocations lacks because nobody knows whether it was cold; a failed request of a
    pipeline counts with the mean number of invocations of its block's answered ones. said: by error, what was written
    about the first request that ended so. evidence: labels by grade. start_mean_s: from start to ready, by events.
    window_s: over which costs count. has_events: the platform tells of starts and ends, in any run. predicted: by the
    simulator.
    """

    run: Run
    problems: tuple[str, ...]
    requests: int
    statuses: dict[str, int]
    latencies_s: Array
    waited_s: Array
    slow: Counts
    cold: Cold
    without_label: Unlabelled
    unlabelled: float
    evidence: dict[str, int]
    queue_mean_s: float | None
    start_mean_s: float | None
    service_mean_s: float | None
    ready_mean: float | None
    window_s: float
    execution_gb_s: float
    memory: dict[str, Taken]
    has_events: bool
    held_by_events: Held
    held_by_samples: Held
    ended_badly: tuple[BadEnd, ...]
    errors: dict[str, int]
    said: dict[str, tuple[str, ...]]
    fidelity: Fidelity
    fidelity_notes: tuple[str, ...]
    by_regime: tuple[Phase, ...]
    by_traffic: tuple[Phase, ...]
    switches: tuple[Switched, ...]
    paths: Paths
    predicted: simulate.Predicted | None

    @property
    def failures(self) -> int:
        return self.requests - self.statuses.get("ok", 0)

    def counts(self, outcome: str) -> Counts:
        """(events, known) of an outcome that is a share: slow requests, failed or cold ones, or cold invocations."""
        if outcome == SLOW:
            return self.slow
        if outcome == "failure_rate":
            return self.failures, self.requests
        return self.cold.invocations if outcome == "invocation_cold_rate" else self.cold.requests

    def lacking(self, outcome: str) -> float:
        """What has no label. Every request is slow or not, and answered or not."""
        if outcome not in COLD:
            return 0.0
        return self.unlabelled if outcome == COLD[0] else self.without_label.requests

    def bounded(self, outcome: str) -> tuple[tuple[float, float], tuple[float, float]]:
        """(events, all), had all without a label been none, and had they been some."""
        events, known = self.counts(outcome)
        lacking = self.lacking(outcome)
        return (events, known + lacking), (events + lacking, known + lacking)


def cold_outcome(experiment: Experiment) -> str:
    """The level of cold starts that the experiment is about, also where its primary outcome is another one."""
    named = (experiment.primary_outcome, *experiment.secondary_outcomes)
    return next((name for name in named if name in COLD), COLD[0])


def limit_s(experiment: Experiment, load: str) -> float | None:
    """The load's limit of latency."""
    slo = experiment.loads[load].slo if load in experiment.loads else None
    return float(slo) if slo else None


def of(campaign: Campaign, run: Run) -> Digest:
    rows = campaign.rows(run)
    requests, stages, replicas = rows.requests, rows.stages, rows.replicas
    load, notes = fidelity.judged_again(campaign, run, requests)
    start_ns, end_ns = measures.window_ns(requests, run.planned_end_ns)
    known = paths(stages, run.entries, run.graph)
    ok = (pl.col("status") == "ok") & pl.col("latency_s").is_not_null()
    failures = _failures(requests)
    latencies_s = requests.filter(ok)["latency_s"].sort().to_numpy()
    slo_s = limit_s(campaign.experiment, run.load)
    about, outcome = campaign.experiment, cold_outcome(campaign.experiment)
    first = run.applied_regime or run.regime
    of_regimes = phases.of_regimes(run, first, end_ns)
    of_traffic = phases.of_traffic(run, about)
    by_traffic = phases.phases(of_traffic, run, rows, outcome)
    return Digest(
        run=run,
        problems=(*run.problems, *soundness.problems(run, rows)),
        requests=len(requests),
        statuses=_counts(requests["status"]),
        latencies_s=latencies_s,
        waited_s=requests.filter(pl.col("status") == "timeout")["latency_s"].drop_nulls().sort().to_numpy(),
        slow=(0, 0) if slo_s is None else _slow(latencies_s, len(requests), slo_s),
        cold=_cold(run, rows, known, outcome),
        without_label=_without_label(requests, stages),
        unlabelled=0.0,
        evidence=_counts(stages["evidence"]),
        queue_mean_s=measures.mean_queue_s(stages),
        start_mean_s=measures.mean_start_s(replicas),
        service_mean_s=measures.mean(stages["service_s"]),
        ready_mean=measures.mean_ready(replicas, start_ns, end_ns),
        window_s=(end_ns - start_ns) / 1e9,
        execution_gb_s=math.fsum(stages["cost_gb_s"].to_list()),
        memory={str(name): _taken(group) for (name,), group in stages.group_by(["stage"])},
        has_events=bool((replicas["replica_id"] != "").any()),
        held_by_events=_held(measures.spans_from_events(replicas, run.initial_ready, start_ns, end_ns)),
        held_by_samples=_held(measures.spans_from_samples(replicas, start_ns, end_ns)),
        ended_badly=_ended_badly(run, rows),
        errors={error: len(ids) for error, ids in failures.items()},
        said={error: tuple(rows.last_words.get(ids[0], ())) for error, ids in failures.items()},
        fidelity=load,
        fidelity_notes=tuple(notes),
        by_regime=tuple(phases.phases(of_regimes, run, rows, outcome)),
        by_traffic=tuple(phases.with_recovery(by_traffic, of_traffic, rows, slo_s)),
        switches=tuple(phases.switched(run, first, rows, outcome)),
        paths=known if run.graph else known._replace(request_ids=[]),
        predicted=simulate.predicted(run, requests, stages, replicas, slo_s),
    )


def _slow(latencies_s: Array, requests: int, limit_s: float) -> Counts:
    """What failed was not answered in time either."""
    return requests - int(np.searchsorted(latencies_s, limit_s, side="right")), requests


def of_all(campaign: Campaign, tell: Callable[[int, int], None] = lambda *_: None) -> list[Digest]:
    """tell: (done, of) before each run."""
    found = []
    for done, run in enumerate(campaign.runs):
        tell(done, len(campaign.runs))
        found.append(of(campaign, run))
    has_events = any(each.has_events for each in found)
    return [each._replace(has_events=has_events, unlabelled=_unlabelled(each, found)) for each in found]


def _unlabelled(each: Digest, every: Sequence[Digest]) -> float:
    if not each.run.graph:
        return each.without_label.invocations(1.0)
    load = [other for other in every if (other.run.load, other.run.graph) == (each.run.load, each.run.graph)]
    block = [other for other in load if other.run.block == each.run.block]
    # Where nothing of the block was answered, the load's other blocks tell.
    return each.without_label.invocations(_expected(block) or _expected(load) or 1.0)


def _expected(mine: Sequence[Digest]) -> float | None:
    """Invocations of an answered request."""
    invocations, requests = (sum(each.without_label.answered[i] for each in mine) for i in (0, 1))
    return invocations / requests if requests else None


def unsound(digests: Sequence[Digest]) -> frozenset[str]:
    return frozenset(each.run.folder for each in digests if each.problems)


def _counts(values: pl.Series) -> dict[str, int]:
    table = values.drop_nulls().value_counts().sort(values.name)
    return {str(value): int(count) for value, count in table.iter_rows()}


def _failures(requests: pl.DataFrame) -> dict[str, list[str]]:
    """Ids of the requests that were not answered, by error; an error's own mention of the request left out."""
    found: dict[str, list[str]] = {}
    failed = requests.filter(pl.col("status") != "ok").select("request_id", "error", "status")
    for request_id, error, status in failed.iter_rows():
        found.setdefault((error or status).replace(request_id, "…"), []).append(request_id)
    return found


def _cold(run: Run, rows: Rows, known: Paths, outcome: str) -> Cold:
    requests, stages, replicas = rows.requests, rows.stages, rows.replicas
    first, rest = measures.first_and_rest(stages, requests, outcome, run.started_at_ns + _FIRST_NS)
    on_path = sum(known.cold_by_stage_s.values(), start=np.zeros(len(known.response_s))) > 0
    uses = stages.filter(pl.col("invocations_before") >= 0)
    starts = replicas.filter((pl.col("event") == "start") & (pl.col("request_id") != ""))
    by_stage = stages.filter(pl.col("cold").is_not_null()).group_by("stage").agg(pl.col("cold").sum(), pl.len())
    return Cold(
        requests=measures.cold_counts(stages, requests, "request_cold_rate"),
        invocations=measures.cold_counts(stages, requests, "invocation_cold_rate"),
        on_path=(int(on_path.sum()), len(on_path)),
        first_use=(len(uses.filter(pl.col("invocations_before") == 0)), len(uses)),
        triggered=(starts.height, len(stages)),
        by_stage={name: (int(cold), int(n)) for name, cold, n in by_stage.sort("stage").iter_rows()},
        first=first,
        rest=rest,
    )


def _without_label(requests: pl.DataFrame, stages: pl.DataFrame) -> Unlabelled:
    ok = pl.col("status") == "ok"
    answered = requests.filter(ok)
    # An attempt that was refused counts as nothing where a later one was answered.
    lacking = stages.filter(pl.col("cold").is_null() & (pl.col("status") != "failed"))
    labelled = stages.filter(pl.col("cold").is_not_null()).group_by("request_id").len("labelled")
    failed = requests.filter(~ok).join(labelled, on="request_id", how="left")["labelled"].fill_null(0)
    return Unlabelled(
        requests=int(requests["cold"].null_count()),
        of_answered=lacking.join(answered, on="request_id", how="semi").height,
        failed={int(known): int(n) for known, n in failed.value_counts().iter_rows()},
        answered=(int(answered["invocations"].sum()), answered.height),
    )


def _taken(stages: pl.DataFrame) -> Taken:
    known = pl.col("peak_rss_mb") > 0
    peaks = stages.filter(known)["peak_rss_mb"].value_counts()
    # What the platform refused reached no replica.
    reached = (pl.col("replica_id") != "") | (pl.col("status") == "lost")
    starts = stages.filter(pl.col("start_peak_rss_mb") > 0)["start_peak_rss_mb"]
    return Taken(
        peaks_mb={float(peak): int(count) for peak, count in peaks.iter_rows()},
        unknown=stages.filter(known.fill_null(value=False).not_() & reached).height,
        start_peak_mb=float(starts.max()) if len(starts) else None,  # type: ignore[arg-type]
        replicas=stages.filter(pl.col("replica_id") != "")["replica_id"].n_unique(),
        service_s=math.fsum(stages["service_s"].drop_nulls().to_list()),
    )


def _held(spans: dict[str, list[measures.Span]]) -> Held:
    return Held(
        {name: sum(until - since for since, until in each) for name, each in spans.items()},
        {name: measures.union_s(each) for name, each in spans.items()},
    )


def _ended_badly(run: Run, rows: Rows) -> tuple[BadEnd, ...]:
    events = rows.replicas.filter(pl.col("event").is_in(replica_events.BAD_ENDS)).sort("at_ns")
    return tuple(
        BadEnd(event, function, (at_ns - run.started_at_ns) / 1e9, reason, tuple(rows.last_words.get(replica, ())))
        for event, function, at_ns, reason, replica in events.select(
            "event", "function", "at_ns", "reason", "replica_id"
        ).iter_rows()
    )
