"""How many blocks, what they can show, and what is known beforehand, against published values."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics import power
from tests.support.theory import single_replica

pytestmark = pytest.mark.unit

ORACLES = json.loads((Path(__file__).parents[1] / "data" / "oracles.json").read_text())
CLUSTERED = ORACLES["clustered_rates"]


def test_two_sample_power_is_the_published_one():
    case = ORACLES["t_test_power"]
    n = case["n_per_arm"]
    noncentrality = case["delta"] / case["sd"] * math.sqrt(n / 2)
    found = power.power_of_t(noncentrality, 2 * n - 2, alpha=case["alpha"])
    assert found == pytest.approx(case["power"], abs=1e-6)


def test_far_from_the_border_power_is_one_where_scipy_returns_nan():
    assert power.paired_power(0.9, 0.01, 10) == pytest.approx(1.0)
    assert power.paired_power(0.15, 0.04, 10) > 0.999


@pytest.mark.parametrize(
    ("noncentrality", "df", "alpha"), [(12, 2, 0.05 / 6), (12, 1, 0.05 / 6), (3, 9, 0.05), (0, 5, 0.1)]
)
def test_power_is_the_share_of_simulated_tests_that_reject(noncentrality, df, alpha):
    """Also with two or three blocks, whose critical value is large itself."""
    rng = np.random.default_rng(1)
    t = (rng.standard_normal(400_000) + noncentrality) / np.sqrt(rng.chisquare(df, 400_000) / df)
    share = float(np.mean(np.abs(t) > stats.t.ppf(1 - alpha / 2, df)))
    assert power.power_of_t(noncentrality, df, alpha=alpha) == pytest.approx(share, abs=0.004)


@settings(max_examples=20)
@given(sd=st.floats(0.01, 0.3), blocks=st.integers(3, 30))
def test_the_smallest_detectable_difference_is_shown_with_just_that_power(sd, blocks):
    least = power.smallest_detectable(sd, blocks)
    assert power.paired_power(least, sd, blocks) == pytest.approx(0.8, abs=1e-3)


def test_one_block_shows_nothing():
    assert power.smallest_detectable(0.1, 1) is None
    assert power.paired_power(0.5, 0.1, 1) == 0.0


def test_the_blocks_that_are_needed_are_the_fewest():
    needed = power.blocks_needed(0.1, 0.1)
    assert power.paired_power(0.1, 0.1, needed) >= 0.8 > power.paired_power(0.1, 0.1, needed - 1)
    assert power.blocks_needed(0.001, 0.3, most=50) is None


@pytest.mark.parametrize("case", ORACLES["theory_single_replica"])
def test_a_single_replica_in_theory_is_the_oracles(case):
    found = single_replica(
        arrival_rate_per_s=case["lambda_per_s"],
        keep_alive_s=case["keep_alive_s"],
        service_s=case["service_s"],
        cold_start_s=case["cold_start_s"],
    )
    assert found.triggered == pytest.approx(case["p_triggered"], rel=1e-6)
    assert found.affected == pytest.approx(case["p_affected"], rel=1e-6)


def test_without_service_and_cold_start_theory_is_the_naive_formula():
    found = single_replica(arrival_rate_per_s=2, keep_alive_s=0.5, service_s=0, cold_start_s=0)
    assert found.triggered == found.affected == pytest.approx(math.exp(-1))


def test_a_replica_that_cannot_keep_up_has_no_steady_state():
    with pytest.raises(ValueError, match=r"utilisation 1\.20"):
        single_replica(arrival_rate_per_s=3, keep_alive_s=1, service_s=0.4, cold_start_s=1)
