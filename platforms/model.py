"""What FAVE asks of whoever runs functions. A platform is a class with these methods; nobody else knows which it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import msgspec
import psutil

from fave.campaign.experiment import Policy
from fave.endpoints import Endpoints
from fave.strain import Strain
from fave.wire.records import ReplicaRow
from workloads.model import Workload

_STARTED = "gateway_start_time_seconds{}"
_LOOKS_AND_LATE = ("gateway_loop_lag_seconds_count{}", "gateway_loop_late_total{}")


class Counts(NamedTuple):
    """A function's replicas. draining: they take nothing more but are still there, where the platform tells."""

    desired: int
    ready: int
    draining: int = 0
    invocations: float = 0.0


class FailedStart(NamedTuple):
    """A replica that ended before it was ready. final: it was given its whole time, so the next does no better."""

    function: str
    reason: str
    final: bool


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a platform offers beyond deploying, scaling and calling.

    known: what it can do need not be tried, because FAVE is what does it.
    """

    known: bool = False
    replica_events: bool
    limits_enforced_by_gateway: bool
    draining_replicas_told: bool
    credentials_by_function: bool


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a campaign's manifest keeps of its platform. No address and no name of a machine.

    info: as it describes itself. nodes, images: of a cluster that can be asked. pods: by function, what else of its
    pods changes a start: probes, pull policy, requests. co_located: functions share a machine with the load generator;
    a gateway on loopback says so where nothing better is known, be it a tunnel.
    """

    info: dict[str, Any]
    capabilities: Capabilities
    nodes: list[dict[str, Any]] = []
    images: dict[str, str] = {}
    pods: dict[str, Any] = {}
    co_located: bool


def gateway_late_share(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Of the looks that a gateway took at its own loop between two `counters`, those that came late.

    None where it tells of none.
    """
    looks, late = (after.get(name, 0.0) - before.get(name, 0.0) for name in _LOOKS_AND_LATE)
    return late / looks if looks > 0 else None


def same_gateway(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """False where it tells that it was started in between."""
    return before.get(_STARTED) == after.get(_STARTED)


class Seen(NamedTuple):
    """What became of the replicas of some functions during a run that ended at `until_ns`.

    rows: samples and events in order of time. routable_at_ns: by replica, when the platform could send to it first,
    also of replicas that were there before; empty where it does not tell. pods_routable_at_ns: by pod, not before that
    (0: from the beginning); a router may follow. gateway_queues: calls wait in it for a free replica; else who waits
    there waits for any. missed_s: how long nobody listened. strain: of the machines that the functions ran on; None
    where nobody can tell.
    """

    rows: list[ReplicaRow]
    routable_at_ns: Mapping[str, int]
    strain: Strain | None
    until_ns: int
    pods_routable_at_ns: Mapping[str, int] = {}
    gateway_queues: bool = True
    missed_s: float = 0.0


class Watch(Protocol):
    """Functions under observation."""

    def begin(self) -> int:
        """A run begins now, on what stands; what was seen before is forgotten. When that is (UTC ns)."""

    def end(self) -> Seen: ...


class Platform(Protocol):
    """Raises PlatformError or one of its kinds wherever it does not do what was asked."""

    endpoints: Endpoints

    def __init__(self, endpoints: Endpoints) -> None: ...

    @classmethod
    def serves(cls, endpoints: Endpoints) -> bool:
        """Whether what answers there is a platform of this kind."""

    # Which functions there are, and what may be done with them.

    def counts(self) -> dict[str, Counts]:
        """By function, as the platform itself says now."""

    def changeable(self, workload: Workload, functions: Collection[str]) -> set[str]:
        """The functions that are there and may be scaled: FAVE's own, or those that the workload borrows.

        Raises
        ------
        PlatformError
            When one of `functions` is somebody else's, or to be borrowed and not there.
        """

    def deploy(self, workload: Workload, regime: str, policies: Mapping[str, Policy]) -> None:
        """Replicas of an earlier deployment may go."""

    def bound(self, workload: Workload, regime: str, policies: Mapping[str, Policy]) -> list[str]:
        """The policies of deployed functions under traffic. Whose replicas the platform replaced for it."""

    def scale(self, function: str, replicas: int) -> None: ...

    def remove(self, function: str) -> None: ...

    def give_back(self, functions: Collection[str] | None = None) -> list[str]:
        """Borrowed functions scale as they did before; of all without `functions`. The names of those that do."""

    def standing(self, functions: Collection[str]) -> dict[str, dict[str, str]]:
        """The scaling policies as they stand, in the platform's words: whether somebody changed them in between."""

    # What can be seen from outside, by another witness than the platform.

    def witnessed(self) -> dict[str, tuple[int, int]]:
        """(desired, ready) by function, as the witness last saw them."""

    def ready_since(self, at_ns: int) -> dict[str, int]:
        """Ready replicas by function, in looks from after `at_ns` alone."""

    def in_flight_since(self, at_ns: int) -> dict[str, int]:
        """Calls in flight by function; empty until all that count them were looked at after `at_ns`."""

    def counters(self) -> dict[str, float]:
        """Whatever the platform counts, for the record."""

    # What happened.

    def observe(self, functions: Collection[str]) -> AbstractContextManager[Watch]:
        """Watch from before a regime is brought about until its run was collected."""

    def failed_starts(self, since_ns: int) -> list[FailedStart]:
        """In order of time; empty where the platform does not tell."""

    def logs(self, function: str, since_ns: int, lines: int) -> list[dict[str, Any]]:
        """The last lines that replicas of a function wrote since; empty where the platform has none."""

    def processes_of(self, function: str) -> list[psutil.Process]:
        """Its replicas, where they are processes of this machine; else empty."""

    # What it is.

    def capabilities(self) -> Capabilities: ...

    def facts(self) -> Facts: ...

    def own_processes(self) -> list[int]:
        """Roots of process trees of this machine that are the platform's: their CPU time is not a stranger's."""

    def generator_cores(self) -> list[int]:
        """Cores of this machine that are kept free for one load generator; empty where none are."""
