"""The eight methodological principles (Papadopoulos et al., IEEE TSE 47(8), 2021): what this campaign earns of each."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.rows.folder import Campaign, Run
from analysis.statistics.compare import CONFIRMATORY_BLOCKS
from fave.campaign.results import Cell, Contrast, Prices, Principle

_TITLES = (
    "Repeated experiments",
    "Workload and configuration coverage",
    "Experimental set-up described",
    "Open access artefact",
    "Result description as distributions",
    "Statistical evaluation",
    "Units of measurement",
    "Cost",
)
_OTHER_TIME_OF_DAY_H = 6.0
# Of traffic: what counts as a real trace, and what as widely spread.
_HIGH_CV_MODELS = ("lognormal", "weibull", "hyperexponential", "on-off")
_HIGH_CV = 2.0


def scorecard(
    campaign: Campaign, used: Sequence[Run], cells: Sequence[Cell], contrasts: Sequence[Contrast], prices: Prices | None
) -> list[Principle]:
    states = (
        _repeated(used, contrasts),
        _coverage(campaign),
        _setup(campaign),
        _artefact(campaign),
        ("earned", "ECDF of every run, percentiles per run with intervals, cold-start rates by level and by stage"),
        _statistics(contrasts),
        ("earned", "every column and axis has its unit; names of rows carry theirs (docs/metrics.md)"),
        _cost(cells, prices),
    )
    return [
        Principle(number=i + 1, title=title, state=state, evidence=evidence)
        for i, (title, (state, evidence)) in enumerate(zip(_TITLES, states, strict=True))
    ]


def _repeated(used: Sequence[Run], contrasts: Sequence[Contrast]) -> tuple[str, str]:
    blocks = min((row.blocks for row in contrasts), default=0)
    starts_ns = [run.started_at_ns for run in used]
    hours = (max(starts_ns) - min(starts_ns)) / 3.6e12 if starts_ns else 0.0
    said = f"{blocks} blocks of whole runs in random order, over {hours:.1f} hours"
    few, short = blocks < CONFIRMATORY_BLOCKS, hours < _OTHER_TIME_OF_DAY_H
    if not few and not short:
        return "earned", said
    lacks = [f"fewer than {CONFIRMATORY_BLOCKS} blocks"] * few + ["a single time of day"] * short
    return ("partly" if blocks >= 2 else "missing"), f"{said}: {', '.join(lacks)}"


def _coverage(campaign: Campaign) -> tuple[str, str]:
    loads = campaign.experiment.loads
    models = sorted({each.traffic.model for each in loads.values()})
    traced = "replay" in models
    spread = any(each.traffic.model in _HIGH_CV_MODELS or (each.traffic.cv or 0) >= _HIGH_CV for each in loads.values())
    said = f"traffic {', '.join(models)}; {len(campaign.regimes)} regimes"
    lacks = [name for name, there in (("a real trace", traced), ("a heavy-tailed load", spread)) if not there]
    if not lacks:
        return "earned", said
    return ("partly" if len(models) > 1 else "missing"), f"{said}; {' and '.join(lacks)} would be needed"


def _setup(campaign: Campaign) -> tuple[str, str]:
    wanted = ("host", "versions", "assets", "platform", "regimes", "schedules_sha256")
    lacks = [name for name in wanted if not getattr(campaign.facts, name)]
    if campaign.facts.source.dirty:
        lacks.append("a clean checkout (there were local changes)")
    if lacks:
        return "partly", f"not recorded: {', '.join(lacks)}"
    return (
        "earned",
        "node, CPU, versions, digests, probes, limits, labels by regime: campaign.json and cell.json, by itself",
    )


def _artefact(campaign: Campaign) -> tuple[str, str]:
    commit = campaign.facts.source.commit
    if not commit:
        return "partly", "raw rows, schema and schedules' digests; the source had no commit"
    return (
        "earned",
        f"raw rows, schema version, schedules' SHA-256, commit {commit[:12]}, and how to reproduce it below",
    )


def _statistics(contrasts: Sequence[Contrast]) -> tuple[str, str]:
    if not contrasts:
        return "missing", "no planned contrast"
    said = f"{len(contrasts)} planned contrasts: paired by block, intervals, Holm, sign-flip and equivalence beside it"
    exploratory = any(row.exploratory for row in contrasts)
    return ("partly", f"{said}; exploratory, for want of blocks") if exploratory else ("earned", said)


def _cost(cells: Sequence[Cell], prices: Prices | None) -> tuple[str, str]:
    known = all(cell.cost_gb_s.provisioned is not None for cell in cells if cell.runs)
    if not known:
        return "missing", "what replicas held is not known"
    said = "execution, held and idle GB-s, per request and hour; the generator's processor share"
    if prices is None:
        return "partly", f"{said}; no price table (python -m analysis report RUN --prices FILE)"
    return "earned", f"{said}; prices {prices.name} {prices.version}"
