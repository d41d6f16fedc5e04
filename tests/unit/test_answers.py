"""From rows to answers, on run folders that are made up; also broken ones: named findings, never a traceback."""

import gzip
import json
import shutil

import msgspec
import pytest
from msgspec import structs

from analysis import outcome
from analysis.answers.results import results
from analysis.report import index, summary
from analysis.rows import digest
from analysis.rows.folder import load
from fave.campaign.results import Prices, Results
from fave.campaign.rundir import read_json
from fave.campaign.validity import Verdict
from fave.errors import EXIT_INVALID_RUN, EXIT_OK, InvalidRunError
from fave.settings import ROOT
from tests.support.campaigns import (
    SETTINGS,
    S,
    answers,
    campaign,
    experiment,
    invocation,
    start,
    typed,
    with_cold,
    written,
)
from tests.support.campaigns import load as a_load

pytestmark = pytest.mark.unit

CELLS = with_cold(
    {(block, regime): (8 + block if regime == "a" else block % 2) for block in range(3) for regime in "ab"}
)


def shown(folder):
    return answers(load(folder))


@pytest.fixture
def folder(tmp_path):
    return written(tmp_path / "run", experiment(), CELLS)


def cell(folder, name="00_l_a_1"):
    return folder / "cells" / name


def test_a_folder_gives_what_the_same_rows_in_memory_give(folder):
    found, expected = shown(folder), answers(campaign(experiment(), CELLS))
    assert found == expected
    assert found["validity"]["findings"] == []
    assert outcome.exit_code(typed(found)) == EXIT_OK
    assert found["contrasts"][0]["difference"] == pytest.approx((9 - 1 / 3) / 20)


def test_compressed_rows_are_read_as_plain_ones(folder):
    import gzip

    before = shown(folder)
    for path in folder.glob("cells/*/*.jsonl"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert shown(folder) == before


def half_a_line(folder):
    path = cell(folder) / "stages.jsonl"
    path.write_bytes(path.read_bytes()[:-30])


def no_rows(folder):
    (cell(folder) / "requests.jsonl").write_bytes(b"")


def no_file(folder):
    (cell(folder) / "replicas.jsonl").unlink()


def edit(folder, name, change):
    path = cell(folder) / name
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))


def infinite(folder):
    edit(folder, "stages.jsonl", lambda rows: [row | {"service_s": float("inf")} for row in rows])


def other_schema(folder):
    edit(folder, "stages.jsonl", lambda rows: [row | {"schema": 7} for row in rows])


def backwards(folder):
    edit(
        folder,
        "stages.jsonl",
        lambda rows: [row | {"returned_at_ns": row["sent_at_ns"] - 5} if row["sent_at_ns"] else row for row in rows],
    )


def lost_rows(folder):
    edit(folder, "requests.jsonl", lambda rows: rows[:-3])


def twice(folder):
    edit(folder, "requests.jsonl", lambda rows: [*rows[:-1], rows[0]])


def of_another_run(folder):
    shutil.copyfile(cell(folder, "01_l_a_1") / "stages.jsonl", cell(folder) / "stages.jsonl")
    edit(folder, "stages.jsonl", lambda rows: [row | {"request_id": f"x{i}"} for i, row in enumerate(rows)])


def of_another_campaign(folder):
    facts = read_json(cell(folder) / "cell.json")
    (cell(folder) / "cell.json").write_text(json.dumps(facts | {"load": "m"}))


def other_settings(folder):
    facts = read_json(cell(folder) / "cell.json")
    info = read_json(folder / "campaign.json") | {"regimes": {"l": {"a": {"f": SETTINGS["f"] | {"min_replicas": 1}}}}}
    (folder / "campaign.json").write_text(json.dumps(info))
    (cell(folder) / "cell.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (half_a_line, "stages.jsonl: its last line is half written"),
        (no_rows, "requests.jsonl has no row"),
        (no_file, "replicas.jsonl cannot be read"),
        (infinite, "stages.jsonl: 20 lines are no rows, or not finite (line 1, 2, 3, 4, 5, …)"),
        (other_schema, "stages.jsonl: schema 7 is not known here (this is schema 1)"),
        (backwards, "stages.jsonl: the clock runs backwards in 19 rows (sent_at_ns, returned_at_ns)"),
        (lost_rows, "17 request rows, 20 arrivals were scheduled"),
        (twice, "1 request rows stand twice"),
        (of_another_run, "20 stage rows belong to no request of this run"),
        (of_another_campaign, "mixed campaigns: m, a is not of this experiment"),
        (other_settings, "mixed campaigns: its settings are not those of a in campaign.json"),
    ],
)
def test_rows_that_cannot_be_believed_exclude_their_run_and_its_block_and_say_why(folder, spoil, says):
    spoil(folder)
    found = shown(folder)
    assert any(says in finding for finding in found["validity"]["findings"]), found["validity"]["findings"]
    assert any(says in reason for each in found["validity"]["excluded"] for reason in each["reasons"])
    assert outcome.exit_code(typed(found)) == EXIT_INVALID_RUN
    assert found["cells"][1]["runs"] in (0, 2), "the whole block goes, and no other"


