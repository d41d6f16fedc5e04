import math

import msgspec
import pytest

from experiments.collect import Document, Sources, TaskStatus, collect
from experiments.observe import (
    age_quantile_s,
    clock_offset_s,
    initial_state_holds,
    label_mismatches,
    longest_gap_s,
    refused,
)
from fave.errors import StorageError
from fave.wire.records import ArrivalRow, ReplicaRow, StageRow, derive, routable
from platforms.model import Seen
from tests.support.videosearcher import WORK

pytestmark = pytest.mark.unit

S = 1_000_000_000


class Objects:
    """An object store of what the functions wrote."""

    def __init__(self, objects):
        self.objects = objects

    def uri(self, key):
        return key

    def keys(self, prefix):
        return [key for key in self.objects if key.startswith(prefix)]

    def get(self, uri):
        if uri not in self.objects:
            raise StorageError(uri, slug="not-found")
        return msgspec.json.encode(self.objects[uri])


def stage_row(stage, *, sent, ready, replica="x", **more):
    row = StageRow(request_id="r0", invocation_id=stage, stage=stage, replica_id=replica, memory_limit_mb=1024, **more)
    row.sent_at_ns, row.ready_at_ns, row.started_at_ns, row.finished_at_ns = (
        sent * S,
        ready * S,
        sent * S,
        (sent + 1) * S,
    )
    return derive(row)


def arrival(k=0, **more):
    values = {"scheduled_at_ns": 1 * S, "fired_at_ns": 1 * S, "sent_at_ns": 1 * S, "done_at_ns": 9 * S} | more
    return ArrivalRow(k=k, **{"request_id": f"r{k}", "invocation_id": f"i{k}", "function": "orchestrator"} | values)


def collected(arrivals, objects, workload=WORK, ready_at_ns=None):
    return collect(
        Sources(Objects(objects), workload, Seen([], ready_at_ns or {}, None, 0), {}),
        arrivals,
        regime="cold",
        load="steady",
    )


def final(*rows, status="COMPLETED", tasks=()):
    own = StageRow(request_id="r0", invocation_id="i0", stage="orchestrator", ready_at_ns=1, started_at_ns=2 * S)
    return Document(
        invocation=own, rows=list(rows), status=status, tasks={name: TaskStatus("RUNNING") for name in tasks}
    )


def test_a_request_is_cold_when_any_invocation_on_its_behalf_was():
    rows = [stage_row("stage-librosa", sent=2, ready=1), stage_row("stage-search", sent=4, ready=5, replica="y")]
    requests, stages, _ = collected(
        [arrival()], {"requests/r0/metadata/final.json": final(*rows)}, ready_at_ns={"y": 5 * S}
    )
    assert (requests[0].cold, requests[0].cold_invocations, requests[0].invocations) == (True, 1, 3)
    assert requests[0].latency_s == 8.0
    assert [row.evidence for row in stages] == ["stamps", "stamps", "platform"]


def test_a_callers_time_out_keeps_the_cold_label_of_what_timed_out():
    """A label missing because of slowness would bias the very thing that is measured."""
    state = final(stage_row("stage-librosa", sent=2, ready=8))
    row = arrival(status="timeout", error="no reply within 5 s")
    requests, stages, _ = collected([row], {"requests/r0/metadata/state.json": state})
    assert (requests[0].status, requests[0].cold) == ("timeout", True)
    assert stages[0].status == "failed"


def test_what_never_answered_is_lost_and_not_warm():
    requests, stages, _ = collected([arrival(status="timeout", done_at_ns=9 * S)], {})
    assert requests[0].cold is None
    assert (stages[0].status, stages[0].cold) == ("lost", None)


def test_dropped_and_unsent_arrivals_are_rows_too():
    rows = [
        arrival(0, status="dropped", sent_at_ns=0, done_at_ns=0),
        arrival(1, status="unsent", fired_at_ns=0, sent_at_ns=0, done_at_ns=0),
    ]
    requests, stages, _ = collected(rows, {})
    assert [(row.status, row.dropped, row.latency_s) for row in requests] == [
        ("dropped", True, None),
        ("unsent", False, None),
    ]
    assert stages == []


