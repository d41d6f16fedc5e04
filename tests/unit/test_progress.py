"""What a person sees: lines for logs, a passing line for terminals, where the time went."""

import io
import sys

import pytest

from experiments import progress as module
from experiments.cell_run import Summary, Times
from experiments.plan import Cell
from experiments.progress import Progress
from fave.campaign.validity import Verdict

pytestmark = pytest.mark.unit

CELL = Cell(index=0, block=0, load="steady", regime="cold")


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module.time, "monotonic", made.monotonic)
    return made


def summary(cold=5, times=(1.0, 8.0, 0.5, 0.5)):
    names = ("state_s", "load_s", "drain_s", "other_s")
    verdict = Verdict(valid=True, findings=())
    return Summary(20, 0, 20, cold, 0.05, verdict, Times(**dict(zip(names, times, strict=True))))


def test_a_line_per_finished_cell_tells_counts_share_verdict_and_time_left(clock, capsys):
    progress = Progress(2, 20.0)
    clock.now_s += 30  # a platform takes its time to start: no reason to think that cells are slow
    progress.running(CELL, 8.0)
    clock.now_s += 12
    progress.finished(CELL, summary(), 10.0)
    said = capsys.readouterr().out
    assert "[  1/2] block  1  steady" in said
    assert "cold  25.0%" in said
    assert "valid  (12s left)" in said


def test_time_left_runs_down_while_a_cell_runs(clock):
    progress = Progress(2, 20.0)
    progress.running(CELL, 8.0)
    clock.now_s += 10
    progress.finished(CELL, summary(), 10.0)
    progress.running(CELL, 8.0)
    clock.now_s += 4
    assert progress._passing("sending", 3.0) == (
        "  [2/2] steady / cold, block 1: sending 3s of 8s; 6s left; cold so far: cold 25%"
    )


def test_between_cells_only_what_is_done_is_told(clock):
    assert Progress(2, 20.0)._passing("touching caches", 1.0) == "  touching caches 1s; 20s left"


def test_quiet_says_nothing_but_complaints(clock, capsys):
    progress = Progress(1, 10.0, quiet=True)
    progress.say("x")
    progress.running(CELL, 8.0)
    progress.finished(CELL, summary(), 10.0)
    progress.complain("broken")
    assert capsys.readouterr() == ("", "broken\n")


def test_the_shares_of_the_wall_time_add_up(clock):
    progress = Progress(1, 10.0)
    progress.running(CELL, 8.0)
    clock.now_s += 16
    progress.finished(CELL, summary(), 10.0)
    assert progress.shares() == ("wall time 16s: offered load 50%, initial states 6%, draining 3%, everything else 41%")


def test_a_log_gets_whole_lines_without_control_characters(clock, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    progress = Progress(1, 10.0)
    progress.say("a")
    assert out.getvalue() == "a\n"
