"""What a campaign cannot say: from its own facts, so that no report leaves it out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from analysis.rows.digest import Digest
from analysis.rows.folder import Campaign
from fave.campaign.results import Results


def limits(campaign: Campaign, found: Results, used: Sequence[Digest]) -> list[str]:
    told = [
        *_machine(campaign),
        *_time(used),
        *_blocks(found),
        *_percentiles(found),
        *_ratio(campaign, used),
    ]
    descriptive = [load for load, each in campaign.experiment.loads.items() if each.descriptive]
    if descriptive and found.contrasts:
        told.append(f"{', '.join(descriptive)}: descriptive, too few blocks for a verdict.")
    if any(each.agrees is False for each in found.kept_stages):
        told.append("A prediction of what a stage kept warm saves was not confirmed by the runs that kept it.")
    told.append(
        "Recommendations from the simulator take service and cold-start times as they were measured; load changes both."
    )
    return told


def _machine(campaign: Campaign) -> list[str]:
    told = []
    if campaign.facts.co_located:
        told.append(
            f"Generator and system share one machine: they compete for its processors, and there is no network. "
            f"{_sharing(campaign)}"
        )
    if campaign.facts.embedded:
        told.append(
            "Replicas are processes, not containers: no image is pulled, no pod scheduled. Cold starts on a cluster "
            "are longer, so that more arrivals meet one."
        )
    for probe, functions in _probes(campaign).items():
        told.append(f"A start ends when the readiness probe says so: {probe} ({', '.join(functions)}).")
    if campaign.facts.idler == "on":
        told.append(
            "Idle functions were scaled to zero by FAVE's idler, not by the platform: idler.log says when and how late."
        )
    return told


def _probes(campaign: Campaign) -> dict[str, list[str]]:
    """How readiness is asked for, in words, and of which functions."""
    found: dict[str, list[str]] = {}
    for function, pod in campaign.facts.pods.items():
        probe = pod.get("readinessProbe")
        if probe:
            first_s, every_s = probe.get("initialDelaySeconds", 0), probe.get("periodSeconds", 10)
            found.setdefault(f"first after {first_s} s, then every {every_s} s", []).append(function)
    return found


def _sharing(campaign: Campaign) -> str:
    places = campaign.facts.platform.get("places")
    if not places:
        cores = campaign.facts.host.get("cores", "not recorded")
        return f"Nothing is pinned: all parts and replicas share its cores ({cores})."
    parts: dict[str, list[str]] = {}
    for part, cores in places.items():
        parts.setdefault(", ".join(map(str, cores)), []).append(part)
    pinned = "; ".join(f"{' and '.join(names)} on {cores}" for cores, names in parts.items())
    several = [name for name, load in campaign.experiment.loads.items() if load.processes > 1]
    wander = f" The generator of {', '.join(several)} has several processes and is not pinned." if several else ""
    return f"Cores: {pinned}. Caches, memory and, between hyperthreads, cores stay shared.{wander}"


def _time(used: Sequence[Digest]) -> list[str]:
    hours = sorted({datetime.fromtimestamp(each.run.started_at_ns / 1e9, tz=UTC).hour for each in used})
    return [f"One stretch of time (UTC hours {hours[0]} to {hours[-1]}), one machine or cluster."] if hours else []


def _blocks(found: Results) -> list[str]:
    few = sorted({f"{row.load} ({row.blocks})" for row in found.contrasts if row.exploratory})
    return [f"Exploratory for want of blocks: {', '.join(few)}. It suggests, it does not confirm."] if few else []


def _percentiles(found: Results) -> list[str]:
    missing = [n for n in ("p95", "p99") if all(cell.latency_s.percentile(n)[0] is None for cell in found.cells)]
    return [f"{' and '.join(missing)}: too few requests a run in every cell."] if missing else []


def _ratio(campaign: Campaign, used: Sequence[Digest]) -> list[str]:
    """Idle timeout over mean gap, of the regimes that scale to zero: elsewhere the share of cold starts is another."""
    ratios = {
        f"{each.predicted.function.idle_timeout_s / gap_s:.2g}"
        for each in used
        if each.predicted and each.predicted.function.min_replicas == 0
        if (gap_s := _gap_s(campaign, each.run.load))
    }
    if not ratios:
        return []
    shown = ", ".join(sorted(ratios, key=float))
    return [f"Idle timeout over mean gap was {shown}: this ratio sets the cold-start rate; other ratios give others."]


def _gap_s(campaign: Campaign, load: str) -> float:
    traffic = campaign.experiment.loads[load].traffic
    return traffic.duration / traffic.requests if traffic.requests else 0.0
