"""Drive a campaign: groups of cells in planned order, a journal, reports on the way."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import requests

from analysis import outcome
from experiments import facts, forecast, variants
from experiments.cell_run import Bench, run_cell, touch_caches, write_verdict
from experiments.inputs import upload
from experiments.journal import Journal
from experiments.model import Experiment
from experiments.plan import Group, forecast_s, plan
from experiments.progress import Progress, duration
from experiments.shipping import Shipping
from experiments.standing import Standing, left, reference, standing, unfinished, wanted
from experiments.stopping import due, take
from fave import environment
from fave.campaign import record
from fave.campaign.results import Results
from fave.campaign.rundir import CellDir
from fave.clock import monotonic_s
from fave.endpoints import find
from fave.errors import EXIT_INTERRUPTED, ConfigError, FaveError, PlatformError
from fave.processes import OwnedProcess, ask_door
from fave.settings import ROOT, decode, to_plain
from fave.storage import Store
from fave.wire import keys
from platforms import preflight
from platforms.claim import claimed
from platforms.model import Platform
from platforms.probe import Probe, probe, refused, unmeasurable
from platforms.session import opened
from workloads.model import of_record

# So often in a row may the platform fail without a single group getting done.
_FAILURES = 3
_SHIP_EVERY_S = 10.0
_REMOVED_AT_ONCE = 4
# A report takes seconds, which count as neither load nor state: the first comes early, then not more often than this.
_REPORT_EVERY_S = 300.0


class Campaign(NamedTuple):
    """One campaign that is being run; `folder` holds everything that survives the driver."""

    name: str
    experiment: Experiment
    folder: Path
    journal: Journal
    progress: Progress


def run(
    name: str, experiment: Experiment, *, runs: Path, quiet: bool = False, pilot: forecast.Pilot | None = None
) -> int:
    """Run the whole campaign; returns the exit code. What was measured stays, whatever happens.

    pilot: from which the forecast says what can be shown.
    """
    groups = plan(experiment)
    hasty = forecast.too_fast(experiment, groups, pilot)
    if hasty:
        raise ConfigError(hasty, hint="switch earlier before bursts, or further apart; --sd S forgets the earlier run")
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
        When its runs would now be planned otherwise, or be other runs: regimes, models or machine have changed.
    InvalidRunError
        When a file of its facts cannot be read.
    """
    then = record.manifest(folder)
    experiment = decode(to_plain(then.experiment), Experiment, f"{folder.name}/campaign.json")
    planned = plan(experiment)
    if then.schedules_sha256 != facts.schedules(planned) or then.order != facts.order(planned):
        commit = then.source.commit or "the version it began with"
        raise ConfigError(
            f"{folder.name}: this version of FAVE plans it otherwise (other schedules or another order)",
            hint=f"go on with {commit}, or run it anew",
        )
    _refuse_unlike(folder, facts.unlike(record.known(then), facts.of_here(experiment)))
    groups = left(experiment, folder)
    progress = _progress(experiment, groups, quiet=quiet)
    progress.say(f"{then.name}: {len(groups)} of {len(wanted(experiment, folder))} groups of runs are left")
    return _drive(then.name, experiment, folder, progress)


def _refuse_unlike(folder: Path, problems: list[str]) -> None:
    if problems:
        raise ConfigError(
            [f"{folder.name}: {problem}" for problem in problems],
            hint="its other runs were made under other conditions; run it anew",
        )


def _progress(experiment: Experiment, groups: list[Group], *, quiet: bool) -> Progress:
    return Progress(sum(len(group.cells) for group in groups), forecast_s(experiment, groups), quiet=quiet)


def _drive(name: str, experiment: Experiment, folder: Path, progress: Progress) -> int:
    journal = Journal(folder / "journal.jsonl")
    campaign = Campaign(name, experiment, folder, journal, progress)
    try:
        if unfinished(experiment, folder):
            _run_all(campaign)
        reported = _report(campaign, last=True)
        progress.say(progress.shares())
        return reported or outcome.exit_code(record.read(folder, "results.json", Results))
    except KeyboardInterrupt:
        journal.note("interrupted")
        progress.say("\ninterrupted: stopping what was started")
        _leave(campaign)
        return EXIT_INTERRUPTED
    except (FaveError, OSError, msgspec.MsgspecError) as error:
        with contextlib.suppress(OSError):  # the disk may be what is full
            journal.note("failed", error=str(error))
        progress.complain("the campaign cannot go on")
        _leave(campaign)
        if isinstance(error, msgspec.MsgspecError):
            raise FaveError(f"something that was written cannot be read: {error}") from error
        raise
    finally:
        with contextlib.suppress(OSError):  # what could not be written before cannot be now
            journal.close()


