import math
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fave.campaign.validity import (
    Fidelity,
    Gates,
    Judged,
    Observed,
    Verdict,
    at_most,
    below,
    gap_distance,
    judge,
    judge_load,
    measure,
    quantile,
    reference_latency_s,
)
from fave.strain import CoreTime, cpu_use

pytestmark = pytest.mark.unit

LOAD = {
    "scheduled": 100,
    "sent": 100,
    "dropped": 0,
    "unsent": 0,
    "rate_error": 0.0001,
    "span_error_s": 0.001,
    "schedule_lag_p50_s": 0.001,
    "schedule_lag_p99_s": 0.001,
    "schedule_lag_max_s": 0.001,
    "scheduled_gap_mean_s": 0.5,
    "scheduled_gap_cv": 1.0,
    "sent_gap_cv": 1.0,
    "gap_ks": 0.0,
    "generator_cpu_share": 0.1,
}
GOOD = {
    "median_latency_s": 1.0,
    "cold_missing": 0,
    "served": 100,
    "replica_gap_s": 0.5,
    "initial_state_ok": True,
    "configuration_unchanged": True,
    "drained": True,
    "labelled": 100,
    "label_mismatches": 0,
}


def observed(**change):
    load = {name: value for name, value in change.items() if name in LOAD}
    rest = {name: value for name, value in change.items() if name not in LOAD}
    return Observed(fidelity=Fidelity(**LOAD | load), **GOOD | rest)


def test_a_clean_run_is_valid():
    assert judge(observed()).valid


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("schedule_lag_p99_s", {"schedule_lag_p99_s": 0.06}),
        ("schedule_lag_p99_s", {"schedule_lag_p99_s": 0.02, "reference_latency_s": 0.2}),
        ("rate_error", {"rate_error": 0.02, "span_error_s": 1.0}),
        ("gap_cv_error", {"sent_gap_cv": 1.2}),
        ("gap_ks", {"gap_ks": 0.2}),
        ("unsent_share", {"unsent": 2}),
        ("generator_cpu_share", {"generator_cpu_share": 0.9}),
        ("cold_missing_share", {"cold_missing": 2}),
        ("replica_gap_s", {"replica_gap_s": 2.0}),
        ("cold_label_disagreement", {"label_mismatches": 6}),
        ("replica_age_p99_s", {"replica_age_p99_s": 1.2}),
        ("clock_offset_s", {"clock_offset_s": 0.021}),
        ("memory_pressure_share", {"memory_pressure_share": 0.2}),
        ("evictions", {"evictions": 1}),
        ("foreign_cpu_share", {"foreign_cpu_share": 0.06}),
        ("gateway_late_share", {"gateway_late_share": 0.02}),
        ("initial_state", {"initial_state_ok": False}),
        ("configuration", {"configuration_unchanged": False}),
        ("drained", {"drained": False}),
        ("requests", {"sent": 0}),
    ],
)
def test_each_gate_alone_invalidates_a_run_and_is_named(gate, change):
    verdict = judge(observed(**change))
    assert not verdict.valid
    assert [finding.gate for finding in verdict.findings if not finding.ok] == [gate]
    assert verdict.reasons()[0].startswith(gate)


def test_a_run_that_nobody_observed_is_invalid_also_after_it_went_through_a_file():
    verdict = msgspec.json.decode(msgspec.json.encode(judge(observed(replica_gap_s=math.inf))), type=Verdict)
    assert verdict.reasons() == ["replica_gap_s: no observation at all"]


@pytest.mark.parametrize("limit", [math.inf, math.nan, -1.0])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ValueError, match="clock_offset_s"):
        Gates(clock_offset_s=limit)


def test_one_gap_of_few_is_no_other_distribution():
    assert judge(observed(sent=9, scheduled=9, gap_ks=0.125)).valid
    assert not judge(observed(sent=9, scheduled=9, gap_ks=0.25)).valid


