"""Regimes brought about and verified on the embedded platform."""

from __future__ import annotations

import pytest

from fave.errors import PlatformError
from fave.processes import wait_until
from regimes import openfaas
from regimes.model import resolve

pytestmark = pytest.mark.integration

STAGE = "stage-search"


@pytest.fixture
def apply(platform):
    def bring_about(regime):
        return openfaas.apply(platform.gateway, platform.prometheus, regime, resolve(regime, (STAGE,)), lambda _: None)

    yield bring_about
    platform.gateway.delete(STAGE)


@pytest.mark.parametrize(("regime", "ready"), [("cold", 0), ("warm", 1), ("burst-ready", 2)])
def test_a_regime_stands_when_apply_returns_by_all_three_witnesses(platform, apply, regime, ready):
    applied = apply(regime)
    assert applied.initial_ready == {STAGE: ready}
    assert platform.counts(STAGE) == (ready, ready)
    assert platform.prometheus.latest("gateway_service_ready_count")[STAGE] == ready
    assert len(platform.replica_processes(STAGE)) == ready
    labels = openfaas.configuration(platform.gateway, [STAGE])[STAGE]
    assert labels["com.openfaas.scale.min"] == str(ready)


def test_switching_replaces_every_replica_of_the_regime_before(platform, apply):
    apply("warm")
    before = {process.pid for process in platform.replica_processes(STAGE)}
    apply("burst-ready")
    assert not before & {process.pid for process in platform.replica_processes(STAGE)}


def test_functions_of_an_earlier_target_are_removed(platform, apply, deploy):
    other = deploy("earlier", low=1)
    assert wait_until(lambda: platform.counts(other) == (1, 1), timeout_s=30)
    apply("cold")
    assert platform.gateway.function(other) is None


def test_a_function_that_cannot_start_is_refused_soon_and_by_name(platform, deploy, monkeypatch, apply):
    monkeypatch.setattr(openfaas, "to_spec", _broken_spec)
    with pytest.raises(PlatformError, match="stage-search cannot start: 3 replicas ended"):
        apply("warm")


def _broken_spec(function, settings, *, image, regime):
    from fave.gateway_client import FunctionSpec

    process = "python -m functions.host tests.handlers.broken"
    return FunctionSpec(service=function, image="", env_process=process, labels={"com.openfaas.scale.min": "1"})