def test_a_single_stage_is_joined_with_the_callers_side_of_its_reply():
    written = StageRow(request_id="r0", invocation_id="i0", stage="stage-search", memory_limit_mb=512)
    row = arrival(reply_headers={"X-Fave-Ready-At": str(2 * S), "X-Fave-Started-At": str(3 * S)})
    objects = {"requests/r0/stage-search/metadata.1.json": written}
    row.function = "stage-search"
    requests, stages, _ = collected([row], objects)
    assert (stages[0].cold, stages[0].cold_wait_s, stages[0].queue_s) == (True, 1.0, 1.0)
    assert (stages[0].returned_at_ns, requests[0].cold) == (9 * S, True)


def test_rows_that_the_orchestrator_missed_come_from_beside_the_outputs():
    """It timed out on librosa, which finished later; search was still running when the cell ended."""
    timed_out = StageRow(
        request_id="r0", invocation_id="stage-librosa", stage="stage-librosa", sent_at_ns=2 * S, status="lost"
    )
    written = stage_row("stage-librosa", sent=2, ready=8)
    objects = {
        "requests/r0/metadata/state.json": final(timed_out, status="RUNNING", tasks=("stage-librosa", "stage-search")),
        "requests/r0/stage-librosa/metadata.1.json": written,
    }
    requests, stages, _ = collected([arrival(status="timeout")], objects)
    assert [(row.stage, row.cold, row.status) for row in stages] == [
        ("orchestrator", False, "failed"),
        ("stage-librosa", True, "ok"),
        ("stage-search", None, "lost"),
    ]
    assert requests[0].cold is True


def test_a_request_with_a_missing_label_is_not_called_warm():
    state = final(stage_row("stage-librosa", sent=2, ready=1), status="RUNNING", tasks=("stage-search",))
    requests, _, _ = collected([arrival(status="timeout")], {"requests/r0/metadata/state.json": state})
    assert requests[0].cold is None


def test_what_the_platform_refused_is_a_failure_and_not_a_lost_label():
    requests, stages, _ = collected([arrival(function="stage-search", status="failed", error="429: full")], {})
    assert (requests[0].status, requests[0].cold) == ("failed", None)
    assert refused(stages[0])
    assert not refused(StageRow(request_id="r", invocation_id="i", stage="s", status="lost"))


def sample(function, at_s):
    return ReplicaRow(at_ns=int(at_s * S), source="prometheus", function=function, ready=1)


def test_the_longest_silence_of_prometheus_counts_at_the_edges_too():
    rows = [sample("a", 0.5), sample("b", 0.5), sample("a", 1), sample("b", 2.5), sample("a", 1.5), sample("a", 2)]
    assert longest_gap_s(rows, ("a", "b"), 0, 3 * S) == 2.0
    assert longest_gap_s(rows, ("a",), 0, 8 * S) == 6.0
    assert longest_gap_s(rows, ("a", "c"), 0, 3 * S) == math.inf


def test_a_replica_lost_before_the_first_arrival_is_noticed():
    def ready(at_s, count):
        return ReplicaRow(at_ns=int(at_s * S), source="prometheus", function="a", ready=count)

    assert initial_state_holds([ready(0.5, 1), ready(1.5, 0)], {"a": 1, "b": 0}, first_ns=S)
    assert not initial_state_holds([ready(0.5, 0), ready(1.5, 1)], {"a": 1, "b": 0}, first_ns=S)


@pytest.mark.parametrize(
    ("sent", "ready", "event", "wrong"),
    [
        (2, 3, 3.1, 0),
        (2, 3, 1.0, 1),
        (4, 3, 3.1, 0),
        (2, 1, 5.0, 1),
        (2, 1.9, 2.1, 1),
        (2, 3, None, 1),
        (2, 3, 1.995, 0),
    ],
)
def test_labels_are_checked_against_the_platforms_own_events(sent, ready, event, wrong):
    row = StageRow(request_id="r", invocation_id="i", stage="s", replica_id="x")
    row.sent_at_ns, row.ready_at_ns = int(sent * S), int(ready * S)
    events = {} if event is None else {"x": int(event * S)}
    assert label_mismatches([derive(row)], events, offset_s=0.01) == wrong


