"""The embedded platform: OpenFaaS' API, and processes of this machine behind it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import psutil

from fave.campaign.experiment import Policy
from fave.endpoints import Endpoints
from fave.strain import HostStrain, Strain
from fave.wire.openfaas import FunctionSpec
from platforms import specs
from platforms.gateway import Gateway
from platforms.model import Capabilities, Facts
from platforms.openfaas import OpenFaas
from workloads.model import Workload

PROVIDER = "fave-local"


class Embedded(OpenFaas):
    """It tells more than OpenFaaS does, and gives functions their addresses and credentials itself."""

    LONGEST_WINDOW_S = math.inf

    @classmethod
    def serves(cls, endpoints: Endpoints) -> bool:
        return bool(Gateway.at(endpoints).info().get("provider", {}).get("provider") == PROVIDER)

    def capabilities(self) -> Capabilities:
        return Capabilities(
            known=True,
            replica_events=True,
            limits_enforced_by_gateway=True,
            draining_replicas_told=True,
            credentials_by_function=True,
        )

    def facts(self) -> Facts:
        return Facts(info=self.gateway.info(), capabilities=self.capabilities(), co_located=self._is_here)

    def strain_from_now(self) -> Callable[[], Strain | None]:
        return HostStrain().so_far if self._is_here else lambda: None

    def own_processes(self) -> list[int]:
        return [self.endpoints.supervisor_pid] if self._is_here else []

    def processes_of(self, function: str) -> list[psutil.Process]:
        found = []
        for root in self.own_processes():
            for process in psutil.Process(root).children(recursive=True):
                try:
                    if process.environ().get("FAVE_FUNCTION") == function:
                        found.append(process)
                except psutil.Error:  # it ended while it was looked at
                    continue
        return found

    def generator_cores(self) -> list[int]:
        places: dict[str, Any] = self.gateway.info().get("places", {})
        return list(places.get("generator", []))

    @property
    def _is_here(self) -> bool:
        """One that was started from another folder is not known by its processes."""
        return self.endpoints.embedded

    def _spec(self, workload: Workload, function: str, policy: Policy, regime: str) -> FunctionSpec:
        image = workload.image_of(function)
        return specs.as_processes(specs.to_spec(workload, function, policy, image=image, regime=regime), workload)
