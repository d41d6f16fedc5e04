"""What a replica tells Prometheus at `/_/metrics`: of-watchdog's names, and FAVE's own."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from functions.host.replica import Identity, peak_rss_mb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counted as plain numbers: the client library is imported by the first scrape, not by a cold start."""

    def __init__(self, identity: Identity) -> None:
        self.ready_after_s = 0.0
        self.in_flight = 0
        self.waiting = 0
        self._identity = identity
        self._lock = threading.Lock()
        self._by_code: Counter[int] = Counter()
        self._buckets = [0] * (len(_BUCKETS_S) + 1)
        self._seconds = self._cost_gb_s = 0.0
        self._cold = 0

    def finished(self, *, code: int, service_s: float, cold: bool, cost_gb_s: float) -> None:
        with self._lock:
            self._by_code[code] += 1
            self._buckets[bisect_left(_BUCKETS_S, service_s)] += 1
            self._seconds += service_s
            self._cost_gb_s += cost_gb_s
            self._cold += cold

    def exposition(self) -> bytes:
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(self)
        return bytes(generate_latest(registry))

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        with self._lock:
            by_code, buckets = dict(self._by_code), list(self._buckets)
            seconds, cost_gb_s, cold = self._seconds, self._cost_gb_s, self._cold
        requests = CounterMetricFamily("http_requests", "Finished invocations", labels=["code"])
        for code, count in by_code.items():
            requests.add_metric([str(code)], count)
        edges = [*(str(edge) for edge in _BUCKETS_S), "+Inf"]
        cumulated = [sum(buckets[: i + 1]) for i in range(len(edges))]
        histogram = HistogramMetricFamily("http_request_duration_seconds", "Service time")
        histogram.add_metric([], list(zip(edges, cumulated, strict=True)), seconds)
        labels = {"stage": self._identity.function, "replica_id": self._identity.replica_id}
        replica = GaugeMetricFamily("fave_replica_ready_seconds", "Process start to ready", labels=list(labels))
        replica.add_metric(list(labels.values()), self.ready_after_s)
        return [
            requests,
            histogram,
            GaugeMetricFamily("http_requests_in_flight", "Admitted and unfinished", self.in_flight),
            CounterMetricFamily("fave_cold_invocations", "Sent before this replica was ready", cold),
            CounterMetricFamily("fave_cost_gb_seconds", "Service time x memory limit", cost_gb_s),
            GaugeMetricFamily("fave_waiting_invocations", "Calls that wait for a slot", self.waiting),
            GaugeMetricFamily("fave_peak_rss_megabytes", "High-water mark of the last invocations", peak_rss_mb()),
            replica,
        ]
