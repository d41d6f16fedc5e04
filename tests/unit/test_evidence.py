"""Labels where neither gateway nor replica stamps anything: pods, else counts, else honestly undecided."""

from __future__ import annotations

import pytest

from experiments.evidence import graded, held, routed
from fave.wire.records import ReplicaRow, StageRow

pytestmark = pytest.mark.unit

S = 1_000_000_000


def call(sent_s, returned_s, **known):
    return StageRow(
        request_id="r",
        invocation_id=f"{sent_s}",
        stage="f",
        sent_at_ns=int(sent_s * S),
        returned_at_ns=int(returned_s * S),
        memory_limit_mb=1024,
        **known,
    )


def sample(at_s, ready):
    return ReplicaRow(at_ns=int(at_s * S), source="prometheus", function="f", ready=ready, desired=ready)


def pod(event, at_s, name="p"):
    return ReplicaRow(at_ns=int(at_s * S), source="kubernetes", function="f", event=event, replica_id=name)


def label(rows, seen, *, initial=0, places=1, stale_s=0):
    graded(rows, seen, {"f": initial}, {"f": places}, stale_s * S)
    return [(row.cold, row.evidence) for row in rows]


COUNTS = [sample(0, 0), sample(1, 0), sample(2, 1), sample(3, 1), sample(4, 1), sample(5, 0), sample(6, 0)]


@pytest.mark.parametrize(
    ("sent_s", "wanted"),
    [
        (0.5, (True, "counts")),  # none before, none after
        (1.5, (None, "undecided")),  # it came in between
        (2.5, (False, "counts")),  # one before, one after
        (4.5, (None, "undecided")),  # it went in between
        (6.5, (None, "undecided")),  # nobody looked any more
    ],
)
def test_counts_of_ready_replicas_label_what_lies_between_two_equal_ones(sent_s, wanted):
    assert label([call(sent_s, sent_s + 1.0)], COUNTS) == [wanted]


def test_a_cold_call_waited_until_a_replica_was_seen_ready_and_worked_from_then_on():
    row = call(0.5, 3.5)
    label([row], COUNTS)
    assert (row.cold_wait_s, row.service_s, row.cost_gb_s) == (pytest.approx(0.5), 2.5, 2.5)


def test_a_wait_never_lasts_longer_than_its_call():
    row = call(0.2, 0.9)
    label([row], [sample(0, 0), sample(1, 0), sample(2, 0), sample(3, 1)])
    assert (row.cold, row.cold_wait_s) == (True, pytest.approx(0.7))


def test_a_call_that_found_all_places_taken_may_have_waited_for_a_new_replica():
    rows = [call(2.2, 2.9), call(2.3, 2.9)]
    assert label(rows, COUNTS) == [(False, "counts"), (None, "undecided")]
    rows = [call(2.2, 2.9), call(2.3, 2.9)]
    assert label(rows, COUNTS, places=2) == [(False, "counts")] * 2


def test_a_pod_is_heard_of_after_it_changed_and_routers_follow():
    seen = [pod("start", 1), pod("ready", 3), pod("stop", 8)]
    rows = [call(sent_s, sent_s + 0.5) for sent_s in (1.5, 2.5, 3.5, 7.5, 8.5, 9.5)]
    assert label(rows, seen) == [
        (True, "pods"),
        (None, "undecided"),
        (False, "pods"),
        (None, "undecided"),
        (None, "undecided"),
        (True, "pods"),
    ]


def test_a_pod_that_was_there_before_counts_until_it_ends():
    seen = [pod("stop", 5, "old")]
    assert label([call(2.0, 2.5), call(7.0, 7.5)], seen, initial=1) == [(False, "pods"), (True, "pods")]


def test_what_is_labelled_already_or_failed_stays_as_it_is():
    stamped = call(0.5, 1.0, cold=False, evidence="stamps")
    failed = call(0.5, 1.0, status="failed")
    assert label([stamped, failed], COUNTS) == [(False, "stamps"), (None, "none")]


def test_without_any_witness_nothing_is_claimed_but_the_callers_time():
    row = call(1.0, 1.5, forwarded_at_ns=int(1.2 * S))
    assert label([row], []) == [(None, "undecided")]
    assert row.service_s == pytest.approx(0.3)


def test_a_count_that_may_be_seconds_old_decides_only_when_later_ones_agree():
    seen = [sample(at, ready) for at, ready in enumerate([0, 0, 0, 1, 1, 1, 1, 1, 1])]
    rows = [call(0.5, 0.9), call(3.5, 3.9), call(7.5, 7.9)]
    assert label(rows, seen, stale_s=3) == [(None, "undecided"), (False, "counts"), (None, "undecided")]


def test_a_new_pod_that_fails_takes_nothing_from_those_that_were_there():
    seen = [pod("start", 2, "new"), pod("crashed", 4, "new")]
    assert label([call(6.0, 6.5)], seen, initial=1) == [(False, "pods")]


def test_pods_that_were_watched_are_asked_before_counts_which_lag():
    seen = [*COUNTS, pod("ready", 5)]
    assert label([call(2.5, 2.9)], seen) == [(True, "pods")]


def served(sent_s, received_s, before=0, ready_s=10.0, replica="f-7d9-x2k-0a1b2c3d"):
    at = {"received_at_ns": int(received_s * S), "started_at_ns": int(received_s * S), "ready_at_ns": int(ready_s * S)}
    return call(sent_s, received_s + 0.5, replica_id=replica, invocations_before=before, **at)


def waits(rows, pods):
    routed(rows, {name: int(at_s * S) for name, at_s in pods.items()})
    return [(row.cold, pytest.approx(row.cold_wait_s), row.evidence) for row in rows]


def test_a_call_that_waited_for_its_replica_came_to_it_as_soon_as_it_could():
    """Measured: a detector's process was ready after 1.31 s, behind a probe every 2 s, and its caller waited 4.48 s."""
    rows = [served(10.0, 14.48, ready_s=11.31), served(14.6, 14.61, before=1, ready_s=11.31)]
    assert waits(rows, {"f-7d9-x2k": 14.2}) == [(True, 4.48, "routed"), (False, 0, "routed")]


def test_a_replica_that_was_there_before_is_warm_even_when_its_process_began_late():
    assert waits([served(12.0, 12.01)], {"f-7d9-x2k": 0}) == [(False, 0, "routed")]


def test_a_process_that_is_not_ready_when_its_first_call_comes_is_cold_until_it_is():
    assert waits([served(10.0, 10.2, ready_s=11.0)], {"f-7d9-x2k": 10.1}) == [(True, 1.0, "routed")]


def test_without_a_watch_a_first_call_that_was_held_tells_since_when():
    rows = [served(11.5, 13.0), served(13.2, 13.21, before=1)]
    assert waits(rows, {}) == [(True, 1.5, "routed"), (False, 0, "routed")]
    assert waits([served(11.5, 11.6)], {}) == [(False, 0, "routed")], "a pre-warmed replica's first call was not held"
    assert waits([served(11.5, 13.0, before=4)], {}) == [(False, 0, "routed")], "held, but not for this replica"


def test_a_call_that_a_gateway_kept_without_a_new_replica_was_held_and_a_cold_one_waited_for_its_replica():
    rows = [served(12.0, 12.5, before=3), served(10.0, 14.48, ready_s=11.31), served(20.0, 20.1, before=9)]
    for row, is_cold in zip(rows, (False, True, None), strict=True):
        row.cold = is_cold
    held(rows)
    assert [row.held_s for row in rows] == [pytest.approx(0.5), 0, 0]
