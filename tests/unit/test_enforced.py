"""Whether somebody enforced the policy: a regime that nobody scales to zero under is no cold regime."""

from __future__ import annotations

import pytest

from experiments.enforced import worst_breach
from fave.campaign.experiment import Policy
from fave.campaign.validity import Gates, judge
from fave.settings import Duration
from fave.wire.records import ReplicaRow, StageRow
from tests.unit.test_validity import observed

pytestmark = pytest.mark.unit

S = 1_000_000_000


def policy(low, high, idle="4s"):
    scaling = {"min_replicas": low, "max_replicas": high, "idle_timeout": Duration.parse(idle)}
    limits = {
        "memory_limit_mb": 128,
        "max_in_flight": 1,
        "exec_timeout": Duration.parse("300s"),
        "target_in_flight": 1.0,
    }
    return Policy(**scaling, **limits)


def counted(*counts):
    """One sample a second from 1 s on."""
    return [
        ReplicaRow(at_ns=at_s * S, source="prometheus", function="f", desired=count, ready=count)
        for at_s, count in enumerate(counts, start=1)
    ]


def call(sent_s, returned_s):
    return StageRow(
        request_id="r", invocation_id="i", stage="f", sent_at_ns=int(sent_s * S), returned_at_ns=int(returned_s * S)
    )


def breach(low, high, counts, *calls):
    return worst_breach({"f": policy(low, high)}, calls, counted(*counts), 0, 60 * S)


def test_cold_without_anybody_who_scales_to_zero_is_a_breach():
    found = breach(0, 2, [1] * 30, call(2, 3))
    assert found.over_s == pytest.approx(30 - 3 - 4)
    assert "f kept idle replicas beyond its idle timeout of 4s" in found.said


def test_an_idle_replica_that_goes_in_time_is_none():
    assert breach(0, 2, [1, 1, 1, 1, 1, 1, 0, 0, 0], call(1, 2.5)).over_s == 0


def test_a_function_in_use_or_just_scaled_up_is_not_idle():
    assert breach(0, 2, [1] * 30, call(1, 29)).over_s == 0
    assert breach(0, 2, [0] * 10 + [1, 1, 1, 0], call(0.5, 0.7)).over_s == 0, "its replica had just come"
    assert breach(0, 2, [1] * 30, call(1, 0)).over_s == 0, "a call that never returned is under way"


@pytest.mark.parametrize(
    ("counts", "over_s", "said"),
    [
        ([1, 1, 0, 0, 0, 0, 1], 3, "under its minimum"),
        ([1, 3, 3, 3, 2], 2, "over its maximum"),
        ([1, 0, 1, 0, 1], 0, ""),
    ],
)
def test_bounds_are_judged_by_how_long_they_did_not_hold(counts, over_s, said):
    found = breach(1, 2, counts, call(0, 60))
    assert found.over_s == over_s
    assert said in found.said


def test_a_breach_beyond_the_lag_makes_a_run_invalid_and_says_where():
    verdict = judge(observed(policy_lag_s=20.0, policy_breach="f kept idle replicas"), Gates())
    assert not verdict.valid
    assert verdict.reasons() == ["policy_enforced: f kept idle replicas, for 20.0 s (3 s are allowed)"]
    assert judge(observed(policy_lag_s=2.9), Gates()).valid


def test_where_nobody_counts_nothing_is_judged():
    assert worst_breach({"f": policy(0, 2)}, [], [], 0, 60 * S) is None
