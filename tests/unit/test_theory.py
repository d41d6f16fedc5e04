"""Formulas and the simulator: published values, each other, and what must be so in limits."""

import json
import math
import random
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.rows import simulate
from analysis.rows.simulate import Function, Measured, Times
from fave.wire.records import ReplicaRow, StageRow
from tests.support import event_simulator, theory
from tests.support.campaigns import as_table, invocation

pytestmark = pytest.mark.unit

ORACLES = json.loads((Path(__file__).parents[1] / "data" / "oracles.json").read_text())


@pytest.mark.parametrize("case", ORACLES["simulator"]["cases"])
def test_the_simulator_is_the_oracles(case):
    about = ORACLES["simulator"]
    function = Function(about["keep_alive_s"], case["min"], case["max"], case["concurrency"])
    found = simulate.simulate(about["arrivals_s"], function, Times.same(about["service_s"], about["cold_start_s"]))
    assert list(found.start_s) == case["start"]
    assert [int(each) for each in found.affected] == case["affected"]
    if "triggered" in case:
        assert [int(each) for each in found.triggered] == case["triggered"]


@pytest.mark.parametrize("case", ORACLES["theory_most_recently_used"])
def test_several_replicas_in_theory_are_the_oracles(case):
    found = theory.most_recently_used(
        arrival_rate_per_s=case["lambda_per_s"], keep_alive_s=case["keep_alive_s"], service_s=case["service_s"]
    )
    assert found == pytest.approx(case["p_cold"], rel=1e-6)


def test_erlangs_formula_is_the_published_one():
    assert theory.erlang_b(5, 2) == pytest.approx(0.036697, rel=1e-5)


def poisson(rate_per_s, n, seed):
    chance, at_s, arrivals_s = random.Random(seed), 0.0, []
    for _ in range(n):
        at_s += chance.expovariate(rate_per_s)
        arrivals_s.append(at_s)
    return arrivals_s


@pytest.mark.parametrize(("rate_per_s", "keep_alive_s", "cold_start_s"), [(2, 0.5, 0.3), (1, 1, 0.5), (4, 0.2, 0.1)])
def test_one_simulated_replica_is_as_the_formula_has_it(rate_per_s, keep_alive_s, cold_start_s):
    found = simulate.simulate(
        poisson(rate_per_s, 15_000, 1), Function(keep_alive_s, 0, max_replicas=1), Times.same(0.05, cold_start_s)
    )
    exact = theory.single_replica(
        arrival_rate_per_s=rate_per_s, keep_alive_s=keep_alive_s, service_s=0.05, cold_start_s=cold_start_s
    )
    assert found.cold_rate == pytest.approx(exact.affected, abs=0.02)
    assert sum(found.triggered) / 15_000 == pytest.approx(exact.triggered, abs=0.02)


def test_hyperexponential_gaps_leave_as_many_cold_as_are_longer_than_the_keep_alive():
    p, rates = 0.8485, (1.697, 0.303)
    chance, at_s, arrivals_s = random.Random(2), 0.0, []
    for _ in range(15_000):
        at_s += chance.expovariate(rates[0] if chance.random() < p else rates[1])
        arrivals_s.append(at_s)
    found = simulate.simulate(arrivals_s, Function(2.0, min_replicas=0, max_replicas=1), Times.same(1e-4, 1e-4))
    exact = theory.hyperexponential(p=p, rates_per_s=rates, keep_alive_s=2.0)
    assert found.cold_rate == pytest.approx(exact, abs=0.015)


@pytest.mark.parametrize(("keep_alive_s", "share"), [(0.3, 1.0), (5.0, 0.0)])
def test_paced_arrivals_are_all_cold_or_none_is(keep_alive_s, share):
    assert theory.paced(period_s=2, keep_alive_s=keep_alive_s, service_s=0.1, cold_start_s=0.5) == share
    function = Function(keep_alive_s, min_replicas=0, max_replicas=1)
    found = simulate.simulate([2.0 * i for i in range(50)], function, Times.same(0.1, 0.5))
    assert sum(found.affected[1:]) / 49 == share


def test_where_cold_and_warm_take_turns_theory_says_so():
    with pytest.raises(ValueError, match=r"the keep-alive of 1.6 s lies between"):
        theory.paced(period_s=2, keep_alive_s=1.6, service_s=0.1, cold_start_s=0.5)


def test_more_replicas_kept_are_never_colder_and_a_long_keep_alive_never_is():
    shares = [
        theory.most_recently_used(arrival_rate_per_s=1, keep_alive_s=5, service_s=1, min_replicas=kept)
        for kept in range(4)
    ]
    assert shares == sorted(shares, reverse=True)
    assert theory.most_recently_used(arrival_rate_per_s=1, keep_alive_s=1e4, service_s=0.1) < 1e-3
    none = theory.most_recently_used(arrival_rate_per_s=1, keep_alive_s=0, service_s=1)
    assert none == pytest.approx(1.0)


ARRIVALS = st.lists(st.floats(0, 60), min_size=1, max_size=40).map(sorted)


