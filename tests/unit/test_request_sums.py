import pytest

from fave.wire.critical_path import critical_path
from fave.wire.records import StageRow
from orchestrator import results

pytestmark = pytest.mark.unit

S = 1_000_000_000


def a_row(stage, sent, returned, **fields):
    """Seconds after an hour past the epoch: 0 would mean that a stamp is not known."""
    sent_at_ns, returned_at_ns = (3600 + sent) * S, (3600 + returned) * S
    return StageRow(
        request_id="r",
        invocation_id=stage,
        stage=stage,
        sent_at_ns=sent_at_ns,
        returned_at_ns=returned_at_ns,
        **fields,
    )


def test_the_critical_path_is_the_chain_that_ended_last():
    rows = [
        a_row("first", 0, 2),
        a_row("short branch", 2, 3),
        a_row("long branch", 2, 7, cold_wait_s=3.0),
        a_row("gather", 7, 8),
    ]
    assert [row.stage for row in critical_path(rows)] == ["first", "long branch", "gather"]
    assert critical_path([]) == []


def test_metrics_add_up_all_invocations_the_orchestrators_included():
    own = a_row("orchestrator", 0, 0, cost_gb_s=1.0, cold=True, cold_wait_s=0.5)
    rows = [a_row("a", 0, 2, cost_gb_s=2.0, attempt=2), a_row("b", 2, 5, cold=True, cold_wait_s=1.0)]
    found = results.metrics(own, rows)
    assert (found.invocations, found.cold_invocations, found.retries) == (3, 2, 1)
    assert (found.cost_gb_s, found.cold_wait_s, found.cold) == (3.0, 1.5, True)
    assert (found.critical_path, found.critical_path_s, found.critical_path_cold_wait_s) == (
        ["a", "b"],
        5.0,
        1.0,
    )