def test_a_cell_whose_facts_are_half_written_is_named(folder):
    path = cell(folder) / "cell.json"
    path.write_bytes(path.read_bytes()[:40])
    found = shown(folder)
    assert "00_l_a_1: cell.json cannot be read" in found["validity"]["findings"][0]
    assert outcome.exit_code(typed(found)) == EXIT_INVALID_RUN


@pytest.mark.parametrize("content", ["", "{", "{}", '{"schema": 2, "experiment": {"loads": {}}}', "[]"])
def test_a_campaign_whose_facts_cannot_be_read_is_refused_with_the_file_named(folder, content):
    (folder / "campaign.json").write_text(content)
    with pytest.raises(InvalidRunError, match=r"campaign\.json cannot be read|schema 2 is not known here"):
        load(folder)


def test_when_every_request_fails_no_verdict_is_given_and_the_exit_code_says_so():
    rows = [invocation(i, i + 1, status="failed", error="500: no") for i in range(20)]
    for row in rows:
        row.cold = None
    cells = {(block, "l", regime): (rows, []) for block in range(2) for regime in "ab"}
    found = answers(campaign(experiment(), cells))
    assert "l, a: none of 40 requests was answered" in found["validity"]["findings"]
    assert found["contrasts"][0]["verdict"] == "inconclusive"
    assert "no known rate" in found["contrasts"][0]["reason"]
    assert found["anomalies"][0]["what"] == "requests failed (100.0% of 40)"
    assert outcome.exit_code(typed(found)) == EXIT_INVALID_RUN


def test_a_single_block_is_a_finding_and_no_comparison():
    found = answers(campaign(experiment(), with_cold({(0, "a"): 8, (0, "b"): 1})))
    assert found["validity"]["findings"] == ["l: a single block; nothing can be compared"]
    assert found["contrasts"][0]["difference"] is None


def test_holm_counts_planned_contrasts_that_could_not_be_tested():
    """Otherwise two regimes that happen to agree would make the correction of the others milder."""
    made = experiment(regimes=["a", "b", "c"], contrasts=[["a", "b"], ["a", "c"], ["b", "c"]])
    cold = {"a": lambda block: 8 + 2 * block, "b": lambda _: 0, "c": lambda _: 0}
    cells = with_cold({(block, regime): cold[regime](block) for block in range(3) for regime in "abc"})
    rows = answers(campaign(made, cells))["contrasts"]
    assert rows[0]["p_holm"] == pytest.approx(3 * rows[0]["p"])
    assert (rows[2]["verdict"], rows[2]["p_holm"]) == ("degenerate", None)


def test_a_verdict_that_rests_on_an_excluded_run_is_told_with_it():
    """Block 3 shows the opposite; a gate took its run of a. Put back it counts, and a sentence says what then holds."""
    cells = with_cold({(block, r): (8 + block if r == "a" else 0) for block in range(3) for r in "ab"})
    cells |= with_cold({(3, "a"): 0, (3, "b"): 16})
    whole = campaign(experiment(), cells)
    invalid = [
        run._replace(verdict=Verdict(valid=False, findings=())) if (run.block, run.regime) == (3, "a") else run
        for run in whole.runs
    ]
    found = answers(whole._replace(runs=invalid))
    (row,) = found["contrasts"]
    assert (row["verdict"], row["blocks"]) == ("different", 3)
    other = row["with_excluded"]
    assert (other["verdict"], other["blocks"], other["runs"]) == ("inconclusive", 4, 2)
    expected = answers(whole)["contrasts"][0]
    assert (other["difference"], other["ci95"]) == (expected["difference"], expected["ci95"])
    assert "with 2 excluded runs put back: inconclusive" in summary.sentences(typed(found))[1]
    assert expected["with_excluded"] is None


