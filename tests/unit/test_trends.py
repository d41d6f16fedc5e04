import numpy as np
import pytest
from scipy import stats

from analysis.answers import trends
from analysis.rows import digest
from fave.wire.records import ReplicaRow
from tests.support.campaigns import S, campaign, experiment, invocation, start

pytestmark = pytest.mark.unit

FLAT = [0.50, 0.47, 0.52, 0.49, 0.51, 0.48]
RISING = [0.445, 0.470, 0.485, 0.494, 0.518, 0.534]


def found(start_times_s):
    """A campaign of a block for each, in regime a; regime b never starts anything."""
    cells = {}
    for block, start_s in enumerate(start_times_s):
        rows = [invocation(i, i / 2, held_s=0.1, cold=i < 5) for i in range(20)]
        ready = ReplicaRow(at_ns=int((1 + start_s) * S), source="gateway", function="f", event="ready", replica_id="x1")
        cells[block, "l", "a"] = (rows, [start(1, 1), ready])
        cells[block, "l", "b"] = (rows, [])
    whole = campaign(experiment(), cells)
    return trends.anomalies(digest.of_all(whole), "invocation_cold_rate")


def test_starts_that_grow_longer_over_the_campaign_are_told_with_figures():
    (anomaly,) = found(RISING)
    assert (anomaly.what, anomaly.where, anomaly.count) == ("mean start time rises over the campaign", "l, a", 6)
    (detail,) = anomaly.detail
    assert "from 0.445 (first) to 0.534 s (last)" in detail
    assert "rho with time 1.00, p 0.0028" in detail
    (falls,) = found(RISING[::-1])
    assert falls.what == "mean start time falls over the campaign"


def test_what_only_varies_is_no_trend():
    assert found(FLAT) == []


def test_four_runs_in_perfect_order_say_nothing():
    """The t approximation gives p = 0."""
    assert stats.spearmanr(range(4), RISING[:4]).pvalue == pytest.approx(0, abs=1e-12)
    assert found(RISING[:4]) == []


@pytest.mark.parametrize("n", [5, 8, 9, 20])
def test_the_correlation_is_spearmans_and_its_p_holds_its_level(n):
    rng = np.random.default_rng(1)
    ps = []
    for _ in range(400):
        values = rng.normal(size=n).round(1).tolist()
        rho, p = trends.correlation(values)
        assert rho == pytest.approx(stats.spearmanr(range(n), values).statistic)
        ps.append(p)
    assert np.mean(np.array(ps) < 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert min(ps) > 0
