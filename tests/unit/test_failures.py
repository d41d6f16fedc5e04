"""Failures are never good news: what has no label might have been warm or cold, and is no reason to prefer a regime."""

import msgspec
import polars as pl
import pytest

from analysis.report import across, summary
from analysis.rows.folder import load
from fave.settings import ROOT
from tests.support.campaigns import (
    answers,
    campaign,
    experiment,
    invocation,
    of_load,
    summed,
    typed,
    with_cold,
    with_experiment,
)
from tests.support.campaigns import load as a_load
from tests.support.orchestration import GRAPH

pytestmark = pytest.mark.unit

REPLICAS_STAMPS = (
    "received_at_ns",
    "started_at_ns",
    "worked_at_ns",
    "finished_at_ns",
    "ready_at_ns",
    "routable_at_ns",
)
REFUSED = "429: too many requests"


@pytest.fixture(scope="module")
def example():
    """The published campaign's steady runs, rows and all."""
    return of_load(load(ROOT / "runs" / "example"), "steady", control_variate=False)


def changed(whole, **change):
    return with_experiment(whole, **change)


def with_refusals(whole, regime, share=1.0):
    """Of the cold requests of a regime this share became 429s, in every run the first ones."""
    read = whole.rows

    def rows(run):
        made = read(run)
        if run.regime != regime:
            return made
        cold = made.requests.filter(pl.col("cold"))["request_id"].to_list()
        refused = pl.col("request_id").is_in(cold[: round(share * len(cold))])
        requests = made.requests.with_columns(
            pl.when(refused).then(None).otherwise(pl.col("cold")).alias("cold"),
            pl.when(refused).then(pl.lit("failed")).otherwise(pl.col("status")).alias("status"),
            pl.when(refused).then(pl.lit(REFUSED)).otherwise(pl.col("error")).alias("error"),
            *(
                pl.when(refused).then(0).otherwise(pl.col(name)).alias(name)
                for name in ("cold_invocations", "cost_gb_s")
            ),
        )
        stages = made.stages.with_columns(
            pl.when(refused).then(None).otherwise(pl.col("cold")).alias("cold"),
            pl.when(refused).then(pl.lit("failed")).otherwise(pl.col("status")).alias("status"),
            # No replica had it.
            *(pl.when(refused).then(0).otherwise(pl.col(name)).alias(name) for name in (*REPLICAS_STAMPS, "cost_gb_s")),
        )
        return made._replace(requests=requests, stages=stages)

    return whole._replace(rows=rows)


def cell_of(found, regime):
    return next(cell for cell in found["cells"] if cell["regime"] == regime)


def advised(found):
    return [each["text"] for each in found["recommendations"]]


def test_a_regime_whose_cold_requests_were_all_refused_is_not_free_of_cold_starts(example):
    """It was called valid, 0.0 % cold [0, 3.9], degenerate, and preferred where cold starts matter."""
    before = answers(example)
    conditions = ["cold_rate.high < 5%", "cold_rate.estimate < 5%", "failure_rate.high < 10%"]
    found = answers(with_refusals(changed(example, thresholds=conditions), "cold"))
    cell, was = cell_of(found, "cold"), cell_of(before, "cold")
    assert cell["failures"] == was["cold_rate"]["cold"] == 120
    rate, undecided = cell["cold_rate"], was["cold_rate"]["unknown"]
    assert (rate["estimate"], rate["unknown"], rate["if_warm"]) == (0.0, 120 + undecided, 0.0)
    assert rate["if_cold"] == pytest.approx(was["cold_rate"]["if_cold"])
    assert rate["low"] == 0.0
    assert rate["high"] >= was["cold_rate"]["high"]
    assert cell["failure_rate"]["estimate"] == pytest.approx(120 / cell["requests"])
    assert cell["failure_rate"]["low"] < cell["failure_rate"]["estimate"] < cell["failure_rate"]["high"]
    for row in found["contrasts"]:
        if "cold" in (row["a"], row["b"]):
            assert row["verdict"] == "inconclusive"
            assert row["bounds"][0] <= 0.0 < 0.16 < row["bounds"][1]
            assert row["failures"]["p"] < 0.001
            (low, high), (lowest, highest) = row["ci95"], row["simultaneous95"]
            assert lowest <= low <= row["bounds"][0] < row["bounds"][1] <= high <= highest
    states = {regime: [t["state"] for t in found["thresholds"] if t["regime"] == regime] for regime in ("cold", "warm")}
    assert states == {"cold": ["inconclusive", "inconclusive", "missed"], "warm": ["met"] * 3}
    assert any("cold by warm-short" in text for text in advised(before))
    assert not any(" cold (0.0 % cold" in text for text in advised(found))
    (reason,) = [text for text in advised(found) if "not recommended" in text]
    assert "Under steady traffic cold is not recommended" in reason
    assert "20.0 % [15.5 %, 25.4 %] of its requests failed" in reason
    shown = next(row for row in summary.cell_rows(typed(found)) if row[1] == "cold")
    assert shown[4].startswith("20.0 % [")


def test_a_difference_that_a_few_refusals_cannot_undo_stands_and_its_interval_tells_of_them(example):
    before, found = answers(example)["contrasts"], answers(with_refusals(example, "cold", 0.1))["contrasts"]
    for was, now in zip(before, found, strict=True):
        if "cold" not in (now["a"], now["b"]):
            assert now == was
            continue
        assert was["verdict"] == now["verdict"] == "different"
        assert now["unlabelled"] > 0
        assert now["ci95"][0] < was["ci95"][0] < was["ci95"][1] <= now["ci95"][1] + 1e-9
        assert now["p"] > was["p"]