def test_tries_of_a_block_that_are_put_back_count_as_one_block():
    cells = with_cold({(block, r): (8 + block if r == "a" else block % 2) for block in range(3) for r in "ab"})
    whole = campaign(experiment(), cells)
    first = [run for run in whole.runs if run.block == 0]
    rows = {run.folder: whole.rows(run) for run in whole.runs}
    again = [run._replace(attempt=2, folder=run.folder.replace("_1", "_2")) for run in first]
    rows |= {new.folder: rows[old.folder] for new, old in zip(again, first, strict=True)}
    (row,) = answers(whole._replace(runs=[*whole.runs, *again], rows=lambda run: rows[run.folder]))["contrasts"]
    assert (row["with_excluded"]["runs"], row["with_excluded"]["blocks"]) == (2, 3)
    pooled_a, pooled_b = (2 * 8 + 9 + 10) / 80, 1 / 80
    assert row["with_excluded"]["difference"] == pytest.approx(pooled_a - pooled_b)


def test_levels_tell_affected_from_triggered_and_first_use():
    rows = [invocation(i, i + 1, cold=i < 4, wait_s=0.5 if i < 4 else 0.0) for i in range(20)]
    for i, row in enumerate(rows):
        row.invocations_before = i % 10
    cells = {(block, "l", regime): (rows, [start(0, 1), start(1, 2)]) for block in range(2) for regime in "ab"}
    levels = answers(campaign(experiment(), cells))["cells"][0]["levels"]
    shares = {name: (levels[name]["cold"], levels[name]["of"]) for name in ("invocation", "first_use", "triggered")}
    assert shares == {"invocation": (8, 40), "first_use": (4, 40), "triggered": (4, 40)}


def kept(block, regime):
    """b keeps a replica; a has two for a second each."""
    rows = [invocation(i, i + 1, cold=regime == "a", wait_s=0.5, held_s=0.1) for i in range(10)]
    events = [start(i, 1 + 5 * i) for i in range(2)]
    for i in range(2):
        end = start(i, 2 + 5 * i + block / 100)
        end.event = "stop"
        events.append(end)
    return rows, events if regime == "a" else []


def test_what_is_held_is_told_per_second_of_the_planned_window_and_compared_as_a_ratio():
    """Of two replicas of 1 GB, a second each, and of one that stays; from the first arrival at 1 s to the end at 10."""
    cells = {(block, "l", regime): kept(block, regime) for block in range(3) for regime in "ab"}
    whole = campaign(experiment(), cells)
    runs = [
        run._replace(settings={"f": structs.replace(run.settings["f"], min_replicas=1)}, initial_ready={"f": 1})
        if run.regime == "b"
        else run
        for run in whole.runs
    ]
    found = answers(whole._replace(runs=runs))
    a, b = (each["cost_gb_s"] for each in found["cells"])
    assert (a["provisioned"], b["provisioned"]) == (pytest.approx(2.02 / 9, rel=0.01), pytest.approx(1.0))
    assert b["per_hour_gb_s"] == pytest.approx(3600)
    assert b["per_request_gb_s"] == pytest.approx(9 / 10)
    held = next(each["ratio"] for each in found["ratios"] if each["figure"] == "held")
    assert held["estimate"] == pytest.approx(2.02 / 9, rel=0.01)
    assert found["break_even"][0]["held_ratio"] == held


def test_a_constant_provision_is_no_interval_however_late_the_last_answer_comes():
    """A platform that always held 9.25 GB was said to hold 668 [276, 1060] GB-s, for the window ended with the last."""
    late = {
        (block, "l", regime): ([invocation(i, i / 2, held_s=0.1 + block) for i in range(19)], [])
        for block in range(3)
        for regime in "ab"
    }
    whole = campaign(experiment(), late)
    runs = [run._replace(initial_ready={"f": 9}, planned_end_ns=10 * S) for run in whole.runs]
    cost = answers(whole._replace(runs=runs))["cells"][0]["cost_gb_s"]
    assert cost["provisioned"] is None, "without an event nobody knows"
    seen = {key: (rows, [start(99, 11)]) for key, (rows, _) in late.items()}
    whole = campaign(experiment(), seen)
    runs = [run._replace(initial_ready={"f": 9}, planned_end_ns=10 * S) for run in whole.runs]
    cost = answers(whole._replace(runs=runs))["cells"][0]["cost_gb_s"]
    assert (cost["provisioned"], cost["provisioned_low"]) == (pytest.approx(9.0), None)