@given(ARRIVALS, st.floats(0.01, 1), st.floats(0, 2), st.floats(0.1, 5), st.integers(0, 2), st.integers(0, 2))
def test_every_arrival_is_served_once_in_order_and_never_before_it_came(arrivals, service, cold, idle, least, more):
    function = Function(idle, least, max(1, least + more))
    found = simulate.simulate(arrivals, function, Times.same(service, cold))
    assert all(start >= at for start, at in zip(found.start_s, arrivals, strict=True))
    assert list(found.start_s) == sorted(found.start_s)
    assert found.done_s == pytest.approx([start + service for start in found.start_s])
    span_s = max(found.done_s) - arrivals[0]
    assert least * span_s - 1e-6 <= found.provisioned_s <= function.max_replicas * span_s + 1e-6


@given(ARRIVALS, st.floats(0.1, 10))
def test_moving_a_schedule_in_time_changes_nothing(arrivals, by_s):
    function, times = Function(1.0, 0, 2), Times.same(0.25, 0.5)
    here, there = (simulate.simulate([at + late_s for at in arrivals], function, times) for late_s in (0.0, by_s))
    assert there.provisioned_s == pytest.approx(here.provisioned_s)
    assert math.isclose(sum(there.start_s) - sum(here.start_s), by_s * len(arrivals), rel_tol=1e-6, abs_tol=1e-6)


def as_it_was(arrivals, about, initial):
    return event_simulator.simulate(arrivals, event_simulator.Function(**about), initial)


@settings(max_examples=500)
@given(
    st.lists(st.one_of(st.floats(0, 30), st.integers(0, 120).map(lambda n: n / 4)), min_size=1, max_size=60).map(
        sorted
    ),
    st.sampled_from([0.1, 0.25, 0.5, 1.0]),
    st.sampled_from([0.0, 0.25, 0.5, 2.0]),
    st.sampled_from([0.25, 0.5, 1.0, 3.0]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(1, 3),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)
def test_compiled_it_is_exactly_what_it_was_event_by_event(
    arrivals, service, cold, idle, least, more, concurrency, initial, other
):
    """Times on a grid make many things happen at the same moment: their order counts, too."""
    most = max(1, least + more)
    about = {"idle_timeout_s": idle, "min_replicas": least, "max_replicas": most, "concurrency": concurrency}
    found = simulate.simulate(arrivals, Function(**about, longest_idle_first=other), Times.same(service, cold), initial)
    known = as_it_was(arrivals, about | {"service_s": service, "cold_start_s": cold, "takes_turns": other}, initial)
    assert list(found.start_s) == known.start_s
    assert list(found.done_s) == known.done_s
    assert list(found.triggered) == known.triggered
    assert list(found.affected) == known.affected
    assert found.provisioned_s == pytest.approx(known.held_s)


def test_each_start_and_each_arrival_has_its_own_time():
    times = Times(np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0]), first_use_s=0.05)
    found = simulate.simulate([0.0, 10.0, 20.0], Function(1.0, 0, 1), times)
    assert found.start_s == pytest.approx([1.0, 12.0, 21.0])
    assert found.done_s - found.start_s == pytest.approx([0.15, 0.25, 0.35])


def test_measured_times_are_drawn_alike_in_any_order_and_keep_their_means():
    one = Measured((0.1, 0.2, 0.6), (0.4, 0.6), 0.0).draw(20_000, "seed")
    two = Measured((0.6, 0.1, 0.2), (0.6, 0.4), 0.0).draw(20_000, "seed")
    assert np.array_equal(one.service_s, two.service_s)
    assert np.array_equal(one.start_s, two.start_s)
    assert one.service_s.mean() == pytest.approx(0.3, rel=0.03)
    assert one.start_s.mean() == pytest.approx(0.5, rel=0.03)


def made_run():
    """A replica that takes 0.5 s to start; its only caller waits for 0.4 of them. First use 0.15 s, then 0.1 s."""
    stamps = {"began": 0, "sent": 100_000_000, "ready": 500_000_000}
    first = invocation(0, 0.1, cold=True, wait_s=0.4, held_s=0.55)
    rows = [
        msgspec.structs.replace(first, invocations_before=0, service_s=0.15),
        *(
            msgspec.structs.replace(invocation(i, i, held_s=0.11), invocations_before=i, service_s=0.1)
            for i in range(1, 5)
        ),
    ]
    events = [
        ReplicaRow(at_ns=stamps[at], source="gateway", function="f", event=event, replica_id="x")
        for at, event in (("began", "start"), ("ready", "ready"))
    ]
    return as_table(rows, StageRow), events


def test_a_start_lasts_as_the_platform_saw_it_and_a_first_use_costs_more():
    stages, events = made_run()
    found = simulate.measured(stages, as_table(events, ReplicaRow))
    assert found.start_s == (0.5,)
    assert found.first_use_s == pytest.approx(0.05)
    assert found.service_s == pytest.approx([0.11] * 4)


def test_without_events_the_longest_wait_stands_for_a_start():
    stages, _ = made_run()
    assert simulate.measured(stages, as_table([], ReplicaRow)).start_s == (0.4,)


def test_where_every_request_waited_the_work_of_later_ones_stands_for_the_service_time():
    """Else the coldest runs were left out of what is simulated, and compared with all that were measured."""
    stages, events = made_run()
    all_cold = stages.with_columns(cold=True)
    assert simulate.measured(all_cold, as_table(events, ReplicaRow)).service_s == pytest.approx([0.1] * 4)
