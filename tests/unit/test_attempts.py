import msgspec
import pytest

from fave.errors import GatewayError
from fave.wire.envelope import Reply, StageMetadata
from orchestrator.retry import RULES, Budget, delay_s
from tests.support.orchestration import Gateway, Store, a_failure, invoke, invoker, ok_reply
from workloads.workflow import Task

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("slug", sorted(RULES))
def test_back_off_doubles_within_bounds_and_ends(slug):
    rule = RULES[slug]
    for attempt in range(1, rule.attempts):
        waits = [delay_s(a_failure(slug), attempt, max_attempts=99) for _ in range(50)]
        full_s = min(10.0, rule.first_delay_s * 2 ** (attempt - 1))
        assert all(full_s / 2 <= wait <= full_s for wait in waits)
        assert len(set(waits)) > 1, "without jitter, what failed together returns together"
    assert delay_s(a_failure(slug), rule.attempts, max_attempts=99) is None


@pytest.mark.parametrize("slug", ["bad-request", "not-a-video", "forbidden", "not-found", "changed", "aborted"])
def test_what_would_fail_the_same_way_is_never_tried_again(slug):
    assert delay_s(a_failure(slug), 1, max_attempts=9) is None
    assert delay_s(a_failure("storage", retryable=False), 1, max_attempts=9) is None


def test_a_caller_is_not_back_before_the_time_it_was_asked_to_wait():
    assert delay_s(a_failure("busy"), 1, max_attempts=9, after_s=7.0) == 7.0


def test_a_budget_bounds_the_repeats_of_a_whole_request():
    budget = Budget(2)
    assert [budget.take() for _ in range(4)] == [True, True, False, False]


def test_every_attempt_has_a_row_a_stamp_and_an_id_of_its_own():
    gateway = Gateway((429, b"full", {"Retry-After": "0"}), GatewayError("x", sent=False), ok_reply())
    outcome = invoke(invoker(gateway))
    assert outcome.error is None
    assert [row.attempt for row in outcome.rows] == [1, 2, 3]
    assert [row.status for row in outcome.rows] == ["failed", "failed", "ok"]
    assert [row.error.partition(":")[0] for row in outcome.rows] == ["busy", "connect", ""]
    assert len({row.invocation_id for row in outcome.rows}) == 3
    assert [headers["X-Fave-Attempt"] for _, headers, _ in gateway.calls] == ["1", "2", "3"]
    stamps = [int(headers["X-Fave-Sent-At"]) for _, headers, _ in gateway.calls]
    assert stamps == sorted(set(stamps))


def test_the_time_out_that_is_passed_down_is_the_smallest_of_all():
    gateway = Gateway(ok_reply(), ok_reply())
    invoke(invoker(gateway, stage_timeout_s=5.0))
    invoke(invoker(gateway, stage_timeouts_s={"stage-search": 50.0}), within_s=20)
    (_, headers, timeout_s), (_, _, second_s) = gateway.calls
    assert headers["X-Timeout"] == "5.000s"
    assert 5 < timeout_s < 7, "the host says itself that the time is over: wait for its answer, which has the stamps"
    assert 20 < second_s < 22


def test_no_attempt_begins_that_the_deadline_forbids():
    gateway = Gateway((503, b"", {"Retry-After": "9"}), ok_reply())
    outcome = invoke(invoker(gateway), within_s=3)
    assert (outcome.error.slug, len(gateway.calls)) == ("platform", 1)


def test_work_whose_reply_was_lost_is_found_in_the_store_and_not_done_again():
    store, gateway = Store(), Gateway(GatewayError("reset"))
    kept = StageMetadata(
        request_id="r", invocation_id="o.stage-search.1", stage="stage-search", outputs=("s3://b/o",), started_at_ns=5
    )
    store.objects["s3://b/requests/r/stage-search/metadata.1.json"] = msgspec.json.encode(kept)
    outcome = invoke(invoker(gateway, store))
    assert (outcome.error, outcome.outputs, len(gateway.calls)) == (None, ("s3://b/o",), 1)
    assert (outcome.rows[0].started_at_ns, outcome.rows[0].status) == (5, "ok")
    assert outcome.rows[0].returned_at_ns > 0


def test_a_refusal_without_a_row_of_its_own_is_a_failed_row():
    reply = Reply(request_id="r", stage="stage-search", status="failed", error=a_failure("forbidden", retryable=False))
    outcome = invoke(invoker(Gateway((403, msgspec.json.encode(reply), {}))))
    assert (outcome.rows[0].status, outcome.rows[0].error) == ("failed", "forbidden: because")


def test_a_pinned_version_goes_down_with_every_input_that_has_one():
    one = invoker(Gateway())
    task = Task(stage="stage-search", inputs=("s3://b/a", "s3://b/c"))
    assert one.envelope(task, {"s3://b/a": "1", "s3://b/x": "2"}).etags == {"s3://b/a": "1"}
