"""Controls, capacity and campaigns side by side, on campaigns that are made up row by row."""

import pytest

from analysis.answers import capacity
from analysis.report import across
from fave.errors import ConfigError
from tests.support.campaigns import HOST, answers, campaign, experiment, invocation, load, with_cold, with_experiment

pytestmark = pytest.mark.unit


def checked(made, cells):
    whole = campaign(made, cells)
    return answers(whole)["controls"]


SAME = {"kind": "same", "load": "l", "regimes": ["a", "b"]}


@pytest.mark.parametrize(
    ("a", "b", "state"),
    [
        ([8, 9, 8, 9, 8, 9], [8, 9, 8, 9, 8, 10], "passed"),
        ([8, 8, 9, 8, 9, 8], [8, 12, 5, 13, 5, 9], "undecided"),
        ([8, 8, 9, 8, 9, 8], [1, 2, 1, 2, 1, 1], "failed"),
    ],
)
def test_one_regime_under_two_names_must_not_differ_and_be_known_well_enough(a, b, state):
    cells = with_cold({(i, regime): count for regime, counts in (("a", a), ("b", b)) for i, count in enumerate(counts)})
    (found,) = checked(experiment(controls=[SAME]), cells)
    assert found["state"] == state, found


@pytest.mark.parametrize(("cold", "state"), [([20, 20], "passed"), ([20, 19], "failed")])
def test_what_must_always_be_cold_is_so_to_the_last_invocation(cold, state):
    made = experiment(controls=[{"kind": "always-cold", "load": "l", "regimes": ["a"]}], contrasts=[])
    cells = with_cold({(i, regime): count for regime in "ab" for i, count in enumerate(cold)})
    (found,) = checked(made, cells)
    assert (found["state"], found["measured"]) == (state, f"{sum(cold)} of 40 cold")


def test_what_must_never_be_cold_fails_at_the_first_that_is():
    made = experiment(controls=[{"kind": "never-cold", "load": "l", "regimes": ["a"]}], contrasts=[])
    cells = with_cold({(i, regime): int(i == 1) for regime in "ab" for i in range(2)})
    assert checked(made, cells)[0]["state"] == "failed"


def rung(n=60, *, grows=False, failed_at=None):
    rows = [
        invocation(
            i,
            i / 10,
            queue_s=i / 20 if grows else 0.01 * (i % 3),
            status="failed" if i == failed_at else "ok",
            error="429: full" if i == failed_at else "",
        )
        for i in range(n)
    ]
    return rows, []


def test_the_highest_rate_below_the_first_that_breaks_is_sustained_and_what_broke_is_named():
    loads = {
        name: load(descriptive=True, traffic={"model": "poisson", "requests": n, "duration": "10s"})
        for name, n in (("low", 10), ("middle", 100), ("high", 200), ("top", 400))
    }
    made = experiment(regimes=["a"], loads=loads, contrasts=[], capacity=["low", "middle", "high", "top"])
    cells = {
        (0, "low", "a"): rung(),
        (0, "middle", "a"): rung(),
        (0, "high", "a"): rung(failed_at=7),
        (0, "top", "a"): rung(),
    }
    whole = campaign(made, cells)
    (found,) = capacity.ladder(whole, whole.runs)
    assert (found.sustained_rate_per_s, found.broke_rate_per_s) == (10.0, 20.0)
    assert found.broke_by == ["1 failed requests, the first after 0.7 s (429: full)"]
    assert capacity.sentences([found]) == [
        "a: sustains 10/s; at 20/s 1 failed requests, the first after 0.7 s (429: full)."
    ]


def test_a_queue_that_grows_is_not_sustained_and_one_that_varies_is():
    made = experiment(regimes=["a"], loads={"l": load(descriptive=True)}, contrasts=[], capacity=["l"])
    grows, steady = campaign(made, {(0, "l", "a"): rung(grows=True)}), campaign(made, {(0, "l", "a"): rung()})
    assert capacity.ladder(steady, steady.runs)[0].sustained_rate_per_s == 10.0
    broken = capacity.ladder(grows, grows.runs)[0]
    assert broken.sustained_rate_per_s is None
    assert "the queue grows" in broken.broke_by[0]


def test_the_first_30_seconds_stand_apart_where_runs_are_long_enough():
    long = {"model": "poisson", "requests": 100, "duration": "60s"}
    rows = [invocation(i, i, cold=i < 15) for i in range(60)]
    cells = {(block, "l", regime): (rows, []) for block in range(2) for regime in "ab"}
    found = answers(campaign(experiment(loads={"l": load(traffic=long)}), cells))
    by_time = found["cells"][0]["cold_rate_by_time"]
    assert (by_time["first_30_s"]["cold"], by_time["first_30_s"]["of"]) == (30, 60)
    assert by_time["after_30_s"]["estimate"] == 0.0
    short = answers(campaign(experiment(), cells))
    assert short["cells"][0]["cold_rate_by_time"] is None


def pair(**change):
    cells = with_cold({(block, regime): 8 + block for block in range(3) for regime in "ab"})
    return campaign(experiment(), cells), campaign(experiment(**change.pop("experiment", {})), cells, **change)


def test_campaigns_that_are_alike_are_compared_by_run_rates():
    rows = across.compared(*pair()).rows
    assert [(row.load, row.regime, row.runs, row.result.mean) for row in rows] == [
        ("l", "a", (3, 3), 0.0),
        ("l", "b", (3, 3), 0.0),
    ]
    assert all(row.exploratory for row in rows)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"host": HOST | {"cpu_model": "d"}}, "Incomparable: host.cpu_model: c in A, d in B"),
        ({"co_located": False}, "Incomparable: co_located"),
        ({"platform": {"provider": {"provider": "other"}}}, "Incomparable: platform.provider"),
        ({"host": HOST | {"memory_kb": 2}}, "Incomparable: host.memory_kb"),
        (
            {"experiment": {"loads": {"l": load(traffic={"model": "poisson", "requests": 50, "duration": "10s"})}}},
            "Incomparable: loads.l.traffic.requests: 100 in A, 50 in B",
        ),
        ({"experiment": {"primary_outcome": "request_cold_rate"}}, "Incomparable: primary_outcome"),
    ],
)
def test_unlike_campaigns_are_refused_with_every_reason_or_compared_with_it_stated(change, says):
    a, b = pair(**change)
    with pytest.raises(ConfigError, match=says):
        across.compared(a, b)
    found = across.compared(a, b, anyway=True)
    assert f"UNLIKE  {says.removeprefix('Incomparable: ')}" in across.in_terminal(found)


def test_what_does_not_change_the_question_is_only_stated():
    a, b = pair(versions={"locust": "2"})
    assert "differs versions.locust: 1 in A, 2 in B" in across.in_terminal(across.compared(a, b))


def test_what_an_earlier_version_did_not_record_refuses_nothing_and_is_told():
    a, b = pair(assets={"detector": "x"})
    assert "differs assets: nothing in A" in across.in_terminal(across.compared(a, b))


def test_what_could_not_be_compared_is_named_with_the_reason():
    a, b = pair()
    fewer = b._replace(runs=[run for run in b.runs if run.regime == "a" or run.block == 0])
    found = across.compared(a, with_experiment(fewer, loads={"l": load(regimes=["a"])}, contrasts=[]))
    assert [row.regime for row in found.rows] == ["a"]
    assert found.left_out == ["l, b: 3 usable runs in A, 1 in B; both need 2"]
