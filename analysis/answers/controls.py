"""Did the instrument give the answers that are known beforehand? A/A, positive and negative control, theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from analysis.rows.digest import Digest
from analysis.rows.folder import Campaign, Run
from analysis.rows.simulate import Times, simulate
from analysis.statistics.clustered import Clustered
from analysis.statistics.compare import interval, tost_p, two_sided
from analysis.words import p_value, points
from fave.campaign.experiment import Control
from fave.campaign.outcomes import OUTCOMES
from fave.campaign.results import Checked, Contrast
from fave.campaign.validity import at_most, below

State = Literal["passed", "failed", "undecided"]
_ALPHA = 0.05
# Points by which a system may miss theory; with so many arrivals right ones are within it (docs/methodology.md).
_MARGIN = 0.02
_ENOUGH_ARRIVALS = 1000
_SLICES = 20

COLUMNS = ("control", "load", "regimes", "expected", "measured", "p", "result")


def check(campaign: Campaign, used: Sequence[Digest], contrasts: Sequence[Contrast]) -> list[Checked]:
    """Every control of the experiment. used: the runs that count; contrasts: those of results.json."""
    found: list[Checked] = []
    for control in campaign.experiment.controls:
        mine = [each for each in used if each.run.load == control.load and each.run.regime in control.regimes]
        if control.kind == "same":
            found.append(_same(control, contrasts))
        elif control.kind == "theory":
            found += _theory(campaign, control, mine)
        else:
            found.append(_exactly(campaign, control, [each.run for each in mine]))
    return found


def _same(control: Control, contrasts: Sequence[Contrast]) -> Checked:
    pair = control.regimes
    row = next((r for r in contrasts if r.load == control.load and (r.a, r.b) == pair), None)
    about: dict[str, Any] = {"kind": "same", "load": control.load, "regimes": pair}
    if row is None or row.difference is None:
        reason = row.reason if row else "no such contrast"
        return Checked(**about, expected="no difference", measured="-", state="undecided", reason=reason)
    margin, interval = row.margin, row.ci95
    about_outcome = OUTCOMES[row.outcome]
    least = about_outcome.off_scale(-about_outcome.on_scale(margin))
    expected = f"no difference, interval within ±{margin * 100:g} {about_outcome.difference_unit}"
    if interval is None:
        state: State = "passed" if at_most(abs(row.difference), 0) else "failed"
        measured = f"{row.difference * 100:+.1f} in each of {row.blocks} blocks"
        return Checked(**about, expected=expected, measured=measured, state=state)
    measured = f"{row.difference * 100:+.1f} [{interval[0] * 100:+.1f}, {interval[1] * 100:+.1f}]"
    different = row.p_holm is not None and below(row.p_holm, _ALPHA)
    inside = below(least, interval[0]) and below(interval[1], margin)
    state = "failed" if different else "passed" if inside else "undecided"
    reason = "" if state != "undecided" else "the interval is wider than the margin: more blocks decide"
    return Checked(**about, expected=expected, measured=measured, p=row.p_holm, state=state, reason=reason)


def _exactly(campaign: Campaign, control: Control, runs: list[Run]) -> Checked:
    always = control.kind == "always-cold"
    rows = [campaign.rows(run) for run in runs]
    labels = [each.stages["cold"] for each in rows]
    # A request that was dropped or lost may have no invocation: it is no proof of anything.
    without = sum(each.requests.join(each.stages, on="request_id", how="anti").height for each in rows)
    total, cold = sum(len(each) for each in labels) + without, sum(int(each.sum()) for each in labels)
    unknown = sum(each.null_count() for each in labels) + without
    right = cold == (total if always else 0) and not unknown
    return Checked(
        kind=control.kind,
        load=control.load,
        regimes=control.regimes,
        expected="exactly 100 % cold" if always else "exactly 0 % cold",
        measured=f"{cold} of {total} cold" + (f", {unknown} unknown" if unknown else ""),
        state="undecided" if not total else "passed" if right else "failed",
        reason="" if total else "no valid run",
    )


def _theory(campaign: Campaign, control: Control, used: Sequence[Digest]) -> list[Checked]:
    """Triggered and affected arrivals against the simulator's, which gets the same arrivals, each arrival's own service
    time and the starts in their order: all that is left to differ is what the system decided.

    It is *equivalence* that is tested: a system that is slightly wrong must not pass because the test is weak.
    """
    about: dict[str, Any] = {"kind": "theory", "load": control.load, "regimes": control.regimes}
    known = [each for each in used if each.predicted and each.predicted.seen.start_s]
    if not known:
        reason = "no valid run" if not used else "no cold start, or no warm answer, to take the times from"
        return [Checked(**about, expected="-", measured="-", state="undecided", reason=reason)]
    arrivals = pl.concat([_beside_simulated(campaign, each) for each in known])
    return [_equivalent(about, name, arrivals) for name in ("triggered", "affected")]


def _beside_simulated(campaign: Campaign, each: Digest) -> pl.DataFrame:
    """Per arrival and in order: whether it triggered a start and was affected, as measured and as simulated."""
    one, rows = each.predicted, campaign.rows(each.run)
    assert one is not None
    began = rows.replicas.filter((pl.col("event") == "start") & (pl.col("request_id") != ""))["request_id"]
    took_s = (pl.col("returned_at_ns") - pl.col("sent_at_ns")) / 1e9 - pl.col("cold_wait_s") - pl.col("queue_s")
    served = rows.stages.group_by("request_id").agg(
        took_s.max().clip(lower_bound=0.0).alias("took_s"), (pl.col("evidence") == "undecided").any().alias("undecided")
    )
    sent = rows.requests.filter(pl.col("sent_at_ns") > 0).sort("sent_at_ns")
    sent = sent.join(served, on="request_id", how="left", maintain_order="left")
    took = sent["took_s"].fill_null(strategy="mean").fill_null(0.0).to_numpy()
    found = simulate(one.arrivals_s, one.function, Times(took, np.array(one.seen.start_s)), one.initial)
    return sent.select(
        pl.col("request_id").is_in(began.to_list()).alias("triggered"),
        # Who came between stamp and event had to wait for the event, as the simulator has it. Without a label it counts
        # as warm: a system that loses labels must not pass.
        (pl.col("cold").fill_null(value=False) | pl.col("undecided").fill_null(value=False)).alias("affected"),
        pl.Series("simulated triggered", found.triggered),
        pl.Series("simulated affected", found.affected),
    )


def _equivalent(about: dict[str, Any], name: str, arrivals: pl.DataFrame) -> Checked:
    """Slices of the run are the unit: differences come in clusters, a start's own arrival and those that find it."""
    measured, simulated = (arrivals[column].to_numpy().astype(float) for column in (name, f"simulated {name}"))
    slices = [float(part.mean()) for part in np.array_split(measured - simulated, _SLICES)]
    found = Clustered(float(np.mean(slices)), float(np.std(slices, ddof=1) / math.sqrt(_SLICES)), _SLICES - 1)
    low, high = interval(found, 1 - 2 * _ALPHA)
    p = tost_p(found, _MARGIN) if found.error else float(abs(found.estimate) >= _MARGIN)
    differs = below(two_sided(found), _ALPHA) if found.error else abs(found.estimate) >= _MARGIN
    n = len(measured)
    enough = n >= _ENOUGH_ARRIVALS
    state: State = "passed" if below(p, _ALPHA) else "failed" if differs else "undecided"
    reason = (
        f"{name}: measured - simulated {points(found.estimate)} points [{points(low)}, {points(high)}] (90 %), "
        f"margin ±{100 * _MARGIN:g}"
    )
    return Checked(
        **about,
        expected=f"{name} {simulated.mean() * 100:.1f} % ± {100 * _MARGIN:g} points",
        measured=f"{measured.mean() * 100:.1f} % ({round(measured.sum())} of {n})",
        p=p,
        state=state if enough else "undecided",
        reason=reason + ("" if enough else f"; {n} arrivals, {_ENOUGH_ARRIVALS} are needed"),
    )


def rows(checked: Sequence[Checked]) -> list[tuple[str, ...]]:
    return [
        (
            each.kind,
            each.load,
            ", ".join(each.regimes),
            each.expected,
            each.measured,
            p_value(each.p),
            each.state,
        )
        for each in checked
    ]


def notes(checked: Sequence[Checked]) -> list[str]:
    """What a result rests on, or why there is none."""
    told = [f"{each.kind}, {each.load}: {each.reason}" for each in checked if each.reason]
    return list(dict.fromkeys(told))
