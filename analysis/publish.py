"""A campaign small enough for a repository, from which its report comes out the same, byte for byte."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from analysis import report
from fave.errors import ConfigError
from fave.rundir import CellDir, write_atomic
from fave.settings import ROOT

# Raw rows of the generator and final states have been joined into the other rows; logs are of this machine.
_FACTS = ("campaign.json", "journal.jsonl", "stopping.json", report.PRICES)
_CELL_FACTS = ("cell.json", "verdict.json", "schedule.csv", "snapshots.json")


def publish(run: Path, to: Path) -> int:
    """Copy facts and rows (compressed) into `to`, analyse there; bytes of the new folder.

    Raises
    ------
    ConfigError
        When `to` is there and holds anything but a campaign, which would be replaced.
    """
    if to.exists() and any(to.iterdir()) and not (to / "campaign.json").exists():
        raise ConfigError(f"{to}: is there and is no campaign; nothing was written")
    fresh = to.with_name(f".{to.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    _copy(run, fresh, _FACTS)
    _copy(ROOT, fresh, ("NOTICE",))
    for cell in sorted((run / "cells").iterdir()):
        if CellDir(cell).finished:
            target = fresh / "cells" / cell.name
            target.mkdir(parents=True)
            _copy(cell, target, _CELL_FACTS)
            _pack(cell, target)
    report.write(fresh)
    shutil.rmtree(to, ignore_errors=True)
    fresh.replace(to)
    return sum(path.stat().st_size for path in to.rglob("*") if path.is_file())


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def _pack(source: Path, target: Path) -> None:
    for name in ("requests.jsonl", "stages.jsonl", "replicas.jsonl"):
        if (source / name).exists():
            write_atomic(target / f"{name}.gz", gzip.compress((source / name).read_bytes(), mtime=0))
        elif (source / f"{name}.gz").exists():
            shutil.copyfile(source / f"{name}.gz", target / f"{name}.gz")
