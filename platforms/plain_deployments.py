"""Functions as plain Deployments and Services that FAVE makes itself, called through OpenFaaS' gateway.

For editions whose gateway will not deploy or scale what is to be measured. How many replicas there are is said by FAVE
alone: the minimum, until somebody scales; zero where its idler runs and the gateway wakes a function by a call.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from fave.campaign.experiment import Policy
from fave.endpoints import Endpoints
from fave.errors import PlatformError
from fave.processes import wait_until
from fave.wire.openfaas import LABEL, FunctionStatus
from platforms import deployed, plain_objects
from platforms.model import Counts
from platforms.openfaas_kubernetes import OpenFaasOnKubernetes
from platforms.specs import MANAGED
from workloads.model import Workload

if TYPE_CHECKING:
    from platforms.deployments import Deployments


_GONE_WITHIN_S = 90.0


class PlainDeployments(OpenFaasOnKubernetes):
    @classmethod
    def serves(cls, endpoints: Endpoints) -> bool:
        """Nobody is taken for one: PLATFORM=plain says so."""
        return cls.reachable()

    @functools.cached_property
    def deployments(self) -> Deployments:
        # Its client takes a second to import.
        from platforms.deployments import Deployments

        return Deployments.of(self.cluster)

    def counts(self) -> dict[str, Counts]:
        return self._with_draining(
            {name: Counts(each.replicas, each.available_replicas) for name, each in self._there().items()}
        )

    def changeable(self, workload: Workload, functions: Collection[str]) -> set[str]:
        if not workload.deploy:
            raise PlatformError(
                "PLATFORM=plain makes the Deployments itself, and the workload says `deploy: false`",
                hint="unset PLATFORM: functions of others are measured through their own gateway",
            )
        there = self._there()
        own = {name for name, each in there.items() if (each.labels or {}).get(MANAGED) == "true"}
        foreign = sorted(there.keys() & set(functions) - own)
        if foreign:
            raise PlatformError(
                f"Deployments that FAVE did not make have the names it needs: {', '.join(foreign)}",
                hint=f"delete or rename them, or give them the label {MANAGED}=true if FAVE may replace them",
            )
        return own

    def deploy(self, workload: Workload, regime: str, policies: Mapping[str, Policy]) -> None:
        there = self._there()
        for name, spec in self._specs(workload, regime, policies).items():
            replicas = there[name].replicas if name in there else policies[name].min_replicas
            wanted = plain_objects.deployment(spec, workload.functions[name], replicas)
            stands = self.deployments.put(wanted, plain_objects.service(spec))
            unlike = deployed.differences(spec, plain_objects.status_of(stands, 0))
            if unlike:
                what = f"{name}: the cluster took the Deployment, and what stands is something else"
                raise PlatformError("\n  ".join([what, *unlike]), hint="something that changes what is admitted?")

    def bound(self, workload: Workload, regime: str, policies: Mapping[str, Policy]) -> list[str]:
        there = self._there()
        for name, spec in self._specs(workload, regime, policies).items():
            self.deployments.patch(name, plain_objects.scaling(spec, there[name].labels or {}))
        return []

    def scale(self, function: str, replicas: int) -> None:
        self.deployments.scale(function, replicas)

    def remove(self, function: str) -> None:
        self.deployments.delete(function)
        if not wait_until(lambda: function not in self._there(), timeout_s=_GONE_WITHIN_S, interval_s=0.1):
            raise PlatformError(f"{function} was deleted, and is there still after {_GONE_WITHIN_S:g} s")

    def give_back(self, functions: Collection[str] | None = None) -> list[str]:
        """It borrows none."""
        return []

    def standing(self, functions: Collection[str]) -> dict[str, dict[str, str]]:
        labels = {name: each.labels or {} for name, each in self._there().items()}
        return {f: {k: v for k, v in labels.get(f, {}).items() if k.startswith(LABEL)} for f in functions}

    def _there(self) -> dict[str, FunctionStatus]:
        ready = self.cluster.ready()
        names = {each["metadata"]["name"]: each for each in self.deployments.all()}
        return {name: plain_objects.status_of(each, ready.get(name, 0)) for name, each in names.items()}
