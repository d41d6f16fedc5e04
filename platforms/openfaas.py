"""OpenFaaS behind its gateway, with Prometheus as a witness."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil

from fave.campaign.experiment import Policy
from fave.clock import iso, utc_ns
from fave.endpoints import Endpoints
from fave.errors import GatewayError, PlatformError
from fave.storage import LOOPBACK
from fave.strain import Strain
from fave.wire import replica_events
from fave.wire.openfaas import LABEL, FunctionSpec, FunctionStatus
from fave.wire.records import ReplicaRow
from platforms import borrowed, deployed, specs, stack
from platforms.gateway import Gateway
from platforms.model import Capabilities, Counts, Facts, FailedStart, Seen
from platforms.specs import MANAGED
from prom.client import Prometheus
from workloads.model import Workload

# No event has such a number: whoever is asked for what came after it tells nothing, or that there is no log.
_NEVER = 2**62


class OpenFaas:
    """Any edition: what differs between them is asked for, or seen when it does not come about."""

    # Its `down.window` ends there.
    LONGEST_WINDOW_S = 300.0

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.gateway = Gateway.at(endpoints)
        self.prometheus = Prometheus(endpoints.prometheus_url)

    @classmethod
    def serves(cls, endpoints: Endpoints) -> bool:
        """Whatever has no class of its own."""
        return bool(endpoints.gateway_url)

    def counts(self) -> dict[str, Counts]:
        return {
            status.name: Counts(status.replicas, status.available_replicas, status.draining, status.invocation_count)
            for status in self.gateway.functions()
        }

    def changeable(self, workload: Workload, functions: Collection[str]) -> set[str]:
        """Everybody else's functions stay as they are."""
        if not workload.deploy:
            return set(borrowed.borrow(self.gateway, workload, functions))
        there = {status.name: status for status in self.gateway.functions()}
        # One that was made by hand is called by its name, but not listed.
        unlisted = (self.gateway.function(name) for name in set(functions) - there.keys())
        there |= {status.name: status for status in unlisted if status is not None}
        own = {name for name, status in there.items() if (status.labels or {}).get(MANAGED) == "true"}
        foreign = sorted(there.keys() & set(functions) - own)
        if foreign:
            hint = f"delete or rename them, or give them the label {MANAGED}=true if FAVE may replace them"
            raise PlatformError(
                f"functions that FAVE did not deploy have the names it needs: {', '.join(foreign)}", hint=hint
            )
        return own

    def deploy(self, workload: Workload, regime: str, policies: Mapping[str, Policy]) -> None:
        for spec in self._specs(workload, regime, policies).values():
            deployed.deploy(self.gateway, spec)

    def bound(self, workload: Workload, regime: str, policies: Mapping[str, Policy]) -> list[str]:
        there = {status.name: status for status in self.gateway.functions()}
        for function, spec in self._specs(workload, regime, policies).items():
            # The annotation is part of a replica's identity: a new one would replace the replicas.
            deployed.deploy(self.gateway, msgspec.structs.replace(spec, annotations=there[function].annotations or {}))
        return []

    def scale(self, function: str, replicas: int) -> None:
        deployed.insisting(lambda: self.gateway.scale(function, replicas))

    def remove(self, function: str) -> None:
        deployed.remove(self.gateway, function)

    def give_back(self, functions: Collection[str] | None = None) -> list[str]:
        return borrowed.give_back(self.gateway, functions)

    def standing(self, functions: Collection[str]) -> dict[str, dict[str, str]]:
        labels = {status.name: status.labels or {} for status in self.gateway.functions()}
        return {f: {k: v for k, v in labels.get(f, {}).items() if k.startswith(LABEL)} for f in functions}

    def witnessed(self) -> dict[str, tuple[int, int]]:
        return self.prometheus.replicas()

    def ready_since(self, at_ns: int) -> dict[str, int]:
        return self.prometheus.ready_since(at_ns)

    def in_flight_since(self, at_ns: int) -> dict[str, int]:
        return self.prometheus.in_flight_since(at_ns)

    def counters(self) -> dict[str, float]:
        return self.prometheus.gateway()

    @contextlib.contextmanager
    def observe(self, functions: Collection[str]) -> Iterator[Watching]:
        yield Watching(self, functions)

    def failed_starts(self, since_ns: int) -> list[FailedStart]:
        failed = replica_events.FAILED_STARTS
        return [
            # One that was given its whole time will not do better.
            FailedStart(each["function"], each.get("reason") or each["event"], "within" in each.get("reason", ""))
            for each in self.events()
            if each["event"] in failed and each["at_ns"] >= since_ns
        ]

    def logs(self, function: str, since_ns: int, lines: int) -> list[dict[str, Any]]:
        return self.gateway.logs(function, iso(since_ns), lines)

    def processes_of(self, function: str) -> list[psutil.Process]:
        return []

    def capabilities(self) -> Capabilities:
        """Events are asked for; nothing else is relied upon."""
        return Capabilities(
            replica_events=self._log(since=_NEVER) is not None,
            limits_enforced_by_gateway=False,
            draining_replicas_told=False,
            credentials_by_function=False,
        )

    def facts(self) -> Facts:
        host = urlsplit(self.endpoints.gateway_url).hostname
        return Facts(
            info=self.gateway.info(),
            capabilities=self.capabilities(),
            co_located=host in LOOPBACK,
        )

    def own_processes(self) -> list[int]:
        return []

    def generator_cores(self) -> list[int]:
        return []

    # For this room.

    def events(self) -> list[dict[str, Any]]:
        """Empty where there is no such log: it is the embedded gateway's."""
        return self._log() or []

    def _log(self, since: int = 0) -> list[dict[str, Any]] | None:
        try:
            return self.gateway.events(since)
        except GatewayError as error:
            if error.status == 404:
                return None
            raise

    def strain_from_now(self) -> Callable[[], Strain | None]:
        """What asks, at any later time, how the machines that functions run on have fared since."""
        return lambda: None

    def _specs(self, workload: Workload, regime: str, policies: Mapping[str, Policy]) -> dict[str, FunctionSpec]:
        too_long = [
            f"{function}: idle_timeout {each.idle_timeout} of surplus replicas is over {self.LONGEST_WINDOW_S:g} s"
            for function, each in policies.items()
            if each.idle_timeout > self.LONGEST_WINDOW_S and each.max_replicas > max(1, each.min_replicas)
        ]
        if too_long:
            raise PlatformError("\n".join(too_long), hint="OpenFaaS' window for scaling down ends there")
        if workload.deploy:
            return {f: self._spec(workload, f, each, regime) for f, each in policies.items()}
        there: dict[str, FunctionStatus] = borrowed.borrow(self.gateway, workload, policies)
        return {f: borrowed.as_spec(there[f], specs.scaling_labels(each)) for f, each in policies.items()}

    def _spec(self, workload: Workload, function: str, policy: Policy, regime: str) -> FunctionSpec:
        """A workload's own image, or what the stack file says, which has addresses and secrets of FAVE's functions."""
        about = workload.functions[function]
        if about.hosted and not about.image:
            return stack.spec(workload, function, policy, regime, stack.load())
        return specs.to_spec(workload, function, policy, image=workload.image_of(function), regime=regime)


