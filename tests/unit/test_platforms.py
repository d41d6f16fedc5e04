"""Regimes on any platform: one in memory shows that nothing above the protocol needs to know which it is."""

from __future__ import annotations

import inspect
import re

import msgspec
import pytest

from experiments.cell_run import drain
from fave.campaign.experiment import Scaling, Settle
from fave.endpoints import Endpoints
from fave.errors import PlatformError
from fave.settings import ROOT, Duration
from platforms import session
from platforms.model import FailedStart, Platform
from platforms.openfaas import OpenFaas
from regimes.apply import apply, switch
from regimes.model import resolve
from tests.support.toy_platform import Toy
from workloads.model import Function, Request, Workload

pytestmark = pytest.mark.unit

WORK = Workload(
    description="d",
    functions={"f": Function(image="f"), "g": Function(image="g")},
    requests={"ask": Request(function="f")},
)
AT = Endpoints(
    gateway_url="toy://",
    prometheus_url="",
    s3_endpoint_url="",
    gateway_user="",
    gateway_password="",
    access_key="",
    secret_key="",
)
METHODS = {name for name, each in inspect.getmembers(Platform, inspect.isfunction) if not name.startswith("_")}
METHODS |= {"serves"}


@pytest.fixture
def toy():
    return Toy(AT)


def bring(toy, regime, override=None, **options):
    return apply(toy, WORK, regime, resolve(regime, WORK.functions, override), lambda _: None, **options)


def test_a_new_platform_is_a_class_and_a_line(monkeypatch):
    monkeypatch.setattr(session, "KINDS", {"toy": Toy} | session.KINDS)
    assert isinstance(session.at(AT), Toy)


def test_it_has_what_the_protocol_asks_for_and_the_page_explains_each():
    page = (ROOT / "docs" / "platforms.md").read_text(encoding="utf-8")
    assert [name for name in METHODS if not callable(getattr(Toy, name, None))] == []
    assert sorted(METHODS - set(re.findall(r"`(\w+)", page))) == []


def test_every_kind_that_is_shipped_has_all_of_it():
    for kind in session.KINDS.values():
        assert set(dir(kind)) >= METHODS, kind


def test_a_regime_starts_from_nothing_and_leaves_what_the_workload_asks_for(toy):
    toy.replicas = {"f": 3, "earlier": 1}
    applied = bring(toy, "warm")
    assert applied.initial_ready == toy.replicas == {"f": 1, "g": 1}
    assert toy.replaced == [], "all were gone before"
    assert bring(toy, "warm", initial=2).initial_ready == {"f": 2, "g": 2}


def test_what_is_somebody_elses_is_left_alone(toy):
    toy.replicas, toy.foreign = {"f": 3}, {"f"}
    with pytest.raises(PlatformError, match="not mine: f"):
        bring(toy, "cold")
    assert toy.replicas == {"f": 3}


def test_a_platform_that_does_not_go_to_zero_is_refused_with_what_is_there(toy):
    toy.brings = lambda function, wanted: max(1, wanted)
    toy.replicas = {"f": 1}
    with pytest.raises(PlatformError, match=r"within 0\.01 s, says the gateway: f has 1 ready of 1, wanted 0"):
        bring(toy, "cold", settle=Settle(timeout=Duration(0.01)))


def test_a_start_that_had_its_whole_time_is_not_tried_for_minutes(toy):
    toy.brings = lambda function, wanted: 0
    toy.failed = [FailedStart("f", "nothing listened within 5 s", final=True)]
    with pytest.raises(PlatformError, match="f cannot start: 1 replica ended before ready"):
        bring(toy, "warm")


def test_a_regime_is_exchanged_without_a_replacement(toy):
    bring(toy, "burst-ready", Scaling(min_replicas=2))
    toy.replaced.clear()
    done = switch(toy, WORK, "warm", resolve("warm", WORK.functions, Scaling(max_replicas=1)), lambda _: None)
    assert (done.ready, toy.replaced) == ({"f": 1, "g": 1}, [])
    assert drain(toy, ["f", "g"])


@pytest.mark.parametrize(("maximum", "refused"), [(4, True), (1, False)])
def test_an_idle_timeout_beyond_openfaas_window_is_refused_before_anything_is_asked(maximum, refused):
    """Where no replica can be surplus, the window says nothing."""
    at = msgspec.structs.replace(AT, gateway_url="http://127.0.0.1:9", prometheus_url="http://127.0.0.1:9")
    policies = resolve("warm", WORK.functions, Scaling(idle_timeout=Duration.parse("6m"), max_replicas=maximum))
    with pytest.raises(PlatformError) as caught:
        OpenFaas(at).deploy(WORK, "warm", policies)
    assert ("f: idle_timeout 360s of surplus replicas is over 300 s" in str(caught.value)) == refused
