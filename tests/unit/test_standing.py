"""What a driver goes on from: groups that are whole and valid stay, what was cut short is repeated."""

import pytest

from experiments.journal import Journal
from experiments.plan import Cell, Group
from experiments.standing import Standing, standing
from fave.errors import ConfigError
from fave.rundir import CellDir, write_json
from fave.validity import Finding, Verdict

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
