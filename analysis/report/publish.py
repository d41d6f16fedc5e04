"""A campaign small enough for a repository, from which its report comes out the same, byte for byte."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path

from analysis.report import write as report
from fave.campaign.rundir import CellDir, write_atomic
from fave.errors import ConfigError
from fave.settings import ROOT

# Raw rows of the generator and final states have been joined into the other rows; logs are of this machine.
_FACTS = ("campaign.json", "journal.jsonl", "stopping.json", report.PRICES)
_CELL_FACTS = ("cell.json", "verdict.json", "schedule.csv", "snapshots.json")
_PRIVATE = {
    "a bearer token": re.compile(r"(?i)\bbearer\s+(?=\S*\d)[\w.~+/=-]{8,}"),
    "a cloud's access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "an address with a password": re.compile(r"://[^/\s:@\"]+:[^/\s@\"]+@"),
    "a named secret": re.compile(
        r"(?i)(?:api[_-]?key|secret|password|token)\\?[\"']?\s*[:=]\s*\\?[\"']?(?=[\w-]*\d)[\w-]{8,}"
    ),
    "a home folder": re.compile(r"/(?:home|Users)/[\w.-]+"),
}


def publish(run: Path, to: Path) -> int:
    """Copy facts and rows (compressed) into `to`, analyse there; bytes of the new folder.

    Raises
    ------
    ConfigError
        When `to` is there and holds anything but a campaign, which would be replaced; when something in it looks like
        what is nobody else's business: a wrong answer's text may hold anything.
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
    found = private_in(fresh)
    if found:
        shutil.rmtree(fresh)
        raise ConfigError(found, hint="nothing was published; mend the workload and measure again")
    shutil.rmtree(to, ignore_errors=True)
    fresh.replace(to)
    return sum(path.stat().st_size for path in to.rglob("*") if path.is_file())


def private_in(folder: Path) -> list[str]:
    """Where text looks like a credential or names a home folder: file and kind, not the text itself."""
    found: dict[str, None] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode(errors="replace")
        for kind, looks in _PRIVATE.items():
            if looks.search(text):
                found[f"{path.relative_to(folder)}: holds what looks like {kind}"] = None
    return list(found)


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
