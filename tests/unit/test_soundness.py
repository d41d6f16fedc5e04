"""Rows that disagree with each other are not believed: one lie each, told with the rows of a real run."""

import polars as pl
import pytest
from msgspec import structs

from analysis.rows import soundness
from analysis.rows.folder import load
from fave.settings import ROOT
from fave.wire.records import ReplicaRow
from tests.support.campaigns import as_table

pytestmark = pytest.mark.unit

FUNCTION = "stage-object-detector"
COLD = pl.col("cold")
EVENT = pl.col("event")


@pytest.fixture(scope="module")
def campaign():
    return load(ROOT / "runs" / "example")


@pytest.fixture(scope="module")
def run(campaign):
    return next(run for run in campaign.runs if run.folder == "00_bursty_cold_1")


@pytest.fixture(scope="module")
def rows(campaign, run):
    return campaign.rows(run)


def stages(change):
    return lambda rows: rows._replace(stages=change(rows.stages))


def events(change):
    return lambda rows: rows._replace(replicas=change(rows.replicas))


def first(condition, change):
    """One row for which the condition holds is changed."""
    return lambda table: table.with_columns(
        **{
            name: pl.when(condition & (condition.cum_sum() == 1)).then(value).otherwise(pl.col(name))
            for name, value in change.items()
        }
    )


def doubled(table, condition):
    return pl.concat([table, table.filter(condition)])


def without(condition, count=1):
    """The first of those for which the condition holds are gone."""
    return lambda table: table.filter(~(condition & (condition.cum_sum() <= count)))


WORKED = pl.col("finished_at_ns") > 0
LIES = {
    "cold stage rows deleted": (
        stages(lambda table: table.filter(~COLD)),
        "invocations of 108 request rows is not what their stage rows have",
    ),
    "cold stage rows doubled": (stages(lambda table: doubled(table, COLD)), "107 stage rows stand twice"),
    "a label against its stamps": (
        stages(first(COLD, {"cold": pl.lit(value=False)})),
        "the label of 1 stage rows is not what their stamps say",
    ),
    "a label lost": (
        stages(first(COLD, {"cold": pl.lit(None, pl.Boolean)})),
        "the label of 1 stage rows is not what their stamps say",
    ),
    "a stage row that is warm by label and stamps": (
        stages(first(COLD, {"cold": pl.lit(value=False), "ready_at_ns": pl.col("sent_at_ns")})),
        "cold_invocations of 1 request rows is not what their stage rows have",
    ),
    "a request that says it was warm": (
        lambda rows: rows._replace(requests=first(COLD, {"cold": pl.lit(value=False)})(rows.requests)),
        "cold of 1 request rows is not what their stage rows have",
    ),
    "a service time of its own": (
        stages(first(WORKED, {"service_s": pl.col("service_s") / 2})),
        "service time or cost of 1 stage rows is not what their stamps say",
    ),
    "a cheaper invocation": (
        stages(first(WORKED, {"cost_gb_s": pl.col("cost_gb_s") / 2})),
        "cost_gb_s of 1 request rows is not what their stage rows have",
    ),
    "stop events lost": (
        events(lambda table: table.filter(EVENT != "stop")),
        f"{FUNCTION}: by events more than its 2 replicas for",
    ),
    "one stop event lost": (events(without(EVENT == "stop")), f"{FUNCTION}: by events more than its 2 replicas for"),
    "one start event lost": (
        events(without(EVENT == "start")),
        f"{FUNCTION}: 1 replicas never started, 0 stood before",
    ),
    "a start event twice": (
        events(lambda table: doubled(table, (EVENT == "start") & ((EVENT == "start").cum_sum() == 1))),
        f"{FUNCTION}: 1 replicas started twice",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_told_by_its_name(lie, run, rows):
    change, told = LIES[lie]
    found = soundness.problems(run, change(rows))
    assert any(told in problem for problem in found), found


@pytest.mark.parametrize(
    "lie",
    [
        lambda table: table.filter(pl.col("replica_id") != table.filter(EVENT == "start")["replica_id"][0]),
        lambda table: table.with_columns(desired=pl.col("desired") + 1),
        lambda table: table.with_columns(
            at_ns=pl.when(EVENT == "stop").then(pl.col("at_ns") - 3_000_000_000).otherwise(pl.col("at_ns"))
        ),
    ],
    ids=["all events of a replica lost", "one replica more in each sample", "stopped three seconds earlier"],
)
def test_what_prometheus_saw_is_held_against_the_events(lie, campaign):
    found = [
        problem
        for run in campaign.runs
        if run.load == "steady" and run.regime in ("cold", "long-idle")
        for problem in soundness.problems(run, events(lie)(campaign.rows(run)))
        if "samples of Prometheus count other replicas than the platform's events" in problem
    ]
    assert len(found) >= 6


def test_no_run_of_the_published_campaign_breaks_a_law(campaign):
    """Some 6,100 samples, 6,000 stage rows and 1,246 events of replicas."""
    assert {run.folder: found for run in campaign.runs if (found := soundness.problems(run, campaign.rows(run)))} == {}


def test_a_platform_without_events_breaks_no_law_of_events(run, rows):
    assert soundness.problems(run, rows._replace(replicas=rows.replicas.filter(pl.col("source") != "gateway"))) == []


@pytest.mark.parametrize(("drains_s", "breaks"), [(0.02, False), (0.2, True)])
def test_many_replicas_that_each_drain_for_a_moment_are_not_too_many(drains_s, breaks, run, rows):
    """A control with 134 starts of a single replica was invalid for 2.2 s of draining in all, 16 ms for each."""
    made = [
        ReplicaRow(at_ns=int((k + late_s) * 1e9), source="gateway", function=FUNCTION, event=event, replica_id=f"x{k}")
        for k in range(100)
        for event, late_s in (("start", 0.0), ("stop", 1.0 + drains_s))
    ]
    settings = {FUNCTION: structs.replace(run.settings[FUNCTION], max_replicas=1)}
    single = run._replace(settings=settings, initial_ready={FUNCTION: 0}, started_at_ns=0)
    found = soundness.problems(single, rows._replace(replicas=as_table(made, ReplicaRow)))
    assert any("by events more than its 1 replicas" in problem for problem in found) is breaks
