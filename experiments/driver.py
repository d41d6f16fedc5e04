"""Drive a campaign: groups of cells in planned order, a journal, a report after each block."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.cell_run import Bench, run_cell, warm_caches
from experiments.journal import Journal
from experiments.model import Experiment
from experiments.plan import Group, forecast_s, plan
from experiments.platform_session import clients, platform, upload_samples
from experiments.progress import Progress, duration
from fave import manifest
from fave.clock import monotonic_s, utc_ns
from fave.endpoints import Endpoints
from fave.errors import EXIT_INTERRUPTED, EXIT_INVALID_RUN, EXIT_OK, FaveError
from fave.records import SCHEMA
from fave.rundir import CellDir, write_json
from fave.settings import ROOT, to_plain
from fave.storage import Store


def run(name: str, experiment: Experiment, *, runs: Path, quiet: bool = False) -> int:
    """Run the whole campaign; returns the exit code. What was measured stays, whatever happens."""
    groups = plan(experiment)
    cells = sum(len(group.cells) for group in groups)
    progress = Progress(cells, forecast_s(experiment, groups), quiet=quiet)
    progress.say(f"{name}: {experiment.description}")
    progress.say(f"{cells} cells, about {duration(forecast_s(experiment, groups))} and the reports")
    stamp = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d-%H%M%S")
    folder = runs / f"{stamp}-{name}"
    with platform(progress.say) as endpoints:
        upload_samples()
        bench = _bench(experiment, endpoints, stamp)
        write_json(folder / "campaign.json", {"campaign": folder.name, **_campaign(name, experiment, groups, bench)})
        progress.say(f"results go to {_shown(folder)}")
        journal = Journal(folder / "journal.jsonl")
        try:
            valid = _run_groups(bench, groups, folder, journal, progress)
        except KeyboardInterrupt:
            journal.note("interrupted")
            progress.say("\ninterrupted: stopping what was started; finished cells stay")
            _report(folder, progress, last=True)
            return EXIT_INTERRUPTED
        except (FaveError, OSError) as error:
            journal.note("failed", error=str(error))
            progress.say("the campaign cannot go on; finished cells stay")
            _report(folder, progress, last=True)
            raise
        finally:
            journal.close()
    reported = _report(folder, progress, last=True)
    return reported or (EXIT_OK if valid else EXIT_INVALID_RUN)


def _run_groups(bench: Bench, groups: list[Group], folder: Path, journal: Journal, progress: Progress) -> bool:
    """Whether every group ended valid."""
    valid = True
    touched: set[str] = set()
    journal.note("campaign_started", cells=sum(len(group.cells) for group in groups))
    for position, group in enumerate(groups):
        if group.load not in touched:
            warm_caches(bench, group.load)
            journal.note("caches_warmed", load=group.load)
            touched.add(group.load)
        valid &= _run_group(bench, group, folder, journal, progress)
        last_of_block = position + 1 == len(groups) or groups[position + 1].block != group.block
        if last_of_block and position + 1 < len(groups):
            _report(folder, progress, last=False)
            journal.note("report", block=group.block)
    journal.note("campaign_finished", valid=valid)
    return valid


def _run_group(bench: Bench, group: Group, folder: Path, journal: Journal, progress: Progress) -> bool:
    """All regimes of a block and load; together again when one came out invalid, as often as the experiment allows."""
    expected_s = forecast_s(bench.experiment, [group]) / len(group.cells)
    for attempt in range(1, bench.experiment.attempts + 1):
        if attempt > 1:
            progress.repeated(len(group.cells), expected_s * len(group.cells))
        all_valid = True
        for cell in group.cells:
            cell_dir = CellDir(folder / "cells" / cell.folder(attempt))
            progress.running(cell)
            journal.note("cell_started", cell=cell_dir.path.name)
            began_s = monotonic_s()
            summary = run_cell(bench, group, cell, cell_dir, progress.say)
            journal.note(
                "cell_finished", cell=cell_dir.path.name, valid=summary.verdict.valid, took_s=monotonic_s() - began_s
            )
            progress.finished(cell, summary, expected_s)
            all_valid &= summary.verdict.valid
        if all_valid:
            return True
        journal.note("group_invalid", block=group.block, load=group.load, attempt=attempt)
    return False


def _bench(experiment: Experiment, endpoints: Endpoints, stamp: str) -> Bench:
    gateway, prometheus = clients(endpoints)
    store = Store.at(endpoints)
    return Bench(experiment, endpoints, gateway, prometheus, store, stamp)


def _campaign(name: str, experiment: Experiment, groups: list[Group], bench: Bench) -> dict[str, Any]:
    schedules = {f"{group.block:02d}_{group.load}": group.sha256 for group in groups}
    return {
        "schema": SCHEMA,
        "name": name,
        "started_at_ns": utc_ns(),
        "experiment": to_plain(experiment),
        "order": [cell.folder(1) for group in groups for cell in group.cells],
        "schedules_sha256": schedules,
        "host": manifest.host(),
        "versions": manifest.versions(),
        "source": manifest.commit(),
        "platform": bench.gateway.info(),
        "embedded": bench.endpoints.embedded,
        "co_located": bench.endpoints.embedded,
    }


def _report(folder: Path, progress: Progress, *, last: bool) -> int:
    """As a process of its own: scipy and matplotlib stay out of the driver. Returns its exit code."""
    command = [sys.executable, "-m", "analysis", "report", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        progress.complain(f"no report: {done.stderr.strip().removeprefix('error: ')}")
    elif last:
        progress.say(done.stdout.rstrip())
    else:
        progress.say(f"report so far: {_shown(folder / 'report.html')}")
    return done.returncode


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
