"""Conditions on the bounds of intervals: what holds, what is missed, what the data do not decide."""

import pytest

from analysis import outcome
from fave.campaign import thresholds
from tests.support.campaigns import results_of

pytestmark = pytest.mark.unit


def cell(load="steady", regime="warm", **change):
    values = {
        "load": load,
        "regime": regime,
        "runs": 3,
        "requests": 60,
        "failures": 0,
        "cold_rate": {"estimate": 0.04, "low": 0.01, "high": 0.07, "reason": ""},
        "latency_s": {
            "p50": 0.1,
            "p50_low": 0.08,
            "p50_high": 0.12,
            "p95": None,
            "p95_low": None,
            "p95_high": None,
            "reason": "p95 needs 100 requests a run, these have 20",
        },
        "slow_rate": None,
        "cost_gb_s": {"execution": 1.0, "provisioned": 20.0, "provisioned_low": 19.0, "provisioned_high": 22.0},
    }
    return values | change


def states(text, *cells):
    return [each.state for each in thresholds.evaluate([text], list(cells or [cell()]))]


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("cold_rate.high < 0.08", "met"),
        ("cold_rate.high < 8%", "met"),
        ("cold_rate.high < 0.05", "inconclusive"),
        ("cold_rate.high < 0.01", "missed"),
        ("cold_rate.low > 0.005", "met"),
        ("cold_rate.low > 0.05", "inconclusive"),
        ("cold_rate.low > 0.5", "missed"),
        ("p50.high < 150 ms", "met"),
        ("p50.high<0.05s", "missed"),
        ("p95.high < 8 s", "inconclusive"),
        ("failures == 0", "met"),
        ("requests >= 100", "missed"),
        ("held_gb.estimate <= 20 GB", "met"),
        ("held_gb.high <= 20 GB", "inconclusive"),
        ("executed_gb <= 1 GB", "met"),
        ("slow_rate.high < 5%", "inconclusive"),
        # 0.07 and 7 * 0.01 need not be the same float.
        ("cold_rate.high <= 7%", "met"),
        ("cold_rate.high < 7%", "inconclusive"),
        ("cold_rate.high == 7%", "met"),
        ("p50.high >= 120 ms", "met"),
        ("p50.high > 120 ms", "missed"),
    ],
)
def test_a_bound_decides_and_where_the_other_end_would_do_nothing_is_decided(text, state):
    assert states(text) == [state]


@pytest.mark.parametrize("n", range(1, 101))
def test_a_share_at_its_limit_is_neither_over_nor_under_it(n):
    """k of n as a difference of two other shares, against the same in per cent."""
    for k in range(n):
        rate = {"estimate": (k + 1) / n - 1 / n, "low": 0.0, "high": 1.0, "reason": ""}
        limit = f"{100 * k / n:.15f}%"
        assert states(f"cold_rate.estimate <= {limit}", cell(cold_rate=rate)) == ["met"]
        assert states(f"cold_rate.estimate >= {limit}", cell(cold_rate=rate)) == ["met"]
        assert states(f"cold_rate.estimate < {limit}", cell(cold_rate=rate)) != ["met"]
        assert states(f"cold_rate.estimate > {limit}", cell(cold_rate=rate)) != ["met"]


def test_without_a_place_a_threshold_is_about_every_cell():
    cells = [cell(), cell(regime="cold", failures=2), cell(load="bursty")]
    assert states("failures == 0", *cells) == ["met", "missed", "met"]
    assert states("steady: failures == 0", *cells) == ["met", "missed"]
    assert states("*/cold: failures == 0", *cells) == ["missed"]
    assert states("bursty/cold: failures == 0", *cells) == ["inconclusive"], "what is about nothing gates nothing"


def test_a_figure_that_its_n_does_not_support_says_why_it_decides_nothing():
    (found,) = thresholds.evaluate(["p95.high < 8 s"], [cell()])
    assert (found.observed, found.reason) == (None, "p95 needs 100 requests a run, these have 20")


def test_a_quantile_among_failed_requests_misses_every_limit():
    """They count as longer than everything: a service that is down is not undecided."""
    latency = cell()["latency_s"] | {"among_failures": ["p95"], "reason": "p95 falls among failed requests"}
    (found,) = thresholds.evaluate(["p95.high < 8 s"], [cell(latency_s=latency)])
    assert (found.state, found.observed) == ("missed", None)


def test_a_cell_without_a_valid_run_decides_nothing():
    assert states("failures == 0", cell(runs=0)) == ["inconclusive"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cold_rate < 0.05", "which bound"),
        ("cold_rate.high", "is no condition"),
        ("cold.high < 1", "unknown figure 'cold'"),
        ("failures.high == 0", "has no interval"),
        ("cold_rate.high < 5 %%", "is no condition"),
        ("cold_rate.high < 50 ms", "cold_rate is not measured in ms"),
        ("p95.high < 8 %", "p95 is not measured in %"),
        ("failures == 0 s", "failures is not measured in s"),
        ("", "is no condition"),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused_with_its_text(text, says):
    with pytest.raises(ValueError, match=says):
        thresholds.parse(text)


def results(valid=True, thresholds=(), controls=(), differences=(0.1,)):
    return results_of(
        valid=valid,
        contrasts=[{"blocks": 2, "difference": difference} for difference in differences],
        thresholds=[{"state": state} for state in thresholds],
        controls=[{"state": state} for state in controls],
    )


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (results(), 0),
        (results(thresholds=["met"], controls=["passed"]), 0),
        (results(thresholds=["met", "inconclusive", "missed"]), 7),
        (results(thresholds=["met", "inconclusive"]), 8),
        (results(controls=["passed", "undecided"]), 8),
        (results(thresholds=["missed"], controls=["failed"]), 9),
        (results(differences=[0.1, None], thresholds=["met"]), 5),
        (results(valid=False, thresholds=["missed"], controls=["failed"]), 5),
    ],
)
def test_the_exit_code_tells_the_gravest_first(found, code):
    assert outcome.exit_code(found) == code
