"""From a campaign's digests to `results.json`: every number of the report, with interval, n and method."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec

from analysis.answers import (
    advice,
    anomalies,
    capacity,
    contrasts,
    controls,
    foresight,
    guards,
    memory,
    phases,
    scorecard,
    trends,
    variates,
)
from analysis.answers.cells import cell, in_cell
from analysis.rows import fidelity
from analysis.rows.digest import Digest, cold_outcome, limit_s, unsound
from analysis.rows.folder import Campaign, Run, used_runs
from fave.campaign import thresholds
from fave.campaign.results import About, Excluded, Looks, Prices, Results, Validity
from fave.campaign.validity import JUDGES, Gates
from fave.settings import to_plain


def results(campaign: Campaign, digests: Sequence[Digest], prices: Prices | None = None) -> Results:
    """digests: of all finished runs. prices: instead of the experiment's."""
    experiment = campaign.experiment
    prices = prices or experiment.prices
    used = [run.key for run in used_runs(campaign.runs, experiment, unsound(digests))]
    mine = [each for each in digests if each.run.key in used]
    runs = [each.run for each in mine]
    cells = [
        cell(
            load, regime, each, cold_outcome(experiment), limit_s(experiment, load), in_cell(mine, load, regime), prices
        )
        for load, each in experiment.loads.items()
        for regime in experiment.regimes_of(load)
    ]
    plan = contrasts.planned(experiment)
    shown = plan + contrasts.planned(experiment, descriptive=True)
    excluded = [each for each in digests if each.run.key not in used and not each.problems]
    primary = experiment.primary_outcome
    primary_plan = [each._replace(outcome=primary) for each in plan]
    tested = contrasts.of_family(
        experiment, primary_plan, mine, excluded, functools.partial(_arms, campaign), _reached(campaign)
    )
    rates, effects = ([row for row in tested if (len(row.weights) == 2) is pair] for pair in (True, False))
    beside = contrasts.secondary(experiment, plan, mine)
    even = contrasts.break_even(shown, mine)
    swept = foresight.sweeps(campaign, mine)
    warned = advice.failing(cells, rates)
    fronts = foresight.fronts([each for each in cells if (each.load, each.regime) not in warned])
    kept = foresight.kept_stages(campaign, cells, mine)
    taken = memory.memory(campaign, digests, prices)
    ratios = contrasts.ratios(shown, mine)
    return Results(
        campaign=_about(campaign),
        primary_outcome=primary,
        cells=cells,
        contrasts=rates,
        effects=effects,
        secondary_contrasts=beside,
        ratios=ratios,
        break_even=even,
        sweeps=swept,
        fronts=fronts,
        kept_stages=kept,
        memory=taken,
        thresholds=thresholds.evaluate(experiment.thresholds, msgspec.to_builtins(cells), [*rates, *beside], ratios),
        guards=guards.guards(experiment, [*rates, *beside]),
        switches=phases.switches(experiment, mine),
        phases=phases.phases(experiment, mine),
        controls=controls.check(campaign, mine, rates),
        capacity=capacity.ladder(campaign, runs),
        looks=Looks(planned=list(experiment.looks), taken=list(campaign.stopping.taken), ended=campaign.stopping.ended),
        load_as_sent=fidelity.load_as_sent((each.run, each.fidelity) for each in digests),
        anomalies=[*anomalies.anomalies(digests), *trends.anomalies(mine, cold_outcome(experiment))],
        recommendations=[*advice.recommendations(cells, rates, fronts, swept, kept), *memory.advice(taken)],
        scorecard=scorecard.scorecard(campaign, runs, cells, rates, prices),
        prices=prices,
        validity=_validity(campaign, digests, runs),
    )


def _arms(campaign: Campaign, digests: Sequence[Digest]) -> contrasts.Arms:
    """Simulated when a look asks for them, and once."""
    return functools.cache(functools.partial(variates.arms, campaign, digests, campaign.experiment.primary_outcome))


def _reached(campaign: Campaign) -> dict[str, int]:
    """By load, how many blocks it has behind it: finished in every regime, valid or not."""
    found: dict[str, int] = {}
    for load in campaign.experiment.loads:
        regimes = set(campaign.experiment.regimes_of(load))
        blocks: dict[int, set[str]] = {}
        for run in campaign.runs:
            if run.load == load:
                blocks.setdefault(run.block, set()).add(run.regime)
        found[load] = max((block + 1 for block, there in blocks.items() if there >= regimes), default=0)
    return found


def _about(campaign: Campaign) -> About:
    experiment = campaign.experiment
    return About(
        name=campaign.name,
        experiment=campaign.facts.name,
        description=experiment.description,
        seed=experiment.seed,
        started_at_ns=campaign.facts.started_at_ns,
        co_located=campaign.facts.co_located,
        equivalence_margin=experiment.equivalence_margin,
    )


def _validity(campaign: Campaign, digests: Sequence[Digest], used: Sequence[Run]) -> Validity:
    experiment = campaign.experiment
    keys = {run.key for run in used}
    excluded = [
        Excluded(
            cell=each.run.folder,
            reasons=[*each.run.verdict.reasons(), *each.problems] or ["another run of its block is invalid or missing"],
        )
        for each in digests
        if each.run.key not in keys
    ]
    # A load that was decided is not run any further.
    planned = len(campaign.facts.order) - sum(
        (experiment.loads[load].blocks - blocks) * len(experiment.regimes_of(load))
        for load, blocks in campaign.stopping.ended.items()
    )
    notes = ["generator and system share one machine"] if campaign.facts.co_located else []
    if campaign.cut_short:
        notes.append(f"begun and cut short, repeated with their block: {', '.join(campaign.cut_short)}")
    notes += [note for each in digests for note in each.fidelity_notes]
    lags = [f.observed for each in digests for f in each.run.verdict.findings if f.gate == "schedule_lag_p99_s"]
    return Validity(
        valid=bool(used) and len(used) == planned and not campaign.unreadable,
        runs_planned=planned,
        runs_used=len(used),
        excluded=excluded,
        findings=_findings(campaign, digests, used),
        worst_schedule_lag_p99_s=max((lag for lag in lags if lag is not None), default=None),
        gates=_judged_by(experiment.gates, digests),
        notes=notes,
    )


def _judged_by(gates: Gates, digests: Sequence[Digest]) -> dict[str, float]:
    """The limits that some run was held against: a campaign of an earlier version knew fewer."""
    judged = {finding.gate for each in digests for finding in each.run.verdict.findings}
    return {name: limit for name, limit in to_plain(gates).items() if JUDGES.get(name, name) in judged}


def _findings(campaign: Campaign, digests: Sequence[Digest], used: Sequence[Run]) -> list[str]:
    """What is wrong with the data, run by run, and cells that have none or no answer in them."""
    found = list(campaign.unreadable)
    found += [f"{each.run.folder}: {problem}" for each in digests for problem in each.problems]
    for load in campaign.experiment.loads:
        blocks = {run.block for run in used if run.load == load}
        for regime in campaign.experiment.regimes_of(load):
            mine = [each for each in in_cell(digests, load, regime) if each.run in used]
            if not mine:
                found.append(f"{load}, {regime}: no valid run")
            elif not any(each.statuses.get("ok") for each in mine):
                found.append(f"{load}, {regime}: none of {sum(each.requests for each in mine)} requests was answered")
        if len(blocks) == 1 and not campaign.experiment.loads[load].descriptive:
            found.append(f"{load}: a single block; nothing can be compared")
    return found