def test_the_campaign_with_refusals_does_not_differ_from_itself_without_them_by_having_fewer_cold_starts(example):
    rows = across.compared(example, with_refusals(example, "cold")).rows
    (row,) = [row for row in rows if row.regime == "cold"]
    assert row.verdict == "inconclusive"
    assert row.failure_rate[1].estimate == pytest.approx(120 / 600)


def blocks(a, b):
    return {(block, "l", name): (make(block), []) for block in range(8) for name, make in (("a", a), ("b", b))}


def labelled(cold, n=20):
    return [invocation(i, i / 2, cold=i < cold) for i in range(n)]


def lost(rows, count):
    """The last ones have no label."""
    for row in rows[len(rows) - count :]:
        row.cold, row.status, row.error = None, "lost", "lost"
    return rows


def test_equivalence_must_survive_both_ends():
    """One lost in twenty moves a rate by five points."""
    sound = blocks(lambda block: labelled(8 + block % 2), lambda block: labelled(8 + (block + 1) % 2))
    spoilt = blocks(lambda block: labelled(8 + block % 2), lambda block: lost(labelled(8 + (block + 1) % 2), 2))
    made = experiment(equivalence_margin=0.1, loads={"l": a_load(blocks=8)})
    assert answers(campaign(made, sound))["contrasts"][0]["verdict"] == "equivalent"
    row = answers(campaign(made, spoilt))["contrasts"][0]
    assert (row["verdict"], row["unlabelled"]) == ("inconclusive", 16)
    assert "16 without a label; the difference lies between" in row["reason"]


def test_a_regime_that_is_warm_and_loses_requests_is_not_preferred():
    """Its rate is lower at both ends, which is a verdict; but one in twenty requests is lost, which is no advice."""
    made = experiment(loads={"l": a_load(blocks=8)})
    cells = blocks(lambda block: labelled(15 + block % 3), lambda block: lost(labelled(block % 2), 1))
    found = answers(campaign(made, cells))
    assert found["contrasts"][0]["verdict"] == "different"
    assert advised(found) == [
        "Under l traffic b is not recommended for anything: 5.0 % of its requests failed, 0.0 % [0.0 %, 17.1 %] in a."
    ]


def test_a_lost_request_of_a_pipeline_counts_with_what_its_blocks_answered_ones_had():
    """Of ten requests nine had three invocations each; the tenth was lost, and another lost one had one of them."""
    kept = [invocation(i, i, cold=i < 2) for i in range(9)]
    stages = [msgspec.structs.replace(row, clip=f"clip-{n}") for row in kept for n in range(3)] + [invocation(9, 9)]
    whole = campaign(experiment(regimes=["a"], contrasts=[]), {(block, "l", "a"): (stages, []) for block in (0, 1)})
    read = whole.rows

    def rows(run):
        found = read(run)
        requests = pl.concat([found.requests[::3].head(9), found.requests.tail(1), found.requests.tail(1)])
        lost = pl.col("k") >= 9
        requests = requests.with_columns(
            k=pl.int_range(pl.len()),
            request_id=pl.concat_str(pl.lit("r"), pl.int_range(pl.len())),
            invocations=pl.lit(3, pl.Int64),
        ).with_columns(
            status=pl.when(lost).then(pl.lit("lost")).otherwise(pl.col("status")),
            cold=pl.when(lost).then(None).otherwise(pl.col("cold")),
        )
        return summed(found._replace(requests=requests))

    pipeline = [run._replace(graph=GRAPH) for run in whole.runs]
    (cell,) = answers(whole._replace(runs=pipeline, rows=rows))["cells"]
    assert cell["failures"] == 4
    assert cell["cold_rate"]["unknown"] == 2 * (2 + 3)
    assert cell["cold_rate"]["if_cold"] == pytest.approx((6 + 5) / (28 + 5))


def test_a_dropped_request_without_an_invocation_counts_and_spoils_a_control_that_must_be_exact():
    made = experiment(controls=[{"kind": "never-cold", "load": "l", "regimes": ["a"]}], contrasts=[])
    whole = campaign(made, with_cold({(block, regime): 0 for block in range(2) for regime in "ab"}))
    read = whole.rows

    def rows(run):
        found = read(run)
        gone = pl.col("request_id") == "r19"
        requests = found.requests.with_columns(
            pl.when(gone).then(pl.lit("dropped")).otherwise(pl.col("status")).alias("status"),
            pl.when(gone).then(None).otherwise(pl.col("cold")).alias("cold"),
        )
        return summed(found._replace(requests=requests, stages=found.stages.filter(~gone)))

    found = answers(whole._replace(rows=rows))
    assert found["cells"][0]["cold_rate"]["unknown"] == 2
    (control,) = found["controls"]
    assert (control["state"], control["measured"]) == ("failed", "0 of 40 cold, 2 unknown")


def test_an_attempt_that_was_refused_before_another_was_answered_is_no_unknown():
    second = invocation(0, 1.5, cold=True)
    cells = {(block, "l", name): ([second, *labelled(0)[1:]], []) for block in (0, 1) for name in "ab"}
    whole = campaign(experiment(), cells)
    read = whole.rows

    def rows(run):
        found = read(run)
        refused = found.stages.head(1).with_columns(
            pl.lit(None, pl.Boolean).alias("cold"), status=pl.lit("failed"), sent_at_ns=pl.col("sent_at_ns") - 10**9
        )
        return summed(found._replace(stages=pl.concat([refused, found.stages])))

    rate = answers(whole._replace(rows=rows))["cells"][0]["cold_rate"]
    assert (rate["unknown"], rate["cold"], rate["of"]) == (0, 2, 40)