def _leave(campaign: Campaign) -> None:
    """What there is of a campaign that ends early is reported; one that never began leaves nothing."""
    if not (campaign.folder / "campaign.json").exists():
        shutil.rmtree(campaign.folder, ignore_errors=True)
        return
    campaign.progress.say(f"finished cells stay; go on with: make resume RUN={campaign.folder.name}")
    _report(campaign, last=True)


def _run_all(campaign: Campaign) -> None:
    """Every group, on one platform after the other if need be."""
    experiment, folder, progress = campaign.experiment, campaign.folder, campaign.progress
    failures, done, found = 0, -1, None
    experiment.provide()
    if os.environ.get("GATEWAY_URL"):
        progress.phase("looking at what is there")
        works = experiment.works(experiment.loads)
        limits_mb = {name: each.memory_limit_mb for work in works for name, each in work.functions.items()}
        preflight.refuse(find(), limits_mb if experiment.work.deploy else {}, progress.say)
    while True:
        try:
            with contextlib.ExitStack() as stack:
                platform = stack.enter_context(opened(progress.say))
                stamp = "-".join(folder.name.split("-")[:2])
                bench = Bench(experiment, platform, Store.at(platform.endpoints), stamp)
                ignored = variants.without_effect(experiment.variants, runs_images=not platform.capabilities().known)
                ignored += _without_evidence(experiment, platform)
                if ignored:
                    raise ConfigError(ignored)
                there = platform.changeable(experiment.work, []) if found is None else found
                gateway_url = platform.endpoints.gateway_url
                found = stack.enter_context(claimed(bench.store, gateway_url, folder.name, there))
                upload(experiment.work, bench.store)
                stack.enter_context(_idling(campaign, bench))
                stack.enter_context(_shipped(campaign, bench))
                try:
                    _begin(campaign, bench)
                    _run_groups(campaign, bench)
                finally:
                    _leave_as_found(campaign, bench, found)
                campaign.journal.note("campaign_finished", storage=_storage(bench))
                # While the store is there: the last report is of the same rows.
                if environment.ships_runs():
                    _report(campaign, last=False)
                return
        except ConfigError:
            raise
        except (FaveError, msgspec.MsgspecError, requests.RequestException) as error:
            now_done = sum(standing(group, folder).done for group in wanted(experiment, folder))
            failures, done = (failures + 1, done) if now_done == done else (1, now_done)
            if failures >= _FAILURES or not (folder / "campaign.json").exists():
                raise
            campaign.journal.note("platform_failed", error=str(error))
            progress.complain(f"a part of the platform failed: {error}")
            progress.say("bringing the platform back; the block that was cut short is repeated")


def _without_evidence(experiment: Experiment, platform: Platform) -> list[str]:
    """Outcomes that this platform tells nothing of."""
    if platform.capabilities().replica_events:
        return []
    # The shipped one asks of it what can be asked where it can.
    secondary = () if experiment.not_worse else experiment.secondary_outcomes
    named = {"primary_outcome": (experiment.primary_outcome,), "secondary_outcomes": secondary}
    return [
        f"{key}: start_s needs the starts of replicas, which this platform does not tell; take mean_latency_s"
        for key, names in named.items()
        if "start_s" in names
    ]


@contextlib.contextmanager
def _idling(campaign: Campaign, bench: Bench) -> Iterator[None]:
    """Somebody who scales idle functions to zero, where FAVE is to be it."""
    how = environment.idler()
    if not how:
        yield
        return
    if bench.platform.capabilities().known:
        raise ConfigError(f"IDLER={how}: this platform scales idle functions to zero itself", hint="leave it out")
    command = [sys.executable, "-m", "regimes", "idler", "--workload", campaign.experiment.workload]
    works = campaign.experiment.works(campaign.experiment.loads)
    command += ["--functions", *sorted({name for work in works for name in work.functions})]
    log = campaign.folder / "idler.log"
    campaign.progress.say(f"scaling idle functions to zero is FAVE's idler's work: {_shown(log)}")
    flags = ["--dry-run"] if how == "dry" else []
    with OwnedProcess("idler", [*command, *flags], log=log, cwd=ROOT) as idler:
        yield
        if not idler.running():
            raise PlatformError(f"the idler ended:\n{idler.log_tail()}")


