"""What memory is said to suffice: from made-up rows, and what contradicts them."""

import random
from collections import Counter

import pytest

from analysis.answers import memory as taken
from analysis.answers.memory import NEEDED, upper_p99
from analysis.answers.results import results
from analysis.rows import digest
from fave.campaign.results import Prices
from fave.wire.records import ReplicaRow
from tests.support.campaigns import S, answers, campaign, experiment, invocation, load

pytestmark = pytest.mark.unit

# f has 1024 MB.
EMBEDDED = {"embedded": True, "host": {"memory_kb": 4 * 2**20, "cpu_model": "c", "cores": 2}}


def rows(peaks, start_mb=50.0):
    made = [invocation(i, i / 10, held_s=0.05) for i in range(len(peaks))]
    for row, peak in zip(made, peaks, strict=True):
        row.peak_rss_mb, row.start_peak_rss_mb = peak, start_mb
    return made


def whole(a, b=(), events=(), loads=None, **info):
    """One block: rows in regime a and in regime b."""
    made = experiment(loads={"l": load(**({"variables": {"sample": "short"}} | (loads or {})))})
    cells = {(0, "l", "a"): (a, list(events)), (0, "l", "b"): (list(b) or rows([100.0]), [])}
    return campaign(made, cells, **({"capabilities": {"replica_events": True}} | info))


def memory_of(made):
    (found,) = answers(made)["memory"]
    return found


def test_the_smallest_safe_limit_is_the_highest_peak_with_a_margin_in_steps():
    found = memory_of(whole(rows([120.0, 205.0, 180.0]), rows([90.0, 204.0])))
    assert (found["peak_mb"], found["limit_mb"], found["share_of_limit"]) == (205.0, 1024, 205 / 1024)
    assert found["safe_limit_mb"] == 320, "205 x 1.25 is 256.25"
    assert (found["invocations"], found["runs"], found["replicas"], found["kills"]) == (5, 2, 2, 0)
    assert memory_of(whole(rows([204.8])))["safe_limit_mb"] == 256


def test_a_start_that_takes_more_than_any_invocation_decides():
    found = memory_of(whole(rows([100.0], start_mb=400.0)))
    assert (found["peak_mb"], found["start_peak_mb"], found["safe_limit_mb"]) == (100.0, 400.0, 512)


def test_rows_that_do_not_know_what_starting_took_say_so():
    found = memory_of(whole(rows([100.0]), rows([100.0], start_mb=0.0)))
    assert (found["start_peak_mb"], found["safe_limit_mb"]) == (None, 128)
    assert found["reason"] == "what starting a replica takes was not recorded"


def killed(at_s=0.5):
    return ReplicaRow(at_ns=int(at_s * S), source="gateway", function="f", event="oom_killed", replica_id="x0")


def test_a_memory_kill_contradicts_every_limit_up_to_the_one_it_was_killed_at():
    made = whole(rows([100.0, 120.0]), events=[killed()])
    found = memory_of(made)
    assert (found["kills"], found["safe_limit_mb"], found["at_safe_limit"]) == (1, None, None)
    assert found["reason"] == "replicas killed at 1024 MB, whose need is not known: 1"
    assert not [each for each in answers(made)["recommendations"] if "Memory limits" in each["text"]]


def test_an_invocation_that_left_no_peak_may_have_taken_more_unless_no_replica_had_it():
    _, lost, refused = rows([0.0, 0.0, 0.0])
    lost.status, refused.status, refused.replica_id = "lost", "failed", ""
    assert memory_of(whole([*rows([100.0]), refused]))["safe_limit_mb"] == 128
    found = memory_of(whole([*rows([100.0]), lost]))
    assert (found["without_peak"], found["safe_limit_mb"]) == (1, None)
    assert found["reason"] == "invocations that left no peak, and may have taken more: 1"


def test_a_platform_that_tells_of_no_kills_supports_no_safe_limit():
    found = memory_of(whole(rows([100.0]), capabilities={}))
    assert (found["kills"], found["safe_limit_mb"]) == (None, None)
    assert found["reason"] == "the platform does not tell of memory kills"


