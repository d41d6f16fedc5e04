"""What became of a run: the verdict on its load, from what the generator processes told. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from fave.campaign.record import LoadVerdict
from fave.campaign.validity import judge_load, measure, quantile


def verdict_on(
    told: Sequence[dict[str, Any]], *, scheduled: int | None, stopped_early: bool, failures: Sequence[str] = ()
) -> LoadVerdict:
    """From the `fave_done` messages of the processes that ended; what a lost one had to send is unsent.

    scheduled: arrivals of the whole schedule, None for closed-loop users. failures: regimes that did not come about.
    """
    trouble = (*sorted({each["trouble"] for each in told} - {""}), *failures)
    if scheduled is None:
        return LoadVerdict(fidelity=None, verdict=None, stopped_early=stopped_early, trouble=trouble)
    due, sent, latency = (_joined(told, key) for key in ("due_us", "sent_us", "latency_us"))
    fidelity = measure(
        list(zip(due, sent, strict=True)),
        scheduled=scheduled,
        dropped=sum(each["counts"]["dropped"] for each in told),
        cpu_share=max((each["cpu_share"] for each in told), default=None),
    )
    # A lone run has no reference but itself: its fastest twentieth, which cold starts and neighbours move least.
    fastest_s = quantile(latency, 0.05) / 1e6 if latency else None
    verdict = judge_load(fidelity, reference_latency_s=fastest_s)
    return LoadVerdict(fidelity=fidelity, verdict=verdict, stopped_early=stopped_early, trouble=trouble)


def _joined(told: Sequence[dict[str, Any]], key: str) -> array[int]:
    joined: array[int] = array("q")
    for each in told:
        joined.frombytes(each[key])
    return joined


def describe(outcome: LoadVerdict) -> str:
    """The verdict in words, for the terminal."""
    fidelity, verdict = outcome.fidelity, outcome.verdict
    if fidelity is None or verdict is None:
        said = ["FAVE: closed-loop users: replies decided when requests left, so there is no schedule to judge them by"]
        return "\n".join([*said, *(f"  INVALID: {each}" for each in outcome.trouble)])
    lines = [f"FAVE verdict on the load: {'VALID' if outcome.believed else 'INVALID'}"]
    lines[0] += " (stopped before its end)" if outcome.stopped_early else ""
    lines.append(
        f"  sent {fidelity.sent} of {fidelity.scheduled}; dropped {fidelity.dropped}, unsent {fidelity.unsent}; "
        f"rate {_shown(fidelity.sent_rate_per_s, '.4g')}/s, scheduled {_shown(fidelity.scheduled_rate_per_s, '.4g')}/s"
    )
    lag = (fidelity.schedule_lag_p50_s, fidelity.schedule_lag_p99_s, fidelity.schedule_lag_max_s)
    lines.append(
        f"  schedule lag p50 / p99 / max {' / '.join(_shown(each and each * 1000, '.1f') for each in lag)} ms; "
        f"gap CV {_shown(fidelity.sent_gap_cv, '.2f')}, scheduled {_shown(fidelity.scheduled_gap_cv, '.2f')}; "
        f"KS {_shown(fidelity.gap_ks, '.3f')}; generator CPU {_shown(fidelity.generator_cpu_share, '.0%')}"
    )
    lines += [f"  invalid: {reason}" for reason in (*verdict.reasons(), *outcome.trouble)]
    return "\n".join(lines)


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
