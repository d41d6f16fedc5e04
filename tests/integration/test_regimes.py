"""Regimes applied and verified on the embedded platform."""

from __future__ import annotations

import msgspec
import pytest

from fave.campaign.experiment import Scaling, Settle
from fave.errors import PlatformError
from fave.processes import wait_until
from fave.settings import Duration
from fave.wire.openfaas import HANDLER, FunctionSpec
from regimes.apply import apply as bring_regime_about
from regimes.model import resolve
from tests.conftest import ECHO
from tests.support.videosearcher import WORK

pytestmark = pytest.mark.integration

STAGE = "stage-search"


@pytest.fixture
def apply(platform):
    def bring_about(regime):
        return bring_regime_about(platform.here, WORK, regime, resolve(regime, WORK.some([STAGE])), lambda _: None)

    yield bring_about
    platform.gateway.delete(STAGE)


def test_a_number_of_ready_replicas_at_the_start_is_brought_about_and_verified(platform, apply):
    settings = resolve("warm", WORK.some([STAGE]))
    applied = bring_regime_about(platform.here, WORK, "warm", settings, lambda _: None, initial=2)
    assert applied.initial_ready == {STAGE: 2}
    assert len(platform.replica_processes(STAGE)) == 2


def test_where_nothing_may_be_scaled_to_zero_the_idle_time_out_is_waited_for(platform, apply):
    """Two replicas are there; the cold regime's own timeout ends them, and the state stands when they are gone."""
    apply("burst-ready")
    settle = Settle(how="wait", timeout=Duration(30))
    settings = resolve("cold", WORK.some([STAGE]), Scaling(idle_timeout=Duration(0.5)))
    since = len(platform.events(STAGE))
    applied = bring_regime_about(platform.here, WORK, "cold", settings, lambda _: None, settle=settle)
    assert applied.initial_ready == {STAGE: 0}
    assert platform.counts(STAGE) == (0, 0)
    assert "scale" not in {event["event"] for event in platform.events(STAGE)[since:]}


def test_a_state_that_does_not_come_about_in_time_is_an_error_that_names_what_is_there(platform, apply):
    settle = Settle(how="wait", timeout=Duration(0.2))
    with pytest.raises(PlatformError, match=f"within 0.2 s, says the gateway: {STAGE} has 0 ready of [01], wanted 1"):
        bring_regime_about(
            platform.here,
            WORK,
            "warm",
            resolve("warm", WORK.some([STAGE])),
            lambda _: None,
            settle=settle,
        )


def test_the_platform_is_asked_what_it_can_do(platform):
    assert msgspec.to_builtins(platform.here.capabilities()) == {
        "known": True,
        "replica_events": True,
        "limits_enforced_by_gateway": True,
        "draining_replicas_told": True,
        "credentials_by_function": True,
    }


@pytest.mark.parametrize(("regime", "ready"), [("cold", 0), ("warm", 1), ("burst-ready", 2)])
def test_a_regime_stands_when_apply_returns_by_all_three_witnesses(platform, apply, regime, ready):
    applied = apply(regime)
    assert applied.initial_ready == {STAGE: ready}
    assert platform.counts(STAGE) == (ready, ready)
    assert platform.prometheus.replicas()[STAGE] == (ready, ready)
    assert len(platform.replica_processes(STAGE)) == ready
    labels = platform.here.standing([STAGE])[STAGE]
    assert labels["com.openfaas.scale.min"] == str(max(1, ready))
    assert labels.get("com.openfaas.scale.zero") == ("true" if ready == 0 else None)


def test_switching_replaces_every_replica_of_the_regime_before(platform, apply):
    apply("warm")
    before = {process.pid for process in platform.replica_processes(STAGE)}
    apply("burst-ready")
    assert not before & {process.pid for process in platform.replica_processes(STAGE)}


def test_functions_of_an_earlier_target_are_removed_and_foreign_ones_are_left_alone(platform, apply, deploy):
    """On a cluster the gateway also serves functions that are none of FAVE's business."""
    foreign = deploy("foreign", low=1)
    assert wait_until(lambda: platform.counts(foreign) == (1, 1), timeout_s=30)
    (before,) = {process.pid for process in platform.replica_processes(foreign)}
    platform.gateway.deploy(
        FunctionSpec(service="earlier", image="", annotations={HANDLER: ECHO}, labels={"fave.managed": "true"})
    )
    apply("cold")
    assert platform.gateway.function("earlier") is None
    assert platform.counts(foreign) == (1, 1)
    assert {process.pid for process in platform.replica_processes(foreign)} == {before}


def test_a_foreign_function_of_the_same_name_is_refused_and_stays(platform, deploy):
    deploy(STAGE, low=1)
    assert wait_until(lambda: platform.counts(STAGE) == (1, 1), timeout_s=30)
    with pytest.raises(PlatformError, match="did not deploy have the names it needs: stage-search"):
        bring_regime_about(platform.here, WORK, "cold", resolve("cold", WORK.some([STAGE])), lambda _: None)
    assert platform.counts(STAGE) == (1, 1)


def test_a_function_that_cannot_start_is_refused_soon_and_by_name(platform, deploy, monkeypatch, apply):
    monkeypatch.setattr(platform.here, "_spec", _broken_spec)
    with pytest.raises(PlatformError, match="stage-search cannot start: 3 replicas ended before ready"):
        apply("warm")


def _broken_spec(workload, function, policy, regime):
    handler = "tests.handlers.broken"
    return FunctionSpec(
        service=function,
        image="",
        annotations={HANDLER: handler},
        labels={"com.openfaas.scale.min": "1", "fave.managed": "true"},
    )