def test_the_bound_of_the_99th_percentile_needs_299_invocations_of_each_load():
    assert NEEDED == 299
    few, enough = Counter({100.0: 298}), Counter({100.0: 298, 130.0: 1})
    assert upper_p99(few) == (None, "a 95 % upper bound of the 99th percentile needs 299 invocations, these are 298")
    assert upper_p99(enough) == (130.0, "")
    assert upper_p99(few, unknown=1) == (None, "the bound lies among the 1 invocations that left no peak")
    found = memory_of(whole(rows([100.0] * 200), rows([100.0] * 98)))
    assert found["p99_reason"].endswith("needs 299 invocations, these are 298 (l)")
    assert memory_of(whole(rows([100.0] * 200), rows([100.0] * 99)))["p99_upper_mb"] == 100.0


def test_the_bound_of_many_invocations_is_below_the_highest_and_holds_as_often_as_it_says():
    chance = random.Random(5)
    bounds = [upper_p99(Counter(chance.random() for _ in range(900)))[0] for _ in range(1000)]
    assert 0.94 < sum(bound >= 0.99 for bound in bounds) / 1000 < 0.99
    assert max(bounds) < 1


def test_cost_and_replicas_per_node_follow_the_limit():
    prices = Prices(name="p", version="1", source="s", currency="EUR", per_gb_s_executed=2.0, per_gb_s_held=1.0)
    made = whole(rows([200.0] * 20), rows([200.0] * 20), **EMBEDDED)
    found = results(made, digest.of_all(made), prices).memory[0]
    now, then = found.now, found.at_safe_limit
    assert found.safe_limit_mb == 256
    assert now.executed_gb == pytest.approx(20 * 0.05 / 1.95)
    assert then.executed_gb == pytest.approx(now.executed_gb / 4)
    assert then.executed_money == pytest.approx(2 * 3600 * then.executed_gb)
    assert (now.replicas_per_node, then.replicas_per_node) == (4, 16)
    assert (now.provisioned_gb, now.provisioned_money) == (None, None), "no row says what was provisioned"


def test_a_node_is_the_smallest_of_the_cluster_and_not_the_generators_machine():
    nodes = [{"memory": "8Gi"}, {"memory": "4194304Ki"}, {"memory": None}]
    found = memory_of(whole(rows([200.0]), **EMBEDDED | {"embedded": False, "nodes": nodes}))
    assert found["now"]["replicas_per_node"] == 4
    assert memory_of(whole(rows([200.0])))["now"]["replicas_per_node"] is None


def test_a_limit_that_could_fall_by_more_than_a_quarter_is_one_line_with_its_inputs():
    (line,) = taken.advice(results(made := whole(rows([200.0] * 9)), digest.of_all(made)).memory)
    assert line.text == "Memory limits could fall by more than a quarter: f from 1024 to 256 MB."
    assert "measured on this workload's inputs only: sample short" in line.evidence
    assert (
        "at least 10 invocations each, in at least 2 runs; a bound of the 99th percentile for 0 of 1" in line.evidence
    )
    own = whole(rows([200.0]), loads={"variables": {"inputs": ["s3://fave/mine.mp4"]}})
    (line,) = taken.advice(results(own, digest.of_all(own)).memory)
    assert "only: s3://fave/mine.mp4" in line.evidence
    near = whole(rows([600.0]))
    assert memory_of(near)["safe_limit_mb"] == 768, "three quarters: not more than a quarter less"
    assert taken.advice(results(near, digest.of_all(near)).memory) == []


def test_the_table_has_a_row_a_function_and_gives_each_reason_once():
    made = whole(rows([200.0]), **EMBEDDED)
    table = taken.table(results(made, digest.of_all(made)).memory)
    (row,) = table.rows
    assert len(row) == len(table.columns)
    assert (row[0], row[8], row[-1]) == ("f", "256", "4 / 16")
    assert any(note.startswith("f: a 95 % upper bound") for note in table.notes)