class Watching:
    """Everything is asked for afterwards: Prometheus and the event log keep it."""

    def __init__(self, platform: OpenFaas, functions: Collection[str]) -> None:
        self.platform = platform
        self.functions = functions
        self.strain = platform.strain_from_now()
        self.since_ns = utc_ns()

    def begin(self) -> int:
        self.strain, self.since_ns = self.platform.strain_from_now(), utc_ns()
        return self.since_ns

    def end(self) -> Seen:
        """Raw Prometheus samples of ready and desired, and the gateway's events."""
        end_ns, strain = utc_ns(), self.strain()
        events = self.platform.events()
        samples = sample_rows(self.platform.prometheus, self.functions, self.since_ns, end_ns)
        rows = [*samples, *_event_rows(events, self.functions, self.since_ns)]
        return Seen(
            rows=sorted(rows, key=lambda row: row.at_ns),
            routable_at_ns={
                each["replica_id"]: each["at_ns"] for each in events if each["event"] == replica_events.READY
            },
            gateway_queues=bool(events),
            strain=strain,
            until_ns=end_ns,
        )


def sample_rows(prometheus: Prometheus, functions: Collection[str], start_ns: int, end_ns: int) -> Iterator[ReplicaRow]:
    """Raw samples of ready and desired within (start, end]."""
    before_ns: dict[str, int] = {}
    for sample in prometheus.replica_samples(start_ns, end_ns):
        if sample.function in functions:
            yield ReplicaRow(
                at_ns=sample.at_ns,
                source="prometheus",
                function=sample.function,
                age_s=(sample.at_ns - before_ns.get(sample.function, start_ns)) / 1e9,
                desired=sample.desired,
                ready=sample.ready,
                starting=sample.desired - sample.ready,
            )
            before_ns[sample.function] = sample.at_ns


def _event_rows(events: list[dict[str, Any]], functions: Collection[str], start_ns: int) -> list[ReplicaRow]:
    """Of the gateway's log, what became of replicas of these functions since."""
    return [
        ReplicaRow(
            at_ns=each["at_ns"],
            source="gateway",
            function=each["function"],
            event=each["event"],
            replica_id=each.get("replica_id", ""),
            reason=each.get("reason", ""),
            request_id=each.get("request_id", ""),
        )
        for each in events
        if each["event"] in replica_events.ALL and each["function"] in functions and each["at_ns"] >= start_ns
    ]
