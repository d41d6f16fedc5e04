"""When a campaign that was run again agrees with the first: judged on answers, without running anything."""

import copy

import pytest

from analysis import reproduced
from analysis.reproduced import judge
from experiments.reproduce import other_packages
from fave.errors import EXIT_DIFFERS, EXIT_INCONCLUSIVE, EXIT_OK
from fave.rundir import read_json
from fave.settings import ROOT
from tests.support.campaigns import measured

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def published():
    return read_json(ROOT / "runs" / "example" / "results.json")


def test_a_campaign_agrees_with_itself(published):
    found = judge(published, published)
    assert found.exit_code == EXIT_OK
    assert len(found.rows) == len(published["cells"]) + len(published["contrasts"])
    assert (found.changed, found.verdicts) == ([], len(published["contrasts"]))


def test_the_same_system_measured_again_is_compatible_and_another_one_is_not():
    assert judge(measured(1), measured(2)).exit_code == EXIT_OK
    found = judge(measured(1), measured(2, a=16))
    assert {row.what: row.compatible for row in found.rows} == {"l, a": False, "l, b": True, "l: a - b": False}
    assert found.exit_code == EXIT_DIFFERS


def test_the_interval_of_the_difference_reaches_as_far_as_both_sides_allow():
    cell = {"load": "l", "regime": "a", "cold_rate": {"estimate": 0.1, "low": 0.06, "high": 0.2}, "slow_rate": None}
    then = {"cells": [cell], "contrasts": [], "controls": [], "thresholds": []}
    now = copy.deepcopy(then)
    now["cells"][0]["cold_rate"] = {"estimate": 0.3, "low": 0.1, "high": 0.33}
    (row,) = judge(then, now).rows
    assert row.difference == pytest.approx((0.2, 0.2 - (0.2**2 + 0.1**2) ** 0.5, 0.2 + (0.03**2 + 0.04**2) ** 0.5))
    assert row.compatible
    now["cells"][0]["cold_rate"]["low"] = 0.2
    assert judge(then, now).rows[0].compatible is False


def test_a_verdict_that_changed_is_a_difference_though_all_intervals_agree(published):
    now = copy.deepcopy(published)
    now["contrasts"][3]["verdict"] = "inconclusive"
    found = judge(published, now)
    assert all(row.compatible for row in found.rows)
    assert found.exit_code == EXIT_DIFFERS
    shown = reproduced.in_terminal(found, ["host.cores: 2 in A, 4 in B"])
    assert "verdict of steady: long-idle - warm: different-within-margin then, inconclusive now" in shown
    assert "not the same: host.cores: 2 in A, 4 in B" in shown
    assert shown.splitlines()[-1] == "differs: 0 of 22 intervals, 1 of 10 verdicts"
    assert max(map(len, shown.splitlines())) <= 100


def test_states_of_controls_and_thresholds_are_verdicts_too():
    control = {"kind": "same", "load": "l", "regimes": ["a", "b"], "state": "passed"}
    threshold = {"threshold": "failures == 0", "load": "l", "regime": "a", "state": "met"}
    then = {"cells": [], "contrasts": [], "controls": [control], "thresholds": [threshold]}
    now = {**then, "controls": [control | {"state": "failed"}]}
    assert judge(then, now).changed == [("control same, l, a, b", "passed", "failed")]


def test_single_runs_have_no_interval_and_decide_nothing_unless_they_are_the_same():
    one = measured(1, blocks=1)
    found = judge(one, measured(3, a=12, blocks=1))
    assert [row.compatible for row in found.rows if row.what == "l, a"] == [None]
    only = {"cells": one["cells"][:1], "contrasts": [], "controls": [], "thresholds": []}
    other = copy.deepcopy(only)
    other["cells"][0]["cold_rate"]["estimate"] += 0.1
    assert judge(only, other).exit_code == EXIT_INCONCLUSIVE
    assert judge(only, only).exit_code == EXIT_OK


def test_packages_are_the_same_by_their_pins_and_not_by_comments():
    import msgspec

    pinned = f"# made otherwise\nmsgspec=={msgspec.__version__}\n    # via -r requirements.in\n"
    assert other_packages(pinned) == []
    assert other_packages("msgspec==0.0.1\nno-such-package-here==2.0 ; python_version > '3'\n") == [
        f"msgspec 0.0.1 (here {msgspec.__version__})",
        "no-such-package-here 2.0 (here none)",
    ]