@contextlib.contextmanager
def _shipped(campaign: Campaign, bench: Bench) -> Iterator[None]:
    """The run folder goes to the object store every few seconds, and as it is at the end, where that is asked for."""
    if not environment.ships_runs():
        yield
        return
    shipping, over = Shipping(campaign.folder, bench.store), threading.Event()

    def ship() -> None:
        try:
            shipping.ship()
        except (FaveError, OSError) as error:  # the next round sends what this one did not
            campaign.progress.say(f"note: not in the object store yet: {error}")

    def go_on() -> None:
        while not over.wait(_SHIP_EVERY_S):
            ship()

    thread = threading.Thread(target=go_on, name="shipping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        ship()
        campaign.progress.say(f"in the object store: make fetch RUN={campaign.folder.name}")


def _leave_as_found(campaign: Campaign, bench: Bench, found: set[str]) -> None:
    """Functions of others scale as they did, and on somebody's platform FAVE's own go: also after an interrupt.

    found: FAVE's functions that were there before.
    """
    work, platform, say = campaign.experiment.work, bench.platform, campaign.progress.say
    try:
        if not work.deploy:
            say(f"put back as they were: {', '.join(platform.give_back(work.functions))}")
        elif not platform.capabilities().known:
            own = {name for each in campaign.experiment.works(campaign.experiment.loads) for name in each.functions}
            left = sorted((platform.changeable(work, []) - found) & own)
            with ThreadPoolExecutor(_REMOVED_AT_ONCE) as threads:  # each waits for pods that end
                list(threads.map(platform.remove, left))
            say(f"removed again: {', '.join(left) or 'nothing'}")
    except FaveError as error:  # must not take the place of what ended the campaign
        campaign.progress.complain(str(error))


def _begin(campaign: Campaign, bench: Bench) -> None:
    """Try what the platform can do, where its kind does not say; touch the caches, after each new start of the
    platform; write the manifest, once.
    """
    folder, progress = campaign.folder, campaign.progress
    probed = _probed(campaign, bench)
    progress.phase("touching caches")
    began_s = monotonic_s()
    touched = touch_caches(bench, list(campaign.experiment.loads))
    progress.caches_touched(monotonic_s() - began_s)
    # Only now: images are those of functions that are deployed.
    found = facts.of_campaign(campaign.name, folder.name, plan(campaign.experiment), bench, probed, touched)
    if (folder / "campaign.json").exists():
        then = record.manifest(folder)
        _refuse_unlike(folder, facts.unlike(record.known(then), record.known(found)))
        changes = facts.told(record.known(then), record.known(found))
        for change in changes:
            progress.say(f"note: {change}")
        campaign.journal.note("campaign_resumed", changes=changes, load_1min=found.host["load_1min"])
    else:
        record.write(folder, "campaign.json", found)
        progress.say(f"results go to {_shown(folder)}, the report to {_shown(folder / 'report.html')}")
        campaign.journal.note("campaign_started", source=found.source, load_1min=found.host["load_1min"])
    campaign.journal.note("caches_touched", functions=touched.functions, storage=_storage(bench))


def _probed(campaign: Campaign, bench: Bench) -> Probe | None:
    """Raises ConfigError for a regime that this platform cannot be in, before any function of the workload is there."""
    work, experiment = campaign.experiment.work, campaign.experiment
    if bench.platform.capabilities().known or not work.deploy:
        return None
    campaign.progress.phase("trying what the platform can do")
    found = probe(bench.platform, work, say=campaign.progress.say)
    problems = unmeasurable(found, experiment.gates)
    problems += [
        f"regime {regime}: {problem}"
        for load in experiment.loads
        for arm in experiment.regimes_of(load)
        for regime in experiment.regimes_in(arm)
        for problem in refused(found, experiment.policies(load, arm, regime), idled=environment.idler() == "on")
    ]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)), hint="leave the regime out; `make probe` shows what there is")
    return found


def _storage(bench: Bench) -> dict[str, int]:
    sizes_bytes = bench.store.sizes_bytes(keys.REQUESTS)
    return {"objects": len(sizes_bytes), "bytes": sum(sizes_bytes.values())}


