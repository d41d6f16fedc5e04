"""The gateway's metrics: OpenFaaS' by their names, Pro's where they mean something here, and FAVE's own (`fave_…`).

Replica counts are read at the moment of the scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from local.gateway.function import Function

# So late, the gateway is part of what a caller measures.
LATE_S = 0.05
_LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_START_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_NAME = "function_name"

_GAUGES: tuple[tuple[str, str, Callable[[Function], int]], ...] = (
    ("gateway_service_count", "Desired replicas", lambda f: f.alive),
    ("gateway_service_ready_count", "Ready replicas", lambda f: f.ready),
    ("gateway_service_min", "Minimum replicas", lambda f: f.policy.min_replicas),
    (
        "gateway_function_invocation_inflight",
        "Admitted and unfinished, waiting included",
        lambda f: f.in_flight + f.waiting,
    ),
    ("fave_replicas_starting", "Replicas that are not ready yet", lambda f: f.alive - f.ready),
    ("fave_queue_length", "Invocations that wait for a replica", lambda f: f.waiting),
)


class GatewayMetrics:
    def __init__(self, functions: Callable[[], Iterable[Function]]) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(_Replicas(functions, self))
        self.started: dict[str, int] = {}
        of_call = (_NAME, "code")
        self._invocations = Counter("gateway_function_invocation", "Finished invocations", of_call, registry=registry)
        self._seconds = Histogram(
            "gateway_functions_seconds", "Invocation time", of_call, buckets=_BUCKETS, registry=registry
        )
        self._waits = Histogram(
            "fave_queue_wait_seconds", "Wait for a replica", (_NAME,), buckets=_BUCKETS, registry=registry
        )
        self._starts = Histogram(
            "fave_replica_start_seconds",
            "From the decision to start a replica until it is ready",
            (_NAME, "reason"),
            buckets=_START_BUCKETS,
            registry=registry,
        )
        self._ends = Counter(
            "fave_replicas_ended", "Replicas that ended", (_NAME, "event", "reason"), registry=registry
        )
        self._lag = Histogram(
            "gateway_loop_lag_seconds", "How late the gateway's loop is", buckets=_LAGS, registry=registry
        )
        started = Gauge("gateway_start_time_seconds", "When this gateway was started, UTC", registry=registry)
        started.set_to_current_time()
        self._late = Counter("gateway_loop_late", "How often it was 50 ms late, or later", registry=registry)

    def late(self, seconds: float) -> None:
        self._lag.observe(seconds)
        if seconds >= LATE_S:
            self._late.inc()

    def invocation_started(self, function: str) -> None:
        self.started[function] = self.started.get(function, 0) + 1

    def invocation_finished(self, function: str, code: int, seconds: float) -> None:
        self._invocations.labels(function, str(code)).inc()
        self._seconds.labels(function, str(code)).observe(seconds)

    def waited(self, function: str, seconds: float) -> None:
        self._waits.labels(function).observe(seconds)

    def replica_ready(self, function: str, reason: str, seconds: float) -> None:
        """reason: of the start, as the event log has it."""
        self._starts.labels(function, reason).observe(seconds)

    def replica_ended(self, function: str, event: str, reason: str) -> None:
        """event, reason: as the event log has them; a reason that tells of one replica alone is left out."""
        self._ends.labels(function, event, reason if event == "stop" else "").inc()

    def exposition(self) -> bytes:
        return bytes(generate_latest(self.registry))


class _Replicas(Collector):
    def __init__(self, functions: Callable[[], Iterable[Function]], metrics: GatewayMetrics) -> None:
        self._functions = functions
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        families = []
        functions = [(full_name(function), function) for function in self._functions()]
        for name, about, value in _GAUGES:
            family = GaugeMetricFamily(name, about, labels=[_NAME])
            for function_name, function in functions:
                family.add_metric([function_name], value(function))
            families.append(family)
        load = GaugeMetricFamily(
            "gateway_service_target_load", "Load planned for a replica", labels=[_NAME, "scaling_type"]
        )
        for function_name, function in functions:
            load.add_metric([function_name, function.policy.scaling_type], function.policy.target)
        # OpenFaaS' name has no `_total`, which the client library would add to a counter.
        started = Metric("gateway_function_invocation_started", "Invocations that reached the gateway", "gauge")
        for name, count in self._metrics.started.items():
            started.add_sample("gateway_function_invocation_started", {_NAME: name}, count)
        return [*families, load, started]


def full_name(function: Function) -> str:
    return f"{function.name}.{function.deployment.namespace}"
