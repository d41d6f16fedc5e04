"""Memory as a result: what each function's invocations took, and the smallest limit that this is evidence for."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence

from scipy.stats import binom

from analysis.answers.cells import held
from analysis.rows.digest import Digest
from analysis.rows.folder import Campaign
from analysis.words import Table, number, percent
from fave.campaign.record import Manifest
from fave.campaign.results import AtLimit, Memory, Prices, Recommendation

# The smallest safe limit is the highest peak seen times the margin, rounded up to the step.
MARGIN = 1.25
STEP_MB = 64
# A fall of a limit that is worth a line.
_WORTH = 0.25
_QUANTILE, _CONFIDENCE = 0.99, 0.95
# So many invocations put the highest peak above the 99th percentile in 95 % of cases: 0.99^299 < 0.05.
NEEDED = math.ceil(math.log(1 - _CONFIDENCE) / math.log(_QUANTILE))
_BYTES = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "K": 10**3, "M": 10**6, "G": 10**9}


def memory(campaign: Campaign, digests: Sequence[Digest], prices: Prices | None) -> list[Memory]:
    """By function, over all runs whose rows can be believed: a peak is one whether or not the load was as planned."""
    functions = sorted({name for each in digests for name in each.memory})
    kills_told = bool(
        any(each.has_events for each in digests)
        or campaign.facts.capabilities.get("replica_events")
        or campaign.facts.nodes
    )
    return [_function(name, campaign, digests, prices, kills_told=kills_told) for name in functions]


def _function(
    name: str, campaign: Campaign, digests: Sequence[Digest], prices: Prices | None, *, kills_told: bool
) -> Memory:
    mine = [each for each in digests if name in each.memory and not each.problems]
    taken = [each.memory[name] for each in mine]
    peaks: Counter[float] = sum((Counter(each.peaks_mb) for each in taken), Counter())
    unknown = sum(each.unknown for each in taken)
    starts = [each.start_peak_mb for each in taken]
    start_mb = max((s for s in starts if s is not None), default=None) if None not in starts else None
    # Kills also of runs that are not believed otherwise.
    killed = [
        each.run.memory_limit_mb.get(name, 0)
        for each in digests
        for end in each.ended_badly
        if (end.event, end.function) == ("oom_killed", name)
    ]
    limit_mb = max((each.run.memory_limit_mb.get(name, 0) for each in digests if name in each.memory), default=0)
    top = max(peaks, default=None)
    safe_mb, reason = _safe(top, start_mb, unknown, killed, kills_told=kills_told)
    p99_mb, p99_reason = _p99_everywhere(name, mine)
    node_mb = _node_mb(campaign.facts)
    return Memory(
        function=name,
        limit_mb=limit_mb,
        peak_mb=top,
        start_peak_mb=start_mb,
        share_of_limit=top / limit_mb if top is not None and limit_mb else None,
        p99_upper_mb=p99_mb,
        p99_reason=p99_reason,
        invocations=peaks.total(),
        without_peak=unknown,
        runs=len(mine),
        replicas=sum(each.replicas for each in taken),
        kills=len(killed) if kills_told else None,
        inputs=_inputs(campaign, sorted({each.run.load for each in mine})),
        safe_limit_mb=safe_mb,
        rule=f"highest peak x {MARGIN:g}, rounded up to {STEP_MB} MB",
        reason=reason,
        now=_at(limit_mb, name, mine, node_mb, prices),
        at_safe_limit=_at(safe_mb, name, mine, node_mb, prices) if safe_mb else None,
    )


def _safe(
    top: float | None, start_mb: float | None, unknown: int, killed: Sequence[int], *, kills_told: bool
) -> tuple[int | None, str]:
    if top is None:
        return None, "no invocation left a peak"
    if unknown:
        return None, f"invocations that left no peak, and may have taken more: {unknown}"
    if not kills_told:
        return None, "the platform does not tell of memory kills"
    safe_mb = STEP_MB * math.ceil(MARGIN * max(top, start_mb or 0.0) / STEP_MB)
    if killed and max(killed) >= safe_mb:
        kills = sum(limit >= safe_mb for limit in killed)
        return None, f"replicas killed at {max(killed)} MB, whose need is not known: {kills}"
    return safe_mb, "" if start_mb is not None else "what starting a replica takes was not recorded"


def _p99_everywhere(name: str, mine: Sequence[Digest]) -> tuple[float | None, str]:
    """Loads differ in what they give a function, so the bound must hold in each by itself: the highest of them."""
    bounds, reasons = [], []
    for load in sorted({each.run.load for each in mine}):
        taken = [each.memory[name] for each in mine if each.run.load == load]
        peaks: Counter[float] = sum((Counter(each.peaks_mb) for each in taken), Counter())
        bound, reason = upper_p99(peaks, sum(each.unknown for each in taken))
        bounds += [bound] if bound is not None else []
        reasons += [f"{reason} ({load})"] if reason else []
    return (None, "; ".join(reasons)) if reasons else (max(bounds, default=None), "")


def upper_p99(peaks: Counter[float], unknown: int = 0) -> tuple[float | None, str]:
    """The one-sided 95 % upper bound of the 99th percentile, by order statistics; unknown peaks count as the highest.

    The k-th smallest of n is one where at least k-1 of n fall below the percentile in 95 % of cases: for n = 299 the
    highest, for more one further down.
    """
    n = peaks.total() + unknown
    if n < NEEDED:
        return None, f"a 95 % upper bound of the 99th percentile needs {NEEDED} invocations, these are {n}"
    k = int(binom.ppf(_CONFIDENCE, n, _QUANTILE)) + 1
    below = 0
    for peak, count in sorted(peaks.items()):
        below += count
        if below >= k:
            return peak, ""
    return None, f"the bound lies among the {unknown} invocations that left no peak"


def _at(limit_mb: int, name: str, mine: Sequence[Digest], node_mb: float | None, prices: Prices | None) -> AtLimit:
    """Memory scales with the limit: seconds stay as they were measured."""
    gb = limit_mb / 1024
    executed = statistics.fmean(each.memory[name].service_s / each.window_s for each in mine) * gb if mine else None
    seconds = [held(each).replica_s.get(name) for each in mine]
    known = [s / each.window_s for s, each in zip(seconds, mine, strict=True) if s is not None]
    provisioned = statistics.fmean(known) * gb if known and len(known) == len(seconds) else None
    return AtLimit(
        executed_gb=executed,
        provisioned_gb=provisioned,
        executed_money=None if prices is None or executed is None else executed * 3600 * prices.per_gb_s_executed,
        provisioned_money=None if prices is None or provisioned is None else provisioned * 3600 * prices.per_gb_s_held,
        replicas_per_node=int(node_mb // limit_mb) if node_mb and limit_mb else None,
    )


def _node_mb(facts: Manifest) -> float | None:
    """The memory of the smallest node; of the machine itself where replicas are processes on it."""
    if facts.embedded:
        kb = facts.host.get("memory_kb")
        return kb / 1024 if kb else None
    sizes = [re.fullmatch(r"(\d+)([KMG]i?|)", node.get("memory") or "") for node in facts.nodes]
    known = [int(size[1]) * _BYTES[size[2]] / 2**20 for size in sizes if size]
    return min(known, default=None)


def _inputs(campaign: Campaign, loads: Sequence[str]) -> list[str]:
    """What the functions were given, as loads and requests name it."""
    found: list[str] = []
    for load in loads:
        if load not in campaign.experiment.loads:
            continue
        about = campaign.experiment.loads[load]
        asked = campaign.workload.requests
        mine = [asked[about.target]] if about.target in asked else list(asked.values()) if not about.target else []
        for variables in [each.variables | about.variables for each in mine] or [about.variables]:
            named = [f"{name} {text}" for name, text in variables.items() if isinstance(text, str) and "{" not in text]
            # Where they lie in the store is the same for all.
            found += [each.removeprefix("s3://{bucket}/") for each in variables.get("inputs") or named]
    return sorted(set(found))


def advice(found: Sequence[Memory]) -> list[Recommendation]:
    """One line for all functions whose limit could fall by more than a quarter."""
    lower = [each for each in found if each.safe_limit_mb and each.safe_limit_mb < (1 - _WORTH) * each.limit_mb]
    if not lower:
        return []
    shown = ", ".join(f"{each.function} from {each.limit_mb} to {each.safe_limit_mb} MB" for each in lower)
    inputs = ", ".join(sorted({name for each in lower for name in each.inputs}))
    least = min(lower, key=lambda each: each.invocations)
    bounded = sum(each.p99_upper_mb is not None for each in lower)
    unrecorded = "; what starting a replica takes was not recorded" * any(each.start_peak_mb is None for each in lower)
    return [
        Recommendation(
            text=f"Memory limits could fall by more than a quarter: {shown}.",
            evidence=f"{lower[0].rule}; at least {least.invocations} invocations each, in at least {least.runs} runs; "
            f"a bound of the 99th percentile for {bounded} of {len(lower)}, which needs {NEEDED} invocations in each "
            f"load{unrecorded}; measured on this workload's inputs only: {inputs}",
            holds=f"for inputs that take no more memory than these: {inputs}",
        )
    ]


def table(found: Sequence[Memory]) -> Table:
    rows = [
        (
            each.function,
            str(each.limit_mb),
            number(each.peak_mb),
            number(each.start_peak_mb),
            "-" if each.share_of_limit is None else percent(each.share_of_limit),
            number(each.p99_upper_mb),
            f"{each.invocations}, {each.runs}, {each.replicas}",
            "-" if each.kills is None else str(each.kills),
            str(each.safe_limit_mb or "-"),
            _both(each, "executed_gb"),
            _both(each, "provisioned_gb"),
            *((_both(each, "executed_money"), _both(each, "provisioned_money")) if _priced(found) else ()),
            _both(each, "replicas_per_node"),
        )
        for each in found
    ]
    columns = (
        "function",
        "limit, MB",
        "highest peak, MB",
        "until ready, MB",
        "of the limit",
        "p99 at most, MB",
        "invocations, runs, replicas",
        "kills",
        "smallest safe limit, MB",
        "executed GB-s/s, now / then",
        "held GB-s/s, now / then",
        *(("price an hour, executed, now / then", "price an hour, held, now / then") if _priced(found) else ()),
        "replicas per node, now / then",
    )
    return Table("Memory", columns, rows, [_NOTE, *_reasons(found)])


_NOTE = (
    f"smallest safe limit: the highest peak seen x {MARGIN:g}, rounded up to {STEP_MB} MB; for the inputs that were "
    "measured, larger ones may take more. p99 at most: 95 % upper bound of the 99th percentile, as if invocations were "
    "independent, in the load where it is highest. until ready: highest peak of a starting replica. A node's whole "
    "memory is counted, nothing set aside"
)


def _priced(found: Sequence[Memory]) -> bool:
    return any(each.now.executed_money is not None for each in found)


def _both(each: Memory, figure: str) -> str:
    now, then = (getattr(at, figure, None) for at in (each.now, each.at_safe_limit))
    return f"{number(now)} / {number(then)}"


def _reasons(found: Sequence[Memory]) -> list[str]:
    """Each reason once, with the functions that it is about."""
    about: dict[str, list[str]] = {}
    for each in found:
        for reason in filter(None, (each.reason, each.p99_reason)):
            about.setdefault(reason, []).append(each.function)
    return [f"{', '.join(functions)}: {reason}" for reason, functions in about.items()]
