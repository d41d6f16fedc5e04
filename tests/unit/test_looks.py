"""Group-sequential looks, factorial effects, and the simulator as control variate."""

import random

import numpy as np
import pytest

from analysis import outcome
from analysis.answers import variates
from analysis.answers.variates import Arm
from analysis.rows.folder import load
from analysis.rows.simulate import Function, Times, simulate
from analysis.statistics import compare, looks
from fave.campaign.validity import Verdict
from fave.settings import ROOT, Duration
from fave.traffic.arrivals import generate
from fave.traffic.loads import traffic_of
from tests.support.campaigns import answers, campaign, experiment, of_load, typed, with_cold
from tests.support.campaigns import load as a_load

pytestmark = pytest.mark.unit


def test_alpha_is_spent_whole_over_the_looks_and_equivalence_comes_late():
    plan = looks.planned([3, 5, 8, 12])
    assert [each.share for each in plan] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert [each.equivalence_share for each in plan] == pytest.approx([0, 0, 1 / 3, 2 / 3])
    assert looks.over([0.01, 0.5], [0.1, 0.2]) == pytest.approx(0.1)
    assert looks.over([0.01, None], [0.0, 0.2]) is None


def sequential(a, b, planned=(3, 5, 8)):
    """Cold of 20 in each block of a and b."""
    blocks = range(len(a))
    cells = with_cold({(i, r): {"a": a, "b": b}[r][i] for i in blocks for r in "ab"})
    return answers(campaign(experiment(loads={"l": a_load(blocks=8)}, looks=list(planned)), cells))


def test_before_the_first_look_nothing_is_decided_however_clear_it_is():
    (row,) = sequential([18, 19], [1, 1])["contrasts"]
    assert (row["verdict"], row["p"], row["decided"]) == ("inconclusive", None, False)
    assert row["reason"] == "l: the first look is after 3 blocks"


def test_what_a_look_decided_stays_decided_and_the_interval_has_the_level_of_the_last_one():
    a, b = [18, 19, 18, 5, 18], [1, 1, 1, 1, 1]
    (first,), (later,) = (sequential(a[:n], b[:n])["contrasts"] for n in (3, 5))
    assert (first["verdict"], first["blocks"], first["exploratory"]) == ("different", 3, False)
    assert first["p"] == pytest.approx(compare.paired([(x, 20) for x in a[:3]], [(1, 20)] * 3, margin=0.05).p * 6)
    assert (later["verdict"], later["p"]) == ("different", first["p"])
    assert later["confidence"] == pytest.approx(1 - 0.05 * 2 / 6)
    plain = compare.paired([(x, 20) for x in a], [(1, 20)] * 5, margin=0.05)
    assert later["ci95"][0] < plain.ci95[0]


def test_a_look_whose_last_block_is_invalid_is_a_look_all_the_same():
    """Before, a campaign of eight blocks whose eighth was excluded was judged after five."""
    blocks = with_cold({(i, r): {"a": 15 + i % 3, "b": 2}[r] for i in range(5) for r in "ab"})
    whole = campaign(experiment(loads={"l": a_load(blocks=5)}, looks=[3, 5]), blocks)
    invalid = Verdict(valid=False, findings=())
    runs = [run._replace(verdict=invalid) if run.block == 4 else run for run in whole.runs]
    (row,) = answers(whole._replace(runs=runs))["contrasts"]
    assert (row["blocks"], row["confidence"]) == (4, pytest.approx(1 - 0.05 * 2 / 3))


def test_a_look_says_what_is_open_and_how_likely_the_next_one_decides_it():
    found = sequential([8, 5, 9], [4, 3, 2])
    (row,) = found["contrasts"]
    assert not row["decided"]
    assert 0 < row["chance_next"] < 1
    said = outcome.at_look(typed(found), 3, 5, [])
    assert said == [
        f"look after 3 blocks, l: 0 of 1 decided; after 5: a - b with {100 * row['chance_next']:.0f} % chance"
    ]
    assert outcome.at_look(typed(found), 3, 5, ["l"]) == ["look after 3 blocks, l: 0 of 1 decided; it ends here"]


def test_a_constant_difference_is_decided_after_eight_blocks():
    decided = [sequential([5] * n, [0] * n)["contrasts"][0]["decided"] for n in (3, 5, 8)]
    assert decided == [False, False, True]


CROSSED = {"minimum": {"0": ["a", "b"], "1": ["c", "d"]}, "timeout": {"short": ["a", "c"], "long": ["b", "d"]}}


def test_main_effects_are_means_of_differences_and_the_interaction_their_difference():
    cold = {"a": [9, 11, 10], "b": [4, 5, 6], "c": [2, 2, 1], "d": [0, 1, 1]}
    made = experiment(regimes=list("abcd"), factorial=CROSSED, contrasts=[], loads={"l": a_load(blocks=3)})
    found = answers(campaign(made, with_cold({(i, r): cold[r][i] for r in cold for i in range(3)})))
    minimum, timeout, interaction = found["effects"]
    a, b, c, d = (sum(each) / 60 for each in cold.values())
    assert (minimum["a"], minimum["b"]) == ("minimum 1", "minimum 0")
    assert minimum["difference"] == pytest.approx((c + d - a - b) / 2)
    assert timeout["difference"] == pytest.approx((b + d - a - c) / 2)
    assert interaction["difference"] == pytest.approx(a - b - c + d)
    by_block = [(cold["c"][i] + cold["d"][i] - cold["a"][i] - cold["b"][i]) / 40 for i in range(3)]
    assert minimum["standard_error"] == pytest.approx(np.std(by_block, ddof=1) / 3**0.5)
    # Each arm brings its own degrees of freedom where requests were independent; never less than of one arm.
    assert minimum["df"] == pytest.approx(2)
    assert {row["p_holm"] >= row["p"] for row in found["effects"]} == {True}


