"""The calibration: the same seed gives the same table, and its judges see what they should."""

import pytest

from analysis import calibrate

pytestmark = pytest.mark.unit


def test_a_simulated_campaign_is_the_same_for_the_same_seed_and_has_an_effect_in_b_only():
    campaign = calibrate._campaign("steady", "s")
    assert campaign == calibrate._campaign("steady", "s")
    assert campaign != calibrate._campaign("steady", "t")
    a, again, b = (sum(block[arm].rate for block in campaign) / len(campaign) for arm in range(3))
    assert abs(a - again) < 0.05
    assert a - b > 0.05, "a longer idle timeout"


def test_the_shipped_test_keeps_its_level_and_the_pooled_one_does_not():
    """On 25 campaigns: loose bounds; `make calibrate` has the figures."""
    campaigns = [calibrate._campaign("on-off", f"c{i}") for i in range(25)]
    found = calibrate._judged("on-off", campaigns, 8)
    assert found.false_alarms["paired t"] <= 0.2
    assert found.false_alarms["Welch"] <= 0.2
    assert found.false_alarms["chi-square"] > 0.25
    assert found.coverage["difference"] >= 0.8
    (row,) = calibrate.table([found]).rows
    assert row[:2] == ("on-off", "8")
