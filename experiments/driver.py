"""Drive a campaign: groups of cells in planned order, a journal, a report after each block."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import requests

from analysis import outcome
from experiments import forecast
from experiments.cell_run import Bench, run_cell, touch_caches
from experiments.journal import Journal
from experiments.model import Experiment
from experiments.plan import Group, forecast_s, plan
from experiments.platform_session import clients, platform, upload_samples
from experiments.progress import Progress
from experiments.standing import Standing, standing
from experiments.stopping import decide, decided
from fave import manifest
from fave.clock import monotonic_s, utc_ns
from fave.endpoints import Endpoints
from fave.errors import EXIT_INTERRUPTED, ConfigError, FaveError
from fave.records import SCHEMA
from fave.rundir import CellDir, read_json, write_json
from fave.settings import ROOT, decode, to_plain
from fave.storage import Store
from regimes import openfaas
from regimes.cluster import Cluster

# So often in a row may the platform fail without a single group getting done.
_FAILURES = 3
# A report takes seconds, which count as neither load nor state: the first comes early, then not more often than this.
_REPORT_EVERY_S = 300.0


def run(
    name: str, experiment: Experiment, *, runs: Path, quiet: bool = False, pilot: forecast.Pilot | None = None
) -> int:
    """Run the whole campaign; returns the exit code. What was measured stays, whatever happens.

    pilot: from which the forecast says what can be shown.
    """
    groups = plan(experiment)
    progress = _progress(experiment, groups, quiet=quiet)
    for line in (f"{name}: {experiment.description}", *forecast.summary(experiment, groups, pilot)):
        progress.say(line)
    stamp = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return _drive(name, experiment, runs / f"{stamp}-{name}", progress)


def resume(folder: Path, *, quiet: bool = False) -> int:
    """Go on with a campaign that was cut short: same plan, same order; blocks that are whole and valid stay.

    Raises
    ------
    ConfigError
        When this version of FAVE would plan it otherwise.
    """
    info = read_json(folder / "campaign.json")
    experiment = decode(info["experiment"], Experiment, f"{folder.name}/campaign.json")
    planned = plan(experiment)
    if info["schedules_sha256"] != _schedules(planned) or info["order"] != _order(planned):
        commit = info["source"].get("commit") or "the version it began with"
        raise ConfigError(
            f"{folder.name}: this version of FAVE plans it otherwise (other schedules or another order)",
            hint=f"go on with {commit}, or run it anew",
        )
    groups = _wanted(experiment, folder)
    left = [group for group in groups if _may_run(experiment, standing(group, folder))]
    progress = _progress(experiment, left, quiet=quiet)
    progress.say(f"{info['name']}: {len(left)} of {len(groups)} groups of runs are left")
    if manifest.commit() != info["source"]:
        progress.say(
            "note: the source is not the one that it began with; campaign.json tells the first, the journal this"
        )
    return _drive(info["name"], experiment, folder, progress)


def _wanted(experiment: Experiment, folder: Path) -> list[Group]:
    """All groups: those of the file, and those that the stopping rule has asked for."""
    return plan(experiment, {load: decision.blocks for load, decision in decided(folder).items()})


def _progress(experiment: Experiment, groups: list[Group], *, quiet: bool) -> Progress:
    return Progress(sum(len(group.cells) for group in groups), forecast_s(experiment, groups), quiet=quiet)


def _may_run(experiment: Experiment, found: Standing) -> bool:
    return not found.done and found.invalid < experiment.attempts


def _drive(name: str, experiment: Experiment, folder: Path, progress: Progress) -> int:
    journal = Journal(folder / "journal.jsonl")
    try:
        if any(_may_run(experiment, standing(group, folder)) for group in _wanted(experiment, folder)):
            _run_all(name, experiment, folder, journal, progress)
        reported = _report(folder, progress, last=True)
        progress.say(progress.shares())
        return reported or outcome.exit_code(read_json(folder / "results.json"))
    except KeyboardInterrupt:
        journal.note("interrupted")
        progress.say("\ninterrupted: stopping what was started")
        _leave(folder, progress)
        return EXIT_INTERRUPTED
    except (FaveError, OSError) as error:
        with contextlib.suppress(OSError):  # the disk may be what is full
            journal.note("failed", error=str(error))
        progress.complain("the campaign cannot go on")
        _leave(folder, progress)
        raise
    finally:
        journal.close()


def _leave(folder: Path, progress: Progress) -> None:
    """What there is of a campaign that ends early is reported; one that never began leaves nothing."""
    if not (folder / "campaign.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        return
    progress.say(f"finished cells stay; go on with: make resume RUN={folder.name}")
    _report(folder, progress, last=True)


def _run_all(name: str, experiment: Experiment, folder: Path, journal: Journal, progress: Progress) -> None:
    """Every group, on one platform after the other if need be."""
    failures, done = 0, -1
    while True:
        try:
            with platform(progress.say) as endpoints:
                upload_samples(["long"] if any(load.sample == "long" for load in experiment.loads.values()) else [])
                bench = _bench(experiment, endpoints, "-".join(folder.name.split("-")[:2]))
                _begin(name, bench, folder, journal, progress)
                _run_groups(bench, folder, journal, progress)
                if experiment.stopping and not decided(folder):
                    _decide(bench, folder, journal, progress)
                    _run_groups(bench, folder, journal, progress)
                journal.note("campaign_finished", storage=_storage(bench))
                return
        except ConfigError:
            raise
        except (FaveError, msgspec.MsgspecError, requests.RequestException) as error:
            now_done = sum(standing(group, folder).done for group in _wanted(experiment, folder))
            failures, done = (failures + 1, done) if now_done == done else (1, now_done)
            if failures >= _FAILURES or not (folder / "campaign.json").exists():
                raise
            journal.note("platform_failed", error=str(error))
            progress.complain(f"a part of the platform failed: {error}")
            progress.say("bringing the platform back; the block that was cut short is repeated")


def _begin(name: str, bench: Bench, folder: Path, journal: Journal, progress: Progress) -> None:
    """The manifest, once; caches touched, again after each new start of the platform."""
    groups = plan(bench.experiment)
    facts = _campaign(name, groups, bench)
    again = (folder / "campaign.json").exists()
    if not again:
        write_json(folder / "campaign.json", {"campaign": folder.name, **facts})
        progress.say(f"results go to {_shown(folder)}, the report to {_shown(folder / 'report.html')}")
    event = "campaign_resumed" if again else "campaign_started"
    journal.note(event, source=facts["source"], load_1min=facts["host"]["load_1min"], storage=_storage(bench))
    progress.phase("touching caches")
    journal.note("caches_touched", functions=touch_caches(bench, list(bench.experiment.loads)))


def _storage(bench: Bench) -> dict[str, int]:
    sizes_bytes = bench.store.sizes_bytes("requests/")
    return {"objects": len(sizes_bytes), "bytes": sum(sizes_bytes.values())}


def _decide(bench: Bench, folder: Path, journal: Journal, progress: Progress) -> None:
    """How many blocks the pilot asks for."""
    if _report(folder, progress, last=False):
        return
    found = decide(bench.experiment, read_json(folder / "results.json")["contrasts"], folder)
    journal.note("stopping_decided", blocks={load: each.blocks for load, each in found.items()})
    more = [group for group in _wanted(bench.experiment, folder) if not standing(group, folder).attempts]
    for load, each in found.items():
        capped = f" (the pilot asks for {each.wanted_blocks})" if each.wanted_blocks > each.blocks else ""
        progress.say(f"stopping rule: {load} takes {each.blocks} blocks{capped}, {each.pilot_blocks} are done")
    progress.more(sum(len(group.cells) for group in more), forecast_s(bench.experiment, more))


def _run_groups(bench: Bench, folder: Path, journal: Journal, progress: Progress) -> None:
    """What is not done yet, in planned order."""
    groups = _wanted(bench.experiment, folder)
    reported_s = -_REPORT_EVERY_S
    for position, group in enumerate(groups):
        found = standing(group, folder)
        if not _may_run(bench.experiment, found):
            continue
        _run_group(bench, group, found, folder, journal, progress)
        last_of_block = position + 1 == len(groups) or groups[position + 1].block != group.block
        due = monotonic_s() - reported_s >= _REPORT_EVERY_S
        if due and last_of_block and position + 1 < len(groups):
            progress.phase("writing a first report")
            _report(folder, progress, last=False)
            journal.note("report", block=group.block)
            reported_s = monotonic_s()


def _run_group(bench: Bench, group: Group, found: Standing, folder: Path, journal: Journal, progress: Progress) -> None:
    """All regimes of a block and load; together again when one came out invalid, as often as the experiment allows."""
    expected_s = forecast_s(bench.experiment, [group]) / len(group.cells)
    for more in range(bench.experiment.attempts - found.invalid):
        attempt = found.attempts + 1 + more
        if attempt > 1:
            progress.more(len(group.cells), expected_s * len(group.cells))
        all_valid = True
        for cell in group.cells:
            cell_dir = CellDir(folder / "cells" / cell.folder(attempt))
            progress.running(cell, bench.experiment.loads[cell.load].traffic.duration)
            journal.note("cell_started", cell=cell_dir.path.name)
            began_s = monotonic_s()
            summary = run_cell(bench, group, cell, cell_dir, progress.say, progress.phase)
            journal.note(
                "cell_finished",
                cell=cell_dir.path.name,
                valid=summary.verdict.valid,
                took_s=monotonic_s() - began_s,
                times=summary.times,
            )
            progress.finished(cell, summary, expected_s)
            all_valid &= summary.verdict.valid
        if all_valid:
            return
        journal.note("group_invalid", block=group.block, load=group.load, attempt=attempt)


def _bench(experiment: Experiment, endpoints: Endpoints, stamp: str) -> Bench:
    gateway, prometheus = clients(endpoints)
    store = Store.at(endpoints)
    cluster = None if endpoints.embedded else Cluster.find()
    return Bench(experiment, endpoints, gateway, prometheus, store, stamp, cluster)


def _campaign(name: str, groups: list[Group], bench: Bench) -> dict[str, Any]:
    """What the campaign ran on and with. Endpoints and credentials stay out."""
    experiment, embedded = bench.experiment, bench.endpoints.embedded
    return {
        "schema": SCHEMA,
        "name": name,
        "started_at_ns": utc_ns(),
        "experiment": to_plain(experiment),
        "order": _order(groups),
        "schedules_sha256": _schedules(groups),
        "host": manifest.host(),
        "versions": manifest.versions(),
        "assets": manifest.assets(),
        "source": manifest.commit(),
        "platform": bench.gateway.info(),
        "capabilities": openfaas.capabilities(bench.gateway),
        "nodes": bench.cluster.nodes() if bench.cluster else [],
        "images": bench.cluster.images() if bench.cluster else {},
        "embedded": embedded,
        "co_located": embedded,
        "regimes": {
            load: {regime: to_plain(experiment.settings(load, regime)) for regime in experiment.regimes_of(load)}
            for load in experiment.loads
        },
    }


def _order(groups: list[Group]) -> list[str]:
    return [cell.folder(1) for group in groups for cell in group.cells]


def _schedules(groups: list[Group]) -> dict[str, str]:
    return {f"{group.block:02d}_{group.load}": group.sha256 for group in groups}


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