@pytest.mark.parametrize("arrivals", range(3, 40))
def test_one_late_gap_among_any_number_does_not_fail_by_rounding(arrivals):
    """One arrival 9 ms late makes two gaps that differ; judged by the exact fractions of its gaps."""
    for late in range(1, arrivals):
        lags_ms = [9.0 if k == late else 0.0 for k in range(arrivals)]
        fidelity = measure(sent(*lags_ms), scheduled=arrivals, dropped=0, cpu_share=0.1)
        gaps = arrivals - 1
        exact = Fraction(round(fidelity.gap_ks * gaps), gaps)
        assert float(exact) == pytest.approx(fidelity.gap_ks, abs=1e-12)
        (finding,) = [each for each in judge_load(fidelity).findings if each.gate == "gap_ks"]
        assert finding.ok == (exact <= max(Fraction(1, 10), Fraction(1, gaps))), (arrivals, late)


@given(st.integers(1, 10**4), st.data())
def test_fractions_are_compared_as_fractions_are(n, data):
    """Whatever sums and differences of k/n a value and a limit came from."""
    i, j, k = (data.draw(st.integers(0, n)) for _ in range(3))
    value, limit = i / n - j / n, k / n
    assert at_most(value, limit) == (i - j <= k)
    assert below(value, limit) == (i - j < k)
    assert at_most(limit, value) == (i - j >= k)
    assert at_most(sum([1 / n] * i), limit) == (i <= k)


def test_what_is_more_than_rounding_is_over_the_limit():
    assert not at_most(0.1001, 0.1)
    assert not at_most(1e-9, 0)
    assert at_most(0.1 + 0.2, 0.3)
    assert not below(0.3, 0.1 + 0.2)
    assert not at_most(math.nan, 1)
    assert not below(math.nan, 1)
    assert not at_most(math.inf, 1)
    assert below(1, math.inf)


@pytest.mark.parametrize("gate", ["rate_error", "gap_ks", "generator_cpu_share", "schedule_lag_p99_s"])
def test_a_figure_at_its_limit_but_for_rounding_passes_its_gate(gate):
    limit = getattr(Gates(), gate)
    for value, ok in ((limit * (1 + 1e-15), True), (limit * 1.001, False)):
        assert judge(observed(**{gate: value, "span_error_s": 1.0})).valid == ok


def test_a_reason_has_the_digits_that_it_takes():
    assert judge(observed(gap_ks=0.100001)).reasons() == ["gap_ks: 0.100001 > 0.1"]


def test_lag_below_the_floor_is_accepted_however_fast_the_function_is():
    assert judge(observed(schedule_lag_p99_s=0.009, reference_latency_s=0.01)).valid


def test_gates_are_settings():
    assert judge(observed(generator_cpu_share=0.9), Gates(generator_cpu_share=0.95)).valid


def test_what_a_platform_cannot_show_is_named_and_not_failed():
    verdict = judge(observed(label_mismatches=None, replica_gap_s=None))
    assert verdict.valid
    assert any("no events" in finding.note for finding in verdict.findings)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_the_quantile_is_numpys(values, q):
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), rel=1e-9, abs=1e-9)


def sent(*lags_ms, every_ms=1000):
    return [(k * every_ms * 1000, int((k * every_ms + lag) * 1000)) for k, lag in enumerate(lags_ms)]


def test_a_load_that_left_on_time_is_valid():
    fidelity = measure(sent(*[1.0] * 50), scheduled=50, dropped=0, cpu_share=0.2)
    assert judge_load(fidelity).valid
    assert (fidelity.rate_error, fidelity.scheduled_gap_cv, fidelity.gap_ks) == (0.0, 0.0, 0.0)
    assert (fidelity.scheduled_rate_per_s, fidelity.schedule_lag_max_s) == (1.0, 0.001)


def test_a_rate_that_drifts_is_found():
    """Every gap two per cent too long, as summed sleeps make them."""
    fidelity = measure(sent(*[20.0 * k for k in range(200)]), scheduled=200, dropped=0, cpu_share=0.2)
    verdict = judge_load(fidelity)
    assert fidelity.rate_error == pytest.approx(1 - 1 / 1.02)
    assert {finding.gate for finding in verdict.findings if not finding.ok} >= {"rate_error", "schedule_lag_p99_s"}


