import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fave.validity import Gates, Observed, judge, quantile

pytestmark = pytest.mark.unit

GOOD = {
    "scheduled": 100,
    "sent": 100,
    "unsent": 0,
    "schedule_lags_s": (0.001,) * 100,
    "median_latency_s": 1.0,
    "cold_missing": 0,
    "served": 100,
    "generator_cpu_share": 0.1,
    "replica_gap_s": 0.5,
    "initial_state_ok": True,
    "configuration_unchanged": True,
    "drained": True,
    "labelled": 100,
    "label_mismatches": 0,
}


def test_a_clean_run_is_valid():
    assert judge(Observed(**GOOD)).valid


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("schedule_lag_p99_s", {"schedule_lags_s": (0.06,) * 100}),
        ("schedule_lag_p99_s", {"schedule_lags_s": (0.02,) * 100, "median_latency_s": 0.2}),
        ("unsent_share", {"unsent": 2}),
        ("generator_cpu_share", {"generator_cpu_share": 0.9}),
        ("cold_missing_share", {"cold_missing": 2}),
        ("replica_gap_s", {"replica_gap_s": 2.0}),
        ("cold_label_disagreement", {"label_mismatches": 6}),
        ("initial_state", {"initial_state_ok": False}),
        ("configuration", {"configuration_unchanged": False}),
        ("drained", {"drained": False}),
        ("requests", {"sent": 0, "schedule_lags_s": ()}),
    ],
)
def test_each_gate_alone_invalidates_a_run_and_is_named(gate, change):
    verdict = judge(Observed(**{**GOOD, **change}))
    assert not verdict.valid
    assert [finding.gate for finding in verdict.findings if not finding.ok] == [gate]
    assert verdict.reasons()[0].startswith(gate)


def test_lag_below_the_floor_is_accepted_however_fast_the_function_is():
    assert judge(Observed(**{**GOOD, "schedule_lags_s": (0.009,) * 100, "median_latency_s": 0.01})).valid


def test_gates_are_settings():
    observed = Observed(**{**GOOD, "generator_cpu_share": 0.9})
    assert judge(observed, Gates(generator_cpu_share=0.95)).valid


def test_what_a_platform_cannot_show_is_named_and_not_failed():
    verdict = judge(Observed(**{**GOOD, "label_mismatches": None, "replica_gap_s": None}))
    assert verdict.valid
    assert any("no events" in finding.note for finding in verdict.findings)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_the_quantile_is_numpys(values, q):
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), rel=1e-9, abs=1e-9)