def test_contrasts_and_effects_are_one_family():
    cold = {"a": [9, 11, 10], "b": [4, 5, 6], "c": [2, 2, 1], "d": [0, 1, 1]}
    cells = with_cold({(i, r): cold[r][i] for r in cold for i in range(3)})
    loads = {"l": a_load(blocks=3)}
    alone, together = (
        answers(campaign(experiment(regimes=list("abcd"), factorial=f, contrasts=[["a", "b"]], loads=loads), cells))
        for f in ({}, CROSSED)
    )
    assert together["contrasts"][0]["p_holm"] > alone["contrasts"][0]["p_holm"]


TRAFFIC = traffic_of("steady", rate_per_s=2.0, duration=Duration(60))
COLD, TIMES = Function(1.0, 0, 2), Times.same(0.04, 0.5)


def arrivals(seed):
    return [at_us / 1e6 for at_us in generate(TRAFFIC, seed)]


def counted(schedule, function=COLD, times=TIMES):
    found = simulate(schedule, function, times)
    return int(found.affected.sum()), len(schedule)


def measured(campaign_seed, blocks, *, simulated=COLD, simulated_times=TIMES):
    """A campaign of one arm, noisy around the truth; what a simulator, which may be wrong, makes of its schedules."""
    chance = random.Random(campaign_seed)
    schedules = [arrivals(f"{campaign_seed}: {block}") for block in range(blocks)]
    counts = {}
    for block, schedule in enumerate(schedules):
        slower = chance.lognormvariate(0, 0.1)
        counts[block] = counted(schedule, COLD, Times.same(0.04 * slower, 0.5 * slower))
    others = [counted(arrivals(f"other {k}"), simulated, simulated_times) for k in range(200)]
    rate = sum(x for x, _ in others) / sum(n for _, n in others)
    mine = [counted(schedule, simulated, simulated_times) for schedule in schedules]
    deviations = {block: x - rate * n for block, (x, n) in enumerate(mine)}
    return counts, Arm(deviations, np.array([(x - rate * n) / 120 for x, n in others]))


@pytest.mark.parametrize("blocks", [5, 8])
def test_the_simulators_deviation_takes_most_of_the_variance_away(blocks):
    counts, arm = measured(1, blocks)
    none = {block: (0, n) for block, (_, n) in counts.items()}
    found = variates.adjusted([counts, none], [arm, None], (1.0, -1.0))
    before = compare.paired(list(counts.values()), list(none.values()), margin=0.05)
    after = compare.paired(*found.arms, margin=0.05, extra=found.extra)
    assert (after.error / before.error) ** 2 < 0.4
    assert found.extra.variance > 0
    assert (found.coefficients[0] == 1.0, found.extra.coefficients) == ((True, 0) if blocks == 5 else (False, 1))


@pytest.mark.parametrize("wrong", [Function(1.3, 0, 2), Function(1.0, 0, 1)])
def test_a_wrong_simulator_moves_no_mean(wrong):
    """Timeout or maximum of another system, and times off by 30 %: over 60 campaigns the mean stays what it was."""
    differences = []
    for seed in range(60):
        counts, arm = measured(seed, 5, simulated=wrong, simulated_times=Times.same(0.052, 0.65))
        found = variates.adjusted([counts], [arm], (1.0,))
        raw, moved = (sum(x for x, _ in each) / 600 for each in (counts.values(), found.arms[0]))
        differences.append(moved - raw)
    error = np.std(differences, ddof=1) / 60**0.5
    # The expectation is of 200 schedules, the same ones for all campaigns.
    shared = np.std(arm.expected, ddof=1) / 200**0.5
    assert abs(np.mean(differences)) < 3 * (error**2 + shared**2) ** 0.5


def test_an_arm_that_is_constant_is_left_alone_and_so_is_a_rate_that_would_leave_its_range():
    arm = Arm({0: 3.0, 1: -3.0}, np.zeros(2))
    constant = {0: (5, 20), 1: (5, 20)}
    assert variates.adjusted([constant], [arm], (1.0,)) is None
    few = {0: (1, 20), 1: (0, 20)}
    assert variates.adjusted([few], [Arm({0: 5.0, 1: 5.0}, np.zeros(2))], (1.0,)) is None
    assert variates.adjusted([few], [Arm({0: 0.0, 1: 0.0}, np.zeros(2))], (1.0,)) is None
    assert variates.adjusted([few], [None], (1.0,)) is None


def test_blocks_that_share_their_arrivals_have_no_variate():
    paced = a_load(traffic={"model": "paced", "requests": 20, "duration": "10s"})
    made = campaign(experiment(loads={"l": paced}), with_cold({(i, r): 5 + i for i in range(3) for r in "ab"}))
    from analysis.rows import digest

    assert variates.arms(made, digest.of_all(made), "invocation_cold_rate", 3) == {}


def test_with_excluded_runs_put_back_it_is_the_same_statistic_that_decides():
    """Else a verdict would change for want of the control variate, and the exclusion be blamed."""
    plan = {"control_variate": True, "contrasts": [["long-idle", "warm"]], "factorial": {}}
    whole = of_load(load(ROOT / "runs" / "example"), "steady", **plan)
    invalid = Verdict(valid=False, findings=())
    excluded = [run._replace(verdict=invalid) if run.block == 4 else run for run in whole.runs]
    without, plain = (answers(whole._replace(runs=some))["contrasts"][0] for some in (excluded, whole.runs))
    assert without["method"] == plain["method"] == "paired CR2, control variate"
    assert without["with_excluded"]["ci95"] == pytest.approx(plain["ci95"], abs=0.002)
