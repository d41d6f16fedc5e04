"""Did the instrument give the answers that are known beforehand? A/A, positive and negative control, theory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import polars as pl
from scipy import stats

from analysis.load import Campaign, Run
from analysis.measures import mean
from analysis.simulate import NO_QUEUE_S
from analysis.theory import single_replica
from fave.settings import Duration
from fave.validity import at_most, below

State = Literal["passed", "failed", "undecided"]
_ALPHA = 0.05
# Below it a deviation of 0.05 is seen with less than 90 % power.
_ENOUGH_ARRIVALS = 1000
_SETTLING = 3.0

COLUMNS = ("control", "load", "regimes", "expected", "measured", "p", "result")


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One known answer and what came out. p: of the binomial test, of a theory control."""

    kind: str
    load: str
    regimes: tuple[str, ...]
    expected: str
    measured: str
    state: State
    p: float | None = None
    reason: str = ""


def check(campaign: Campaign, runs: Sequence[Run], contrasts: list[dict[str, Any]]) -> list[Checked]:
    """Every control of the experiment. runs: those that are used; contrasts: those of results.json."""
    controls = campaign.experiment["controls"]
    # Two tests each: the chance that any of them fails without a reason stays at 5 %.
    alpha = _ALPHA / max(1, 2 * sum(control["kind"] == "theory" for control in controls))
    found: list[Checked] = []
    for control in controls:
        mine = [run for run in runs if run.load == control["load"] and run.regime in control["regimes"]]
        if control["kind"] == "same":
            found.append(_same(control, contrasts))
        elif control["kind"] == "theory":
            found += _theory(campaign, control, mine, alpha)
        else:
            found.append(_exactly(campaign, control, mine))
    return found


def _same(control: dict[str, Any], contrasts: list[dict[str, Any]]) -> Checked:
    pair = tuple(control["regimes"])
    row = next((r for r in contrasts if r["load"] == control["load"] and (r["a"], r["b"]) == pair), None)
    about = {"kind": "same", "load": control["load"], "regimes": pair}
    if row is None or row["risk_difference"] is None:
        reason = row["reason"] if row else "no such contrast"
        return Checked(**about, expected="no difference", measured="-", state="undecided", reason=reason)
    margin, interval = row["margin"], row["ci95"]
    expected = f"no difference, interval within ±{margin * 100:g} points"
    if interval is None:
        state: State = "passed" if at_most(abs(row["risk_difference"]), 0) else "failed"
        measured = f"{row['risk_difference'] * 100:+.1f} in each of {row['blocks']} blocks"
        return Checked(**about, expected=expected, measured=measured, state=state)
    measured = f"{row['risk_difference'] * 100:+.1f} [{interval[0] * 100:+.1f}, {interval[1] * 100:+.1f}]"
    different = row["p_holm"] is not None and below(row["p_holm"], _ALPHA)
    inside = below(-margin, interval[0]) and below(interval[1], margin)
    state = "failed" if different else "passed" if inside else "undecided"
    reason = "" if state != "undecided" else "the interval is wider than the margin: more blocks decide"
    return Checked(**about, expected=expected, measured=measured, p=row["p_holm"], state=state, reason=reason)


def _exactly(campaign: Campaign, control: dict[str, Any], runs: list[Run]) -> Checked:
    always = control["kind"] == "always-cold"
    rows = [campaign.rows(run) for run in runs]
    labels = [each.stages["cold"] for each in rows]
    # A request that was dropped or lost may have no invocation: it is no proof of anything.
    without = sum(each.requests.join(each.stages, on="request_id", how="anti").height for each in rows)
    total, cold = sum(len(each) for each in labels) + without, sum(int(each.sum()) for each in labels)
    unknown = sum(each.null_count() for each in labels) + without
    right = cold == (total if always else 0) and not unknown
    return Checked(
        kind=control["kind"],
        load=control["load"],
        regimes=tuple(control["regimes"]),
        expected="exactly 100 % cold" if always else "exactly 0 % cold",
        measured=f"{cold} of {total} cold" + (f", {unknown} unknown" if unknown else ""),
        state="undecided" if not total else "passed" if right else "failed",
        reason="" if total else "no valid run",
    )