def test_arrivals_in_lockstep_are_found_though_their_rate_is_right():
    """Ten at a time, every ten seconds: what users who start together make of a rate."""
    pairs = [(k * 1_000_000, k // 10 * 10_000_000) for k in range(200)]
    fidelity = measure(pairs, scheduled=200, dropped=0, cpu_share=0.2)
    assert fidelity.gap_ks > 0.8
    assert fidelity.sent_gap_cv == pytest.approx(3, abs=0.2)
    assert {"gap_ks", "gap_cv_error"} <= {f.gate for f in judge_load(fidelity).findings if not f.ok}


def test_drops_are_an_outcome_and_unsent_arrivals_a_gate():
    pairs = sent(*[1.0] * 80)
    assert judge_load(measure(pairs, scheduled=100, dropped=20, cpu_share=0.2)).valid
    verdict = judge_load(measure(pairs, scheduled=100, dropped=0, cpu_share=0.2))
    assert [f.gate for f in verdict.findings if not f.ok] == ["unsent_share"]


def test_a_short_run_is_not_blamed_for_lag_that_is_allowed():
    """Two arrivals 20 ms apart, the second 2 ms late: a rate error of a tenth, and nothing wrong."""
    assert judge_load(measure([(0, 0), (20_000, 22_000)], scheduled=2, dropped=0, cpu_share=0.1)).valid


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_arrivals_are_judged_by_what_they_can_show(count):
    verdict = judge_load(measure(sent(*[1.0] * count), scheduled=max(1, count), dropped=0, cpu_share=None))
    assert verdict.valid == (count > 0)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.lists(st.floats(0, 10), min_size=1, max_size=40))
def test_without_tolerance_the_distance_is_kolmogorov_and_smirnovs(a, b):
    at = np.sort([*a, *b])
    one, other = (np.searchsorted(np.sort(sample), at, side="right") / len(sample) for sample in (a, b))
    assert gap_distance(a, b, 0.0) == pytest.approx(float(np.abs(one - other).max()), abs=1e-9)


def test_what_others_and_other_guests_used_is_foreign():
    before, after = CoreTime(busy_s=100, steal_s=5, own_s=40), CoreTime(busy_s=130, steal_s=7, own_s=60)
    assert cpu_use(before, after, elapsed_s=60, cores=2) == pytest.approx((12 / 120, 2 / 120))
    assert cpu_use(before, CoreTime(110, 5, 52), elapsed_s=60, cores=2) == (0, 0), (
        "ticks may say less than the processes"
    )


def judged(block, attempt, regime, median_s, **change):
    return Judged(block, attempt, regime, median_s, judge(observed(**change)))


def test_no_run_widens_its_own_limit_of_lag():
    """The same lag, beside a median that a neighbour or cold starts have made ten times longer."""
    for median_s in (0.04, 0.4):
        run = observed(schedule_lag_p99_s=0.015, median_latency_s=median_s, reference_latency_s=0.04)
        assert not judge(run).valid


def test_the_reference_is_the_fastest_regimes_median_in_the_first_whole_undisturbed_attempt():
    disturbed = [judged(0, 1, "cold", 0.9), judged(0, 1, "warm", 0.3, foreign_cpu_share=0.5)]
    assert reference_latency_s(disturbed, ["cold", "warm"]) is None
    begun = [*disturbed, judged(0, 2, "warm", 0.05)]
    assert reference_latency_s(begun, ["cold", "warm"]) is None
    whole = [*begun, judged(0, 2, "cold", 0.5)]
    later = [judged(1, 1, "warm", 0.01), judged(1, 1, "cold", 0.5)]
    assert reference_latency_s([*later, *whole], ["cold", "warm"]) == 0.05


def test_judging_the_runs_again_by_the_reference_that_comes_from_them_does_not_change_it():
    before, after = (
        [judged(0, 1, "warm", 0.05, schedule_lag_p99_s=0.02, reference_latency_s=reference_s), judged(1, 1, "warm", 9)]
        for reference_s in (None, 0.05)
    )
    assert before[0].verdict.valid
    assert not after[0].verdict.valid
    assert reference_latency_s(before, ["warm"]) == reference_latency_s(after, ["warm"]) == 0.05
