"""The calibration: the same seed gives the same table, and its judges see what they should."""

import pytest

from analysis.answers import calibrate

pytestmark = pytest.mark.unit


STEADY, ON_OFF = calibrate.SCENARIOS[0], calibrate.SCENARIOS[3]


def test_a_simulated_campaign_is_the_same_for_the_same_seed_and_has_an_effect_in_b_only():
    campaign = calibrate._campaign(STEADY, "s")
    assert campaign == calibrate._campaign(STEADY, "s")
    assert campaign != calibrate._campaign(STEADY, "t")
    a, again, b = (sum(block[arm].cold for block in campaign.blocks) / 120 / len(campaign.blocks) for arm in range(3))
    assert abs(a - again) < 0.05
    assert a - b > 0.05, "a longer idle timeout"


def test_the_shipped_test_keeps_its_level_and_the_pooled_one_does_not():
    """On 25 campaigns: loose bounds; `make calibrate` has the figures."""
    campaigns = [calibrate._campaign(ON_OFF, f"c{i}") for i in range(25)]
    found = calibrate._judged(ON_OFF, campaigns, 8)
    for name in ("paired", "adjusted", "adjusted wrongly", "unpaired", "Welch"):
        assert found.shares[name] <= 0.2
    assert found.shares["chi-square"] > 0.25
    for name in ("difference", "adjusted difference", "wrongly adjusted", "slow difference"):
        assert found.shares[name] >= 0.8
    looked = calibrate._sequential(ON_OFF, campaigns)
    assert looked.false_alarms <= 0.2
    alarms, coverage, looks, _ = calibrate.tables(calibrate.Calibration([found], [looked], {}))
    assert alarms.rows[0][:2] == coverage.rows[0][:2] == ("on-off", "8")
    assert looks.rows[0][0] == "on-off"
    assert "| on-off | 8 |" in calibrate.in_markdown(calibrate.tables(calibrate.Calibration([found], [looked], {})))


def test_what_lies_outside_of_what_it_should_be_is_marked():
    row = calibrate.Calibrated("steady", 8, 100, {"difference": 0.92, "rate": 0.95})
    assert calibrate._share(row, "difference", 0.93, 0.97) == "92.0%*"
    assert calibrate._share(row, "rate", 0.93, 0.97) == "95.0%"


def test_a_campaign_that_changes_is_noticed_more_often_than_one_that_does_not():
    calm, drifting, jumping = calibrate._noticed(200, 1).values()
    assert calm < 0.1 < 0.4 < min(drifting, jumping)