def test_who_comes_between_a_replicas_own_stamp_and_the_platforms_event_is_cold():
    """The replica was ready and nobody could be sent to it yet: the caller waited for that."""
    row = stage_row("stage-x", sent=4, ready=3)
    assert (row.cold, routable(row, int(3.9 * S), "platform").evidence) == (False, "platform")
    between = routable(stage_row("stage-x", sent=4, ready=3), int(4.1 * S), "platform")
    assert (between.cold, between.cold_wait_s) == (True, pytest.approx(0.1))
    assert label_mismatches([between], {"x": int(4.1 * S)}, 0.0) == 0
    requests, stages, _ = collected(
        [arrival(sent_at_ns=4 * S, function="stage-search")],
        {"requests/r0/stage-search/metadata.1.json": stage_row("stage-search", sent=4, ready=3)},
        ready_at_ns={"x": int(4.1 * S)},
    )
    assert (requests[0].cold, requests[0].cold_invocations, stages[0].cold) == (True, 1, True)


def test_a_repeated_arrival_is_one_request_with_a_row_for_each_attempt():
    """It was sent when the first attempt was, and ended as the last one did."""
    attempts = [
        arrival(function="stage-search", status="failed", error="429: busy", done_at_ns=2 * S),
        arrival(
            function="stage-search",
            attempt=2,
            sent_at_ns=3 * S,
            done_at_ns=4 * S,
            reply_headers={"X-Fave-Ready-At": "1"},
        ),
    ]
    row = StageRow(request_id="r0", invocation_id="i0", attempt=2, stage="stage-search", ready_at_ns=1, replica_id="a")
    objects = {"requests/r0/stage-search/metadata.2.json": row}
    rows = collected(attempts, objects)
    (request,) = rows.requests
    assert (request.attempts, request.status, request.sent_at_ns, request.done_at_ns) == (2, "ok", 1 * S, 4 * S)
    assert request.schedule_lag_s == 0.0


def test_a_request_belongs_to_the_phase_and_regime_it_was_scheduled_in():
    rows = collected([arrival(phase="2 warm/steady", regime="warm", status="unsent", sent_at_ns=0)], {})
    assert (rows.requests[0].phase, rows.requests[0].regime) == ("2 warm/steady", "warm")


def test_the_last_word_of_the_store_on_each_attempt_is_kept_as_one_line():
    document = final(stage_row("stage-librosa", sent=2, ready=1))
    rows = collected([arrival(), arrival(1)], {"requests/r0/metadata/final.json": document})
    (kept,) = rows.finals
    assert (kept.request_id, kept.attempt) == ("r0", 1)
    assert msgspec.json.decode(kept.document, type=Document) == document
    assert b"\n" not in bytes(kept.document)


@pytest.mark.parametrize(
    ("gaps_s", "q", "age_s"),
    [
        ([0.5] * 100, 0.99, 0.495),
        ([1.0], 0.5, 0.5),
        ([1.0, 3.0], 0.5, 1.0),
        ([0.5] * 196 + [2.0], 0.99, 1.0),
        ([], 0.99, None),
    ],
)
def test_the_age_of_the_newest_sample_is_a_quantile_over_time(gaps_s, q, age_s):
    """Of the time, not of the samples: a long gap weighs as long as it lasts."""
    assert age_quantile_s(gaps_s, q) == (None if age_s is None else pytest.approx(age_s))


def test_a_caller_that_gave_up_before_the_work_was_done_is_no_wrong_clock():
    """It would make every slow run invalid: the very thing that is measured."""
    row = StageRow(request_id="r", invocation_id="i", stage="s", replica_id="x", status="failed")
    row.sent_at_ns, row.received_at_ns, row.returned_at_ns, row.finished_at_ns = 1 * S, 2 * S, 31 * S, 45 * S
    assert clock_offset_s([row]) == 0.0


@pytest.mark.parametrize(
    ("stamps", "offset_s"),
    [
        ([(0, 1, 3, 4)], 0.0),
        # The replica's clock is 5 ahead: it finished 4 after its caller had the reply.
        ([(0, 6, 8, 4)], 4.0),
        # It is behind: the request arrived 2 before it was sent.
        ([(5, 3, 4, 9)], 2.0),
        # Set back by 10 between two requests: no one offset fits both.
        ([(0, 6, 7, 2), (20, 16, 17, 22)], 4.0),
        ([], None),
    ],
)
def test_clocks_that_cannot_agree_are_found_from_the_stamps_alone(stamps, offset_s):
    rows = []
    for sent, received, finished, returned in stamps:
        row = StageRow(request_id="r", invocation_id="i", stage="s", replica_id="x")
        row.sent_at_ns, row.received_at_ns = (sent + 100) * S, (received + 100) * S
        row.finished_at_ns, row.returned_at_ns = (finished + 100) * S, (returned + 100) * S
        rows.append(row)
    assert clock_offset_s(rows) == offset_s
