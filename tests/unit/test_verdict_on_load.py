"""What a run is told to have been, from what its processes told."""

from array import array

import pytest

from generator.verdict import describe, verdict_on

pytestmark = pytest.mark.unit


def told(due_us, late_us=1000, *, dropped=0, cpu_share=0.2, trouble=""):
    """One process that sent these arrivals, all equally late, and was answered after 20 ms."""
    due = array("q", due_us)
    return {
        "due_us": due.tobytes(),
        "sent_us": array("q", (at + late_us for at in due)).tobytes(),
        "latency_us": array("q", [20_000] * len(due)).tobytes(),
        "counts": {"dropped": dropped},
        "cpu_share": cpu_share,
        "trouble": trouble,
    }


EVEN, ODD = range(0, 10_000_000, 200_000), range(100_000, 10_000_000, 200_000)


def test_the_shares_of_all_processes_make_one_load():
    outcome = verdict_on([told(EVEN), told(ODD, cpu_share=0.5)], scheduled=100, stopped_early=False)
    assert outcome.believed
    assert (outcome.fidelity.sent, outcome.fidelity.unsent) == (100, 0)
    assert outcome.fidelity.scheduled_gap_mean_s == pytest.approx(0.1)
    assert outcome.fidelity.generator_cpu_share == 0.5
    assert describe(outcome).startswith("FAVE verdict on the load: VALID\n  sent 100 of 100")


def test_what_a_lost_process_had_to_send_is_unsent():
    outcome = verdict_on([told(EVEN)], scheduled=100, stopped_early=False)
    assert outcome.fidelity.unsent == 50
    assert "INVALID" in describe(outcome)
    assert "invalid: unsent_share" in describe(outcome)


@pytest.mark.parametrize("processes", [[], [told([])]])
def test_a_run_that_sent_nothing_is_not_believed(processes):
    outcome = verdict_on(processes, scheduled=10, stopped_early=True)
    assert not outcome.believed
    assert "stopped before its end" in describe(outcome)


def test_rows_that_are_missing_and_regimes_that_did_not_come_spoil_a_good_load():
    disk = verdict_on([told(EVEN, trouble="disk full")], scheduled=50, stopped_early=False)
    regime = verdict_on([told(EVEN)], scheduled=50, stopped_early=False, failures=["regime warm: not deployed"])
    assert disk.verdict.valid
    assert not disk.believed
    assert not regime.believed
    assert "invalid: disk full" in describe(disk)
    assert "invalid: regime warm" in describe(regime)


def test_users_who_wait_have_no_verdict_and_are_believed_unless_rows_are_missing():
    assert verdict_on([told([])], scheduled=None, stopped_early=True).believed
    broken = verdict_on([told([], trouble="disk full")], scheduled=None, stopped_early=True)
    assert not broken.believed
    assert "INVALID: disk full" in describe(broken)
