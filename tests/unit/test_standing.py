"""What a driver goes on from: groups that are whole and valid stay, what was cut short is repeated."""

from pathlib import Path

import pytest

from experiments import facts
from experiments.journal import Journal
from experiments.plan import Cell, Group
from experiments.standing import Standing, standing
from fave.campaign.rundir import CellDir, write_json
from fave.campaign.validity import Finding, Verdict
from fave.errors import ConfigError
from fave.settings import ROOT

pytestmark = pytest.mark.unit

CELLS = tuple(Cell(index=i, block=0, load="steady", regime=regime) for i, regime in enumerate(("cold", "warm")))
GROUP = Group(0, "steady", (0,), "", CELLS)


def finished(folder, regime, attempt, *, valid=True):
    cell = CellDir(folder / "cells" / f"00_steady_{regime}_{attempt}")
    gate = Finding(gate="unsent_share", ok=valid, observed=0.0, limit=0.0)
    write_json(cell.verdict, {"verdict": Verdict(valid=valid, findings=(gate,))})
    write_json(cell.cell, {})


def cut_short(folder, regime, attempt):
    (folder / "cells" / f"00_steady_{regime}_{attempt}").mkdir(parents=True)


def test_nothing_yet(tmp_path):
    assert standing(GROUP, tmp_path) == Standing(attempts=0, invalid=0, done=False)


def test_a_whole_valid_group_is_done(tmp_path):
    finished(tmp_path, "cold", 1)
    finished(tmp_path, "warm", 1)
    assert standing(GROUP, tmp_path) == Standing(attempts=1, invalid=0, done=True)


def test_a_group_that_was_cut_short_is_repeated_and_not_held_against_it(tmp_path):
    finished(tmp_path, "cold", 1)
    cut_short(tmp_path, "warm", 1)
    assert standing(GROUP, tmp_path) == Standing(attempts=1, invalid=0, done=False)


def test_an_invalid_run_counts_as_a_try(tmp_path):
    finished(tmp_path, "cold", 1, valid=False)
    finished(tmp_path, "warm", 1)
    finished(tmp_path, "cold", 2)
    assert standing(GROUP, tmp_path) == Standing(attempts=2, invalid=1, done=False)
    finished(tmp_path, "warm", 2)
    assert standing(GROUP, tmp_path) == Standing(attempts=2, invalid=1, done=True)


def test_a_load_whose_name_begins_like_another_is_not_taken_for_it(tmp_path):
    (tmp_path / "cells" / "00_steady_cold-start_7").mkdir(parents=True)
    assert standing(GROUP, tmp_path).attempts == 0


def test_one_driver_at_a_time(tmp_path):
    journal = Journal(tmp_path / "run" / "journal.jsonl")
    with pytest.raises(ConfigError, match="run: another driver is at work on it"):
        Journal(tmp_path / "run" / "journal.jsonl")
    journal.close()
    Journal(tmp_path / "run" / "journal.jsonl").close()


def test_where_things_lie_on_this_machine_stays_out_of_the_journal(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.note("failed", error=f"{ROOT}/.fave/logs/x.log: full; {Path.home()}/key: unreadable")
    journal.close()
    assert '"error":".fave/logs/x.log: full; ~/key: unreadable"' in (tmp_path / "journal.jsonl").read_text()


THEN = {
    "regimes": {"steady": {"cold": {"f": {"idle_timeout": "1s"}}}},
    "assets": {"detector": "a"},
    "host": {"cpu_model": "c", "cores": 2, "memory_kb": 1000, "kernel": "1"},
    "versions": {"locust": "1"},
    "source": {"commit": "x"},
    "platform": {"provider": {"provider": "fave-local"}, "limits": {"probe_interval_s": 1}},
    "embedded": True,
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"regimes": {}}, "regimes: {'steady': {'cold': {'f': {'idle_timeout': '1s'}}}} when it began, {} now"),
        ({"assets": {"detector": "b"}}, "assets: {'detector': 'a'} when it began, {'detector': 'b'} now"),
        ({"embedded": False}, "embedded: True when it began, False now"),
        ({"host": THEN["host"] | {"cores": 4}}, "host.cores: 2 when it began, 4 now"),
        ({"host": THEN["host"] | {"memory_kb": 2000}}, "host.memory_kb: 1000 when it began, 2000 now"),
        (
            {"platform": THEN["platform"] | {"limits": {}}},
            "platform.limits: {'probe_interval_s': 1} when it began, {} now",
        ),
    ],
)
def test_runs_that_would_be_other_runs_are_no_part_of_the_campaign(change, says):
    """A regime edited between a crash and its resume would pool two treatments under one name."""
    assert facts.unlike(THEN, THEN | change) == [says]


def test_versions_may_change_and_are_told():
    now = THEN | {"versions": {"locust": "2"}, "host": THEN["host"] | {"kernel": "2", "memory_kb": 1001}}
    assert facts.unlike(THEN, now) == []
    assert facts.told(THEN, now) == ["host.kernel: was 1, is 2", "versions.locust: was 1, is 2"]


def test_what_an_earlier_version_did_not_record_is_not_held_against_it():
    assert facts.unlike({"host": THEN["host"]}, THEN) == []


def test_a_journal_whose_last_line_was_cut_short_goes_on_whole(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"event":"a"}\n{"event":"b')
    journal = Journal(path)
    journal.note("c")
    journal.close()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"event":"a"}'
    assert '"event":"c"' in lines[1]
    assert len(lines) == 2