def _run_groups(campaign: Campaign, bench: Bench) -> None:
    """What is not done yet, block by block in planned order; looks are taken where they are due."""
    experiment, folder = campaign.experiment, campaign.folder
    reported_s = -_REPORT_EVERY_S
    while True:
        groups = left(experiment, folder)
        look = due(experiment, folder, [group.block for group in groups])
        if look is not None:
            _look(campaign, look)
            continue
        if not groups:
            return
        block = groups[0].block
        for group in groups:
            if group.block == block:
                _run_group(campaign, bench, group, standing(group, folder))
        _tell_next_look(campaign, block + 1)
        more = any(group.block > block for group in groups)
        if more and monotonic_s() - reported_s >= _REPORT_EVERY_S:
            campaign.progress.phase("writing a first report")
            _report(campaign, last=False)
            campaign.journal.note("report", block=block)
            reported_s = monotonic_s()


def _tell_next_look(campaign: Campaign, blocks: int) -> None:
    ahead = next((look for look in campaign.experiment.looks if look > blocks), None)
    if ahead is not None:
        groups = [group for group in left(campaign.experiment, campaign.folder) if group.block < ahead]
        expected = duration(forecast_s(campaign.experiment, groups))
        campaign.progress.say(f"block {blocks} is done; next look after {ahead} blocks, in about {expected}")


def _look(campaign: Campaign, look: int) -> None:
    """Judge what there is; loads that are decided end.

    Raises
    ------
    FaveError
        When there is no report to decide from.
    """
    experiment, folder, progress = campaign.experiment, campaign.folder, campaign.progress
    before = left(experiment, folder)
    if _report(campaign, last=False):
        raise FaveError(f"the look after {look} blocks cannot decide without a report")
    results = record.read(folder, "results.json", Results)
    found = take(experiment, results, look, folder)
    campaign.journal.note("look", blocks=look, ended=found.ended)
    ahead = next((each for each in experiment.looks if each > look), None)
    for line in outcome.at_look(results, look, ahead, list(found.ended)):
        progress.say(line)
    after = left(experiment, folder)
    gone = [group for group in before if group not in after]
    if gone:
        progress.more(-sum(len(group.cells) for group in gone), -forecast_s(experiment, gone))


def _run_group(campaign: Campaign, bench: Bench, group: Group, found: Standing) -> None:
    """All regimes of a block and load; together again when one came out invalid, as often as the experiment allows."""
    experiment, journal, progress = campaign.experiment, campaign.journal, campaign.progress
    if of_record(experiment.work) != record.manifest(campaign.folder).workload:
        raise ConfigError(
            "the workload has changed since the campaign began", hint="put it back and resume, or run anew"
        )
    expected_s = forecast_s(experiment, [group]) / len(group.cells)
    for more in range(experiment.attempts - found.invalid):
        attempt = found.attempts + 1 + more
        if more:
            progress.more(len(group.cells), expected_s * len(group.cells))
        all_valid = True
        for cell in group.cells:
            cell_dir = CellDir(campaign.folder / "cells" / cell.folder(attempt))
            progress.running(cell, experiment.loads[cell.load].traffic.duration)
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
        all_valid &= _judged_by_reference(campaign, group, attempt)
        if all_valid:
            return
        journal.note("group_invalid", block=group.block, load=group.load, attempt=attempt)


def _judged_by_reference(campaign: Campaign, group: Group, attempt: int) -> bool:
    """Judge the runs again that were judged before there was a reference for their lag: it comes from them."""
    experiment, cells = campaign.experiment, campaign.folder / "cells"
    reference_s = reference(cells, group.load, experiment.regimes_of(group.load))
    all_valid = True
    for cell_dir in (CellDir(cells / cell.folder(attempt)) for cell in group.cells):
        observed = record.read(cell_dir.path, cell_dir.verdict.name, record.Judged).observed
        if observed is not None and observed.reference_latency_s is None and reference_s is not None:
            verdict = write_verdict(cell_dir, observed, experiment.gates, reference_s)
            if not verdict.valid:
                campaign.progress.say(f"{cell_dir.path.name} is invalid after all: {'; '.join(verdict.reasons())}")
            all_valid &= verdict.valid
    return all_valid


def _report(campaign: Campaign, *, last: bool) -> int:
    """As a process of its own: scipy and matplotlib stay out of the driver. Returns 0 when there is a report.

    Its exit code says more, but about a campaign that may go on.
    """
    folder, progress = campaign.folder, campaign.progress
    done = ask_door("analysis", "report", str(folder))
    if not done.stdout.strip():
        progress.complain(f"no report: {done.stderr.strip().removeprefix('error: ')}")
        return done.returncode or 1
    progress.say(done.stdout.rstrip() if last else f"report so far: {_shown(folder / 'report.html')}")
    return 0


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
