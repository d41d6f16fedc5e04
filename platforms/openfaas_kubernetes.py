"""OpenFaaS on a Kubernetes that can be asked: its pods are the witness, watched while a regime stands and a run lasts.

What only OpenFaaS Pro's metrics tell, and late, every cluster's pods tell: how many are ready. When a pod may be sent
to, why one ended and what it wrote is known nowhere else.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from fave.campaign.experiment import Policy
from fave.clock import utc_ns
from fave.endpoints import Endpoints
from fave.errors import GatewayError, PlatformError
from fave.processes import wait_until
from fave.strain import Strain
from fave.wire import replica_events
from platforms.model import Capabilities, Counts, Facts, FailedStart, Seen
from platforms.openfaas import OpenFaas, Watching
from workloads.model import Workload

if TYPE_CHECKING:
    from platforms.kubernetes_api import Cluster
    from platforms.pod_watch import PodWatch

# Reasons that are the same in a minute.
_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
# A deployment's controller makes the first new pod within tenths of a second; the last is there when its image runs.
_NEW_POD_WITHIN_S = 2.0
_REPLACED_WITHIN_S = 120.0
_LOOK_S = 0.1


class OpenFaasOnKubernetes(OpenFaas):
    def __init__(self, endpoints: Endpoints) -> None:
        super().__init__(endpoints)
        self._pods: PodWatch | None = None

    @classmethod
    def serves(cls, endpoints: Endpoints) -> bool:
        return cls.reachable()

    @staticmethod
    def reachable() -> bool:
        """Whether the environment leads to a Kubernetes: KUBECONFIG, or a pod's own account."""
        return bool(os.environ.get("KUBECONFIG") or os.environ.get("KUBERNETES_SERVICE_HOST"))

    @functools.cached_property
    def cluster(self) -> Cluster:
        # Its client takes a second to import, which every load generator would pay.
        from platforms.kubernetes_api import Cluster

        return Cluster.find()

    def counts(self) -> dict[str, Counts]:
        return self._with_draining(super().counts())

    def _with_draining(self, counts: dict[str, Counts]) -> dict[str, Counts]:
        """Pods beyond those that are wanted, be it that they end or were not told yet."""
        there = self.cluster.alive()
        return {
            name: each._replace(draining=max(0, there.get(name, 0) - each.desired)) for name, each in counts.items()
        }

    def bound(self, workload: Workload, regime: str, policies: Mapping[str, Policy]) -> list[str]:
        """Waits until all pods are of the new deployment, where the provider makes new ones of each change."""
        before = self.cluster.replica_sets()
        super().bound(workload, regime, policies)
        mine = {name: sets for name, sets in before.items() if name in policies}
        if not mine:
            return []
        wait_until(lambda: bool(self._replaced(mine)), timeout_s=_NEW_POD_WITHIN_S, interval_s=_LOOK_S)
        replaced = self._replaced(mine)
        if not wait_until(lambda: not self._old(mine, replaced), timeout_s=_REPLACED_WITHIN_S, interval_s=_LOOK_S):
            old = ", ".join(self._old(mine, replaced))
            raise PlatformError(f"{old}: pods of the former policy are there after {_REPLACED_WITHIN_S:g} s")
        return replaced

    def _replaced(self, before: Mapping[str, set[str]]) -> list[str]:
        now = self.cluster.replica_sets()
        return sorted(name for name, sets in before.items() if now.get(name, set()) - sets)

    def _old(self, before: Mapping[str, set[str]], functions: Collection[str]) -> list[str]:
        now = self.cluster.replica_sets()
        return [name for name in functions if now.get(name, set()) & before[name]]

    def witnessed(self) -> dict[str, tuple[int, int]]:
        ready = self.cluster.ready()
        return {name: (each.desired, ready.get(name, 0)) for name, each in self.counts().items()}

    def ready_since(self, at_ns: int) -> dict[str, int]:
        """Asked for now, which is after any moment that has been."""
        return {name: ready for name, (_, ready) in self.witnessed().items()}

    @contextlib.contextmanager
    def observe(self, functions: Collection[str]) -> Iterator[Watching]:
        self._pods = self.cluster.watch(functions)
        self._pods.start()
        try:
            yield _Watching(self, functions, self._pods)
        finally:
            self._pods.stop()
            self._pods = None

    def failed_starts(self, since_ns: int) -> list[FailedStart]:
        if self._pods is None:
            failed = self.cluster.failed_starts(since_ns)
            return [FailedStart(function, why, why in _NO_IMAGE) for function, reasons in failed for why in reasons]
        return [
            FailedStart(row.function, row.reason, row.reason in _NO_IMAGE)
            for row in self._pods.heard()[0]
            if row.event in replica_events.FAILED_STARTS and row.at_ns >= since_ns
        ]

    def logs(self, function: str, since_ns: int, lines: int) -> list[dict[str, Any]]:
        """What was read while it was written, also by pods that are gone; else what the gateway finds of the others."""
        heard = self._pods.lines(function)[-lines:] if self._pods else []
        with contextlib.suppress(GatewayError):
            return heard or super().logs(function, since_ns, lines)
        return heard

    def capabilities(self) -> Capabilities:
        return Capabilities(
            replica_events=True,
            limits_enforced_by_gateway=False,
            draining_replicas_told=True,
            credentials_by_function=False,
        )

    def facts(self) -> Facts:
        cluster = self.cluster
        return msgspec.structs.replace(
            super().facts(),
            nodes=cluster.nodes(),
            images=cluster.images(),
            pods=cluster.how_pods_start(),
            co_located=cluster.is_here(),
        )

    def strain_from_now(self) -> Callable[[], Strain | None]:
        now_ns = utc_ns()
        return lambda: self.cluster.strain(now_ns)


class _Watching(Watching):
    def __init__(self, platform: OpenFaasOnKubernetes, functions: Collection[str], pods: PodWatch) -> None:
        super().__init__(platform, functions)
        self._pods = pods

    def begin(self) -> int:
        since_ns = super().begin()
        self._pods.begin()
        return since_ns

    def end(self) -> Seen:
        end_ns, strain = utc_ns(), self.strain()
        heard, routable_at_ns = self._pods.heard()
        rows = [row for row in heard if row.function in self.functions and row.at_ns <= end_ns]
        return Seen(
            rows=sorted(rows, key=lambda row: row.at_ns),
            routable_at_ns={},
            pods_routable_at_ns=routable_at_ns,
            gateway_queues=False,
            missed_s=self._pods.missed_ns / 1e9,
            strain=strain,
            until_ns=end_ns,
        )
