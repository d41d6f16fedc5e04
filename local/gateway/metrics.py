"""OpenFaaS' gateway metrics, by their names, and two of Pro's; replica counts are read at the moment of the scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from local.gateway.function import Function

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class GatewayMetrics:
    def __init__(self, functions: Callable[[], Iterable[Function]]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Replicas(functions, self))
        self.started: dict[str, int] = {}
        labels = ("function_name", "code")
        self._invocations = Counter(
            "gateway_function_invocation", "Finished invocations", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "gateway_functions_seconds", "Invocation time", labels, buckets=_BUCKETS, registry=self.registry
        )

    def invocation_started(self, function: str) -> None:
        self.started[function] = self.started.get(function, 0) + 1

    def invocation_finished(self, function: str, code: int, seconds: float) -> None:
        self._invocations.labels(function, str(code)).inc()
        self._seconds.labels(function, str(code)).observe(seconds)

    def exposition(self) -> bytes:
        return bytes(generate_latest(self.registry))


class _Replicas(Collector):
    def __init__(self, functions: Callable[[], Iterable[Function]], metrics: GatewayMetrics) -> None:
        self._functions = functions
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        count = GaugeMetricFamily("gateway_service_count", "Desired replicas", labels=["function_name"])
        ready = GaugeMetricFamily("gateway_service_ready_count", "Ready replicas", labels=["function_name"])
        minimum = GaugeMetricFamily("gateway_service_min", "Minimum replicas", labels=["function_name"])
        in_flight = GaugeMetricFamily(
            "gateway_function_invocation_inflight",
            "Admitted and unfinished, waiting included",
            labels=["function_name"],
        )
        # OpenFaaS' name has no `_total`, which the client library would add to a counter.
        started = Metric("gateway_function_invocation_started", "Invocations that reached the gateway", "gauge")
        for function in self._functions():
            name = full_name(function)
            count.add_metric([name], function.alive)
            ready.add_metric([name], function.ready)
            minimum.add_metric([name], function.policy.min_replicas)
            in_flight.add_metric([name], function.in_flight + function.waiting)
        for name, value in self._metrics.started.items():
            started.add_sample("gateway_function_invocation_started", {"function_name": name}, value)
        return [count, ready, minimum, in_flight, started]


def full_name(function: Function) -> str:
    return f"{function.name}.{function.deployment.namespace}"
