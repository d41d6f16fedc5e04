"""Named PromQL, by a profile: what a platform calls its metrics. Each is about all functions; a label tells them apart.

Several gateway pods may stand behind one Prometheus. Each counts the calls that went through itself, so counters and
calls in flight are summed over them. But what a pod tells of a function (`gateway_service_…`: replica counts, targets)
it has read from Kubernetes, as the others have: a sum would double every replica. Of these the highest counts: pods
read at different moments, and no replica is gone as long as one pod still sees it.
"""

from __future__ import annotations

from typing import NamedTuple

# Who was not scraped for so long is not there any more.
_GONE_S = 30.0


class Profile(NamedTuple):
    """Metric names as a platform has them; label: of which function. own: all that it tells of itself, as a pattern.

    alike: those of its own that its pods tell alike, of which the highest counts.
    """

    ready: str
    desired: str
    in_flight: str
    started: str
    finished: str
    label: str
    own: str
    alike: str

    @property
    def replica_series(self) -> str:
        return f'{{__name__=~"{self.desired}|{self.ready}"}}'

    def replicas(self) -> str:
        return f"max by (__name__, {self.label}) ({self.replica_series})"

    def everything(self) -> str:
        """All that gateways tell, without the histograms' buckets."""
        by = f"(__name__, {self.label}, code)"
        return (
            f'max by {by} ({{__name__=~"{self.alike}"}}) '
            # Without `on`, sets are matched by all labels but the name.
            f'or on {by} sum by {by} ({{__name__=~"{self.own}",__name__!~"{self.alike}|.+_(bucket|created)"}})'
        )

    def ready_since(self, at_s: float) -> str:
        """Ready replicas, of scrapes after `at_s` alone."""
        return f"max by ({self.label}) ({self.ready} and timestamp({self.ready}) > {at_s:.3f})"

    def in_flight_since(self, at_s: float) -> str:
        """Calls in flight, once every gateway pod was scraped after `at_s`; nothing before.

        A pod tells of a function's calls from the first one on, but of replicas always: those show which pods there
        are, and the newest of them when it was scraped. What a Prometheus that was restarted last heard half a minute
        ago, of a function or a pod that is gone, holds nobody up. Where nobody tells of calls in flight, they are those
        that were started and not finished; who waits for a replica is none of them yet.
        """
        newest = f"max by (job, instance) (timestamp({self.desired}))"
        behind = f"({newest} <= {at_s:.3f}) > time() - {_GONE_S:g}"
        told = self._summed(self.in_flight, at_s)
        started, finished = self._summed(self.started, at_s), self._summed(self.finished, at_s)
        unfinished = f"{started} - on ({self.label}) ({finished} or on ({self.label}) {started} * 0)"
        none = f"{self._summed(self.desired, at_s)} * 0"
        return f"({told} or on ({self.label}) ({unfinished}) or on ({self.label}) {none}) unless on () {behind}"

    def _summed(self, name: str, at_s: float) -> str:
        """Over all gateway pods that were scraped after `at_s`."""
        return f"sum by ({self.label}) ({name} and timestamp({name}) > {at_s:.3f})"


# Pro's gateway, and the embedded one: ready replicas and calls in flight are not among the community edition's metrics.
OPENFAAS = Profile(
    ready="gateway_service_ready_count",
    desired="gateway_service_count",
    in_flight="gateway_function_invocation_inflight",
    started="gateway_function_invocation_started",
    finished="gateway_function_invocation_total",
    label="function_name",
    own="gateway_.+",
    # And of when they were started the latest.
    alike="gateway_service_.+|gateway_start_time_seconds",
)