def _theory(campaign: Campaign, control: dict[str, Any], runs: list[Run], alpha: float) -> list[Checked]:
    """Triggered and affected arrivals against the formula, with the service and cold-start times that were measured.

    Triggered arrivals are spread more evenly than a binomial law has it, so its test is on the safe side. Affected ones
    come in clusters, a start's own and those that find it on its way, so the starts are the unit: each affects
    1 + lambda C arrivals on average, with its own C, and the mean of what is left over is tested by Student's t.
    """
    about = {"kind": "theory", "load": control["load"], "regimes": tuple(control["regimes"])}
    if not runs:
        return [Checked(**about, expected="-", measured="-", state="undecided", reason="no valid run")]
    rows = pl.concat([_single_replica_run(campaign, run) for run in runs])
    starts = (
        rows.filter(pl.col("cold"))
        .group_by("replica_id", maintain_order=True)
        .agg(pl.len(), pl.col("cold_wait_s").max())
    )
    warm = rows.filter(~pl.col("cold") & (pl.col("queue_s") < NO_QUEUE_S))
    if starts.height < 2 or not warm.height:
        reason = "too few cold starts, or no warm answer, to take the times from"
        return [Checked(**about, expected="-", measured="-", state="undecided", reason=reason)]
    traffic = campaign.experiment["loads"][control["load"]]["traffic"]
    settings = runs[0].settings[runs[0].target]
    times = {
        "arrival_rate_per_s": traffic["requests"] / Duration.parse(traffic["duration"]),
        "keep_alive_s": float(Duration.parse(settings["idle_timeout"])),
        "service_s": mean(warm["held_s"]) or 0.0,
        "cold_start_s": mean(starts["cold_wait_s"]) or 0.0,
    }
    said = ", ".join(f"{name} {value:.4g}" for name, value in times.items())
    try:
        exact = single_replica(**times)
    except ValueError as error:
        return [Checked(**about, expected="-", measured="-", state="undecided", reason=f"{error}; {said}")]
    left_over = starts["len"].to_numpy() - 1 - times["arrival_rate_per_s"] * starts["cold_wait_s"].to_numpy()
    return [
        _against(about, name, share, int(rows[column].sum()), rows.height, p=p, alpha=alpha, said=said)
        for name, column, share, p in (
            ("triggered", "triggered", exact.triggered, None),
            ("affected", "cold", exact.affected, float(stats.ttest_1samp(left_over, 0).pvalue)),
        )
    ]


def _against(
    about: dict[str, Any], name: str, share: float, hits: int, n: int, *, p: float | None, alpha: float, said: str
) -> Checked:
    """p: of a better test than the binomial one, where there is one."""
    binomial_p = float(stats.binomtest(hits, n, share).pvalue)
    deciding_p = binomial_p if p is None else p
    enough = n >= _ENOUGH_ARRIVALS
    state: State = "failed" if below(deciding_p, alpha) else "passed" if enough else "undecided"
    reason = said + ("" if p is None else f", binomial p {binomial_p:.3f}")
    reason += "" if enough else f"; {n} arrivals, {_ENOUGH_ARRIVALS} are needed"
    measured = f"{hits / n * 100:.1f} % ({hits} of {n})"
    expected = f"{name} {share * 100:.1f} %"
    return Checked(**about, expected=expected, measured=measured, p=deciding_p, state=state, reason=reason)


def _single_replica_run(campaign: Campaign, run: Run) -> pl.DataFrame:
    """The arrivals after 3 keep-alive times, when the beginning is forgotten: triggered, cold, how long they took."""
    rows = campaign.rows(run)
    events = rows.replicas.filter((pl.col("event") == "start") & (pl.col("request_id") != ""))
    from_ns = run.started_at_ns + int(_SETTLING * Duration.parse(run.settings[run.target]["idle_timeout"]) * 1e9)
    return rows.stages.filter((pl.col("sent_at_ns") >= from_ns) & pl.col("cold").is_not_null()).select(
        pl.col("request_id").is_in(events["request_id"].to_list()).alias("triggered"),
        "replica_id",
        "cold",
        "cold_wait_s",
        "queue_s",
        ((pl.col("returned_at_ns") - pl.col("sent_at_ns")) / 1e9).alias("held_s"),
    )


def rows(checked: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            each["kind"],
            each["load"],
            ", ".join(each["regimes"]),
            each["expected"],
            each["measured"],
            "-" if each["p"] is None else f"{each['p']:.3f}",
            each["state"],
        )
        for each in checked
    ]


def notes(checked: list[dict[str, Any]]) -> list[str]:
    """What a result rests on, or why there is none."""
    told = [f"{each['kind']}, {each['load']}: {each['reason']}" for each in checked if each["reason"]]
    return list(dict.fromkeys(told))