def test_prices_turn_gb_seconds_into_money():
    prices = Prices(
        name="p",
        version="1",
        source="s",
        currency="USD",
        per_gb_s_executed=0.1,
        per_gb_s_held=0.01,
        per_million_requests=10,
    )
    cells = {(block, "l", regime): kept(block, regime) for block in range(2) for regime in "ab"}
    whole = campaign(experiment(), cells)
    found = results(whole, digest.of_all(whole), prices).cells[0].cost_gb_s
    assert found.money.held_per_1000_requests == pytest.approx(found.per_request_gb_s * 1000 * 0.01 + 0.01)
    assert found.money.held_per_hour == pytest.approx(found.per_hour_gb_s * 0.01)
    with pytest.raises(ValueError, match=r"per_gb_s_held: -1\.0 is not a price"):
        Prices(name="p", version="1", source="s", currency="USD", per_gb_s_executed=0, per_gb_s_held=-1.0)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_kill_is_an_anomaly_with_what_the_replica_wrote_last(folder, suffix):
    path = cell(folder) / "replicas.jsonl"
    kill = {
        "at_ns": 3 * S,
        "source": "gateway",
        "function": "f",
        "event": "oom_killed",
        "replica_id": "x9",
        "reason": "over",
    }
    path.write_text(json.dumps(kill) + "\n")
    logs = cell(folder) / "logs"
    logs.mkdir()
    lines = [{"instance": "x9", "text": f"line {i}"} for i in range(9)]
    written = ("".join(json.dumps(line) + "\n" for line in lines) + "{half").encode()
    # Before November 2026 it was not packed.
    (logs / f"functions.jsonl{suffix}").write_bytes(gzip.compress(written) if suffix else written)
    (found,) = [each for each in shown(folder)["anomalies"] if "memory" in each["what"]]
    assert found["what"] == "f killed over its memory limit"
    assert found["detail"] == ["00_l_a_1, after 3.0 s: over\n    line 6\n    line 7\n    line 8"]


def test_results_have_the_shape_that_their_schema_says(folder):
    found = shown(folder)
    assert msgspec.json.decode(msgspec.json.encode(msgspec.convert(found, Results))) == found
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(found, read_json(ROOT / "docs" / "results.schema.json"))


def test_the_published_schema_is_that_of_the_code():
    assert read_json(ROOT / "docs" / "results.schema.json") == msgspec.json.schema(Results)


def test_the_page_over_all_campaigns_has_every_one_also_the_broken(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "analysed")
    (tmp_path / "analysed" / "results.json").write_bytes(msgspec.json.encode(shown(folder)))
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken" / "campaign.json").write_text("{")
    assert index.write(tmp_path) == 3
    page = (tmp_path / "index.html").read_text()
    assert 'href="analysed/report.html"' in page
    assert "valid, 6 of 6 runs used" in page
    assert "no report yet" in page
    assert "campaign.json cannot be read" in page


def test_the_scorecard_says_what_is_missing_and_earns_what_there_is():
    cells = with_cold({(block, regime): 8 + block % 3 for block in range(8) for regime in "ab"})
    whole = campaign(experiment(), cells)
    states = {each["number"]: (each["state"], each["evidence"]) for each in answers(whole)["scorecard"]}
    assert states[1] == ("partly", "8 blocks of whole runs in random order, over 0.0 hours: a single time of day")
    assert states[6][0] == "earned"
    assert states[8][0] == "missing", "nobody knows what replicas held"
    later = [run._replace(started_at_ns=run.block * 3600 * S) for run in whole.runs]
    assert answers(whole._replace(runs=later))["scorecard"][0]["state"] == "earned"


def test_a_descriptive_load_has_latency_ratios_but_no_verdict():
    made = experiment(loads={"l": a_load(descriptive=True), "compared": a_load()})
    found = answers(campaign(made, CELLS))
    assert [row["load"] for row in found["contrasts"]] == ["compared"]
    assert {each["figure"] for each in found["ratios"]} == {"p50", "mean"}
