"""Other outcomes than cold-start rates: how they are compared, adjusted, and decided about."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from scipy import stats

from analysis import outcome
from analysis.answers import calibrate_ab, guards
from analysis.report import summary, tables, write
from experiments import forecast, model
from fave.campaign.experiment import Experiment
from fave.campaign.outcomes import OUTCOMES
from fave.settings import from_plain
from tests.support.campaigns import answers, campaign, experiment, invocation, load, typed

pytestmark = pytest.mark.unit


def timed(seconds, n=10):
    """Cells of n invocations that take so long, by (block, regime)."""
    return {
        (block, "l", regime): (
            [structs.replace(invocation(i, i / 2, held_s=each), cost_gb_s=each) for i in range(n)],
            [],
        )
        for (block, regime), each in seconds.items()
    }


def compared(a, b, **change):
    seconds = {(i, r): {"a": a, "b": b}[r][i] for i in range(len(a)) for r in "ab"}
    change = {"primary_outcome": "mean_latency_s", "loads": {"l": load(blocks=len(a))}} | change
    return answers(campaign(experiment(**change), timed(seconds)))


SHORT = {"model": "poisson", "requests": 99, "duration": "9s"}
A = [0.21, 0.25, 0.19, 0.22, 0.24, 0.2, 0.23, 0.26]
B = [0.1, 0.11, 0.1, 0.12, 0.1, 0.11, 0.12, 0.1]


def test_a_latency_is_compared_as_a_ratio_by_the_paired_t_test_of_its_logs():
    (row,) = compared(A, B)["contrasts"]
    logs = np.log(A) - np.log(B)
    test = stats.ttest_1samp(logs, 0)
    low, high = test.confidence_interval()
    assert row["difference"] == pytest.approx(math.exp(logs.mean()) - 1)
    assert row["ci95"] == [pytest.approx(math.exp(low) - 1), pytest.approx(math.exp(high) - 1)]
    assert row["p"] == pytest.approx(test.pvalue)
    assert (row["method"], row["verdict"], row["df"]) == ("paired t over log ratios", "different", pytest.approx(7))
    assert row["rates"]["a"] == pytest.approx(A)
    assert row["ci95"][1] > 1, "more than twice as long is no bound"


def test_a_margin_of_a_ratio_reaches_as_far_down_as_up():
    near = [0.1, 0.104, 0.098, 0.101, 0.1, 0.099, 0.102, 0.1]
    (wide,) = compared(near, [0.1] * 8, equivalence_margin=0.1)["contrasts"]
    assert wide["verdict"] == "equivalent"
    lower = [0.1 / 1.095] * 7 + [0.1 / 1.094]
    (edge,) = compared(lower, [0.1] * 8, equivalence_margin=0.1)["contrasts"]
    assert edge["verdict"] == "different-within-margin", "1 / 1.1 is 9.1 % less"


def test_a_run_in_which_a_request_failed_has_no_mean_and_says_why():
    seconds = {(i, r): {"a": A, "b": B}[r][i] for i in range(3) for r in "ab"}
    cells = timed(seconds)
    cells[1, "l", "a"][0][0].status = "failed"
    found = answers(campaign(experiment(primary_outcome="mean_latency_s", loads={"l": load(blocks=3)}), cells))
    (row,) = found["contrasts"]
    assert (row["difference"], row["reason"]) == (None, "a run of a has no known mean latency")


def test_secondary_outcomes_are_one_family_and_decide_nothing_alone():
    found = compared(A, B, secondary_outcomes=["request_cold_rate", "executed_gb"], margins={"executed_gb": 0.2})
    cold, executed = found["secondary_contrasts"]
    assert (cold["outcome"], executed["outcome"]) == ("request_cold_rate", "executed_gb")
    assert executed["p_holm"] == pytest.approx(2 * executed["p"]), "two tests, the smaller p is doubled"
    assert (executed["margin"], cold["margin"]) == (0.2, 0.05)
    shown = next(each for each in tables.tables(typed(found)) if each.title == "Secondary outcomes")
    assert {row[2] for row in shown.rows} == {"cold-start rate of requests", "memory while executing"}


def test_reports_say_per_cent_of_a_ratio_and_points_of_a_share():
    found = typed(compared(A, B, secondary_outcomes=["request_cold_rate", "executed_gb"]))
    (row,) = found.contrasts
    assert summary.difference(row).split(" [")[0] == f"{100 * row.difference:+.1f} %"
    (said,) = summary.sentences(found)
    assert "the mean latency differs by +1" in said
    assert summary.contrasts_title("mean_latency_s") == "Contrasts of mean latency"
    assert "memory while executing" in write.in_terminal(found, Path("x"))


def test_money_adds_up_what_has_a_price():
    prices = {"name": "n", "version": "1", "source": "s", "currency": "EUR", "per_gb_s_executed": 2.0,
              "per_gb_s_held": 0.0, "per_million_requests": 0.0}  # fmt: skip
    twice = compared(A, B, primary_outcome="money_per_hour", prices=prices, secondary_outcomes=["executed_gb"])
    (money,), (executed,) = twice["contrasts"], twice["secondary_contrasts"]
    assert money["difference"] == pytest.approx(executed["difference"]), "here only executing costs"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"primary_outcome": "p95_latency_s", "loads": {"l": load(traffic=SHORT)}},
         "loads.l.traffic.requests: p95_latency_s needs 100 in a run, not 99"),
        ({"primary_outcome": "money_per_hour"}, "prices: money_per_hour is an outcome, and nothing has a price"),
        ({"secondary_outcomes": ["invocation_cold_rate"]}, "stands twice, or is the primary one"),
        ({"margins": {"held_gb": 0.1}}, "'held_gb' is no secondary outcome"),
        ({"secondary_outcomes": ["held_gb"], "margins": {"held_gb": 1.5}}, "margins.held_gb: 1.5 must lie between"),
        ({"not_worse": [["b", "a"]]}, "not_worse: b - a is no planned contrast"),
        ({"primary_outcome": "latency"}, "primary_outcome"),
        ({"secondary_outcomes": ["p99_latency_s"], "loads": {"l": load(traffic=SHORT)}}, "p99_latency_s needs 300"),
        ({"secondary_outcomes": ["slow_request_rate"]}, "loads.l.slo: slow_request_rate is the share"),
        ({"not_worse": [["a", "b"]], "looks": [3, 5], "loads": {"l": load(blocks=5)}}, "not_worse: is asked once"),
    ],
)  # fmt: skip
def test_an_outcome_that_cannot_be_is_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        from_plain(experiment(**change), Experiment)


def test_every_outcome_has_a_figure_for_a_run():
    from analysis.answers import outcomes
    from analysis.rows import digest

    whole = campaign(experiment(), timed({(0, "a"): 0.1, (0, "b"): 0.1}, n=400))
    (each, _) = digest.of_all(whole)
    known = {name for name in OUTCOMES if outcomes.figure(each, name) is not None}
    assert OUTCOMES.keys() - known == {"slow_request_rate", "start_s", "held_gb", "money_per_hour"}, (
        "no limit, no starts, no replicas and no prices there"
    )


def test_the_plan_says_what_it_shows_of_the_outcome_it_is_about():
    made = model.load("decomposition")
    (head, *_) = forecast.detectable(made, None)
    assert head.startswith("smallest difference of mean latency shown with 80% power, in %")
    pilot = forecast.Pilot(
        "p", {("mean_latency_s", "steady", "one", "ten"): 0.1, ("held_gb", "steady", "one", "ten"): 9}
    )
    assert any("one - ten" in line and "sd  10.0" in line for line in forecast.detectable(made, pilot))


# Is an arm worse?


def of_blocks(*blocks):
    values = np.asarray(blocks, float)
    error = float(values.std(ddof=1) / math.sqrt(len(values))) or None
    return guards.Compared("l", tuple(values), float(values.mean()), error, float(len(values) - 1), 0.2)


def test_one_outcome_alone_is_tested_by_flipping_the_signs_of_its_blocks():
    values = (0.1, 0.2, 0.3, 0.1, 0.2, 0.3, -0.05, 0.1)
    (found,) = guards.judged([of_blocks(*values)])
    flips = stats.permutation_test((values,), lambda x, axis: x.mean(axis=axis), permutation_type="samples",
                                   alternative="greater", vectorized=True, n_resamples=np.inf)  # fmt: skip
    assert found.p_worse == pytest.approx(flips.pvalue)
    assert found.state == "worse"


@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6), min_size=1, max_size=4))
def test_adjusting_never_makes_an_outcome_worse_than_alone_and_copies_cost_nothing(rows):
    family = [of_blocks(*row) for row in rows]
    alone = [guards.judged([each])[0].p_worse for each in family]
    together = [each.p_worse for each in guards.judged(family)]
    assert all(p >= one - 1e-12 for p, one in zip(together, alone, strict=True))
    twice = [each.p_worse for each in guards.judged([*family, *family])]
    assert twice[: len(rows)] == pytest.approx(together), "an outcome that says the same again is no further test"


def test_of_few_blocks_nothing_is_said_and_a_constant_that_is_less_is_within():
    assert guards.judged([of_blocks(1, 1.1, 0.9, 1)])[0].state == "undecided"
    assert guards.judged([of_blocks(0, 0, 0)])[0].state == "undecided"
    (same,) = guards.judged([of_blocks(*[0] * 8)])
    assert (same.state, same.p_worse) == ("within", 1.0)
    (constant,) = guards.judged([of_blocks(*[0.3] * 6)])
    assert constant.state == "worse"


@pytest.mark.parametrize(
    ("a", "b", "code", "state"),
    [
        (A, B, 7, "worse"),
        (B, [0.1, 0.108, 0.104, 0.118, 0.101, 0.108, 0.12, 0.103], 0, "within"),
        (B, [0.05, 0.3, 0.02, 0.4, 0.1, 0.01, 0.5, 0.09], 8, "undecided"),
        (B, A, 0, "within"),
    ],
)
def test_the_exit_code_says_whether_the_arm_is_worse(a, b, code, state):
    found = typed(compared(a, b, not_worse=[["a", "b"]], equivalence_margin=0.2))
    assert [each.state for each in found.guards] == [state]
    assert outcome.exit_code(found) == code
    assert any(each.title == "Is an arm worse?" for each in tables.tables(found))


def test_arms_without_any_start_are_not_asked_how_long_they_took():
    found = compared(B, B, not_worse=[["a", "b"]], secondary_outcomes=["start_s"], equivalence_margin=0.2)
    assert [each["outcome"] for each in found["guards"]] == ["mean_latency_s"]


def test_what_has_no_label_may_be_at_either_end_of_both_arms():
    """Of each run two of ten have none: from 20 % to 40 % in a, from 0 to 20 % in b."""
    seconds = {(i, r): 0.1 for i in range(8) for r in "ab"}
    cells = timed(seconds)
    for (_, _, regime), (rows, _) in cells.items():
        for k, row in enumerate(rows):
            row.cold = None if k < 2 else regime == "a" and k < 4
    change = {"loads": {"l": load(blocks=8)}, "not_worse": [["a", "b"]], "equivalence_margin": 0.3}
    (found,) = answers(campaign(experiment(**change), cells))["guards"]
    assert found["state"] == "undecided", "it lies between none and 40 points"


def test_a_run_without_a_figure_is_left_out_and_not_put_back():
    cells = timed({(i, r): {"a": A, "b": B}[r][i] for i in range(4) for r in "ab"})
    cells[1, "l", "a"][0][0].status = "failed"
    found = answers(campaign(experiment(primary_outcome="mean_latency_s", loads={"l": load(blocks=4)}), cells))
    assert found["contrasts"][0]["with_excluded"] is None


def test_each_level_of_cold_starts_lacks_what_has_no_label_at_that_level():
    from analysis.rows import digest

    cells = timed({(0, "a"): 0.1, (0, "b"): 0.1})
    for row in cells[0, "l", "a"][0][:3]:
        row.cold, row.status, row.replica_id = None, "lost", ""
    names = {"primary_outcome": "request_cold_rate", "secondary_outcomes": ["invocation_cold_rate"]}
    one = digest.of_all(campaign(experiment(**names, loads={"l": load(blocks=1)}), cells))[0]
    assert one.lacking("request_cold_rate") == one.without_label.requests
    assert one.lacking("invocation_cold_rate") == one.unlabelled


def test_simulated_versions_come_out_as_they_are():
    """On 20 campaigns: loose bounds; `make calibrate` has the figures."""
    same, slower = calibrate_ab.VERSIONS[0], calibrate_ab.VERSIONS[1]
    states = [[calibrate_ab._states(version, f"s{i}") for i in range(20)] for version in (same, slower)]
    assert sum("worse" in each for each in states[0]) <= 5
    assert all("worse" in each for each in states[1])
    assert calibrate_ab._states(same, "s0") == states[0][0], "the same seed, the same campaign"
    shown = calibrate_ab.table([calibrate_ab.Erred("the same", 20, 0.05, 0.5)])
    assert shown.rows == [("the same", "5.0%", "50.0%")]
