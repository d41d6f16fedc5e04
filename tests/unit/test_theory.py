"""Formulas and the simulator: published values, each other, and what must be so in limits."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import simulate, theory
from analysis.simulate import Function

pytestmark = pytest.mark.unit

ORACLES = json.loads((Path(__file__).parents[1] / "data" / "oracles.json").read_text())


@pytest.mark.parametrize("case", ORACLES["simulator"]["cases"])
def test_the_simulator_is_the_oracles(case):
    about = ORACLES["simulator"]
    times = about["service_s"], about["cold_start_s"], about["keep_alive_s"]
    found = simulate.simulate(about["arrivals_s"], Function(*times, case["min"], case["max"], case["concurrency"]))
    assert found.start_s == case["start"]
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
        poisson(rate_per_s, 15_000, 1), Function(0.05, cold_start_s, keep_alive_s, min_replicas=0, max_replicas=1)
    )
    exact = theory.single_replica(
        arrival_rate_per_s=rate_per_s, keep_alive_s=keep_alive_s, service_s=0.05, cold_start_s=cold_start_s
    )
    assert found.cold_share == pytest.approx(exact.affected, abs=0.02)
    assert sum(found.triggered) / 15_000 == pytest.approx(exact.triggered, abs=0.02)


def test_hyperexponential_gaps_leave_as_many_cold_as_are_longer_than_the_keep_alive():
    p, rates = 0.8485, (1.697, 0.303)
    chance, at_s, arrivals_s = random.Random(2), 0.0, []
    for _ in range(15_000):
        at_s += chance.expovariate(rates[0] if chance.random() < p else rates[1])
        arrivals_s.append(at_s)
    found = simulate.simulate(arrivals_s, Function(1e-4, 1e-4, 2.0, min_replicas=0, max_replicas=1))
    exact = theory.hyperexponential(p=p, rates_per_s=rates, keep_alive_s=2.0)
    assert found.cold_share == pytest.approx(exact, abs=0.015)


@pytest.mark.parametrize(("keep_alive_s", "share"), [(0.3, 1.0), (5.0, 0.0)])
def test_paced_arrivals_are_all_cold_or_none_is(keep_alive_s, share):
    assert theory.paced(period_s=2, keep_alive_s=keep_alive_s, service_s=0.1, cold_start_s=0.5) == share
    function = Function(0.1, 0.5, keep_alive_s, min_replicas=0, max_replicas=1)
    found = simulate.simulate([2.0 * i for i in range(50)], function)
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
    function = Function(service, cold, idle, least, max(1, least + more))
    found = simulate.simulate(arrivals, function)
    assert all(start >= at for start, at in zip(found.start_s, arrivals, strict=True))
    assert found.start_s == sorted(found.start_s)
    assert found.done_s == pytest.approx([start + service for start in found.start_s])
    span_s = max(found.done_s) - arrivals[0]
    assert least * span_s - 1e-6 <= found.held_s <= function.max_replicas * span_s + 1e-6


@given(ARRIVALS, st.floats(0.1, 10))
def test_moving_a_schedule_in_time_changes_nothing(arrivals, by_s):
    function = Function(0.25, 0.5, 1.0, 0, 2)
    here, there = simulate.simulate(arrivals, function), simulate.simulate([at + by_s for at in arrivals], function)
    assert there.held_s == pytest.approx(here.held_s)
    assert math.isclose(sum(there.start_s) - sum(here.start_s), by_s * len(arrivals), rel_tol=1e-6, abs_tol=1e-6)


def test_a_spread_keeps_the_means():
    function = Function(0.1, 0.5, 0.01, 0, 1, spread=0.5)
    found = simulate.simulate([10.0 * i for i in range(4000)], function, rng=random.Random(3))
    served = [done - start for done, start in zip(found.done_s, found.start_s, strict=True)]
    assert sum(served) / 4000 == pytest.approx(0.1, rel=0.03)
    waits = [start - 10.0 * i for i, start in enumerate(found.start_s)]
    assert sum(waits) / 4000 == pytest.approx(0.5, rel=0.03)
