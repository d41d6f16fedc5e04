"""When a campaign that was run again agrees with the first: judged on answers, without running anything."""

import pytest
from msgspec import structs

from analysis.report import reproduced
from analysis.report.reproduced import judge
from experiments.reproduce import other_packages
from fave.campaign.rundir import read_json
from fave.errors import EXIT_DIFFERS, EXIT_INCONCLUSIVE, EXIT_OK
from fave.settings import ROOT
from tests.support.campaigns import measured, results_of, typed

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def published():
    return typed(read_json(ROOT / "runs" / "example" / "results.json"))


def test_a_campaign_agrees_with_itself(published):
    found = judge(published, published)
    assert found.exit_code == EXIT_OK
    cells, planned = len(published.cells), len(published.contrasts) + len(published.effects)
    assert len(found.rows) == 2 * cells + planned  # cold starts and slow requests
    assert (found.changed, found.verdicts) == ([], planned)


def test_the_same_system_measured_again_is_compatible_and_another_one_is_not():
    assert judge(typed(measured(1)), typed(measured(2))).exit_code == EXIT_OK
    found = judge(typed(measured(1)), typed(measured(2, a=16)))
    assert {row.what: row.compatible for row in found.rows} == {"l, a": False, "l, b": True, "l: a - b": False}
    assert found.exit_code == EXIT_DIFFERS


def test_the_interval_of_the_difference_reaches_as_far_as_both_sides_allow():
    rate = measured(1, blocks=3)["cells"][0]["cold_rate"]

    def of(estimate, low, high):
        return results_of(cells=[{"cold_rate": rate | {"estimate": estimate, "low": low, "high": high}}])

    then = of(0.1, 0.06, 0.2)
    (row,) = judge(then, of(0.3, 0.1, 0.33)).rows
    assert row.difference == pytest.approx((0.2, 0.2 - (0.2**2 + 0.1**2) ** 0.5, 0.2 + (0.03**2 + 0.04**2) ** 0.5))
    assert row.compatible
    assert judge(then, of(0.3, 0.2, 0.33)).rows[0].compatible is False


def test_a_verdict_that_changed_is_a_difference_though_all_intervals_agree(published):
    rows = list(published.contrasts)
    rows[3] = structs.replace(rows[3], verdict="inconclusive")
    now = structs.replace(published, contrasts=rows)
    found = judge(published, now)
    assert all(row.compatible for row in found.rows)
    assert found.exit_code == EXIT_DIFFERS
    shown = reproduced.in_terminal(found, ["host.cores: 2 in A, 4 in B"])
    assert "verdict of steady: long-idle - warm: different then, inconclusive now" in shown
    assert "not the same: host.cores: 2 in A, 4 in B" in shown
    assert shown.splitlines()[-1] == "differs: 0 of 36 intervals, 1 of 16 verdicts"
    assert max(map(len, shown.splitlines())) <= 100


def test_states_of_controls_and_thresholds_are_verdicts_too():
    then = results_of(controls=[{"state": "passed"}], thresholds=[{"state": "met"}])
    now = results_of(controls=[{"state": "failed"}], thresholds=[{"state": "met"}])
    assert judge(then, now).changed == [("control same, l, a, b", "passed", "failed")]


def test_single_runs_have_no_interval_and_decide_nothing_unless_they_are_the_same():
    one = typed(measured(1, blocks=1))
    found = judge(one, typed(measured(3, a=12, blocks=1)))
    assert [row.compatible for row in found.rows if row.what == "l, a"] == [None]
    cell = one.cells[0]
    only = structs.replace(one, cells=[cell], contrasts=[])
    further = structs.replace(cell.cold_rate, estimate=cell.cold_rate.estimate + 0.1)
    other = structs.replace(only, cells=[structs.replace(cell, cold_rate=further)])
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
