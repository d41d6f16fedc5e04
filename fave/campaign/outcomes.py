"""What a campaign can decide about: the outcomes, what each is called, and how two arms are compared in it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

Name = Literal[
    "invocation_cold_rate",
    "request_cold_rate",
    "slow_request_rate",
    "failure_rate",
    "start_s",
    "mean_latency_s",
    "p50_latency_s",
    "p90_latency_s",
    "p95_latency_s",
    "p99_latency_s",
    "executed_gb",
    "held_gb",
    "money_per_hour",
]
COLD = ("invocation_cold_rate", "request_cold_rate")
SLOW = "slow_request_rate"
# Arrivals that a run needs, so that the percentile is no single request (docs/methodology.md).
MIN_REQUESTS = {0.5: 3, 0.9: 50, 0.95: 100, 0.99: 300}


# Of a logarithm: what is beyond is no ratio any more.
_LARGEST = 700.0


class Outcome(NamedTuple):
    """One figure of each run. share: of its arrivals, compared as a difference; else a positive figure with a unit,
    compared as a ratio, on the log. quantile: of latency.
    """

    title: str
    share: bool = False
    unit: str = ""
    quantile: float = 0.0

    @property
    def several(self) -> str:
        """In a heading: of all arms."""
        return self.title.replace("rate", "rates") if self.share else self.title

    @property
    def difference_unit(self) -> str:
        return "points" if self.share else "%"

    def on_scale(self, difference: float) -> float:
        """Where a difference (0.1: ten points, or ten per cent more) lies on the scale on which arms are compared."""
        return difference if self.share else math.log1p(difference)

    def off_scale(self, value: float) -> float:
        return value if self.share else math.expm1(min(value, _LARGEST))


OUTCOMES: dict[str, Outcome] = {
    "invocation_cold_rate": Outcome("cold-start rate", share=True),
    "request_cold_rate": Outcome("cold-start rate of requests", share=True),
    SLOW: Outcome("slow-request rate", share=True),
    "failure_rate": Outcome("failure rate", share=True),
    "start_s": Outcome("cold-start duration", unit="s"),
    "mean_latency_s": Outcome("mean latency", unit="s"),
    **{f"p{q * 100:g}_latency_s": Outcome(f"p{q * 100:g} latency", unit="s", quantile=q) for q in MIN_REQUESTS},
    "executed_gb": Outcome("memory while executing", unit="GB"),
    "held_gb": Outcome("memory held", unit="GB"),
    "money_per_hour": Outcome("money per hour"),
}
assert set(OUTCOMES) == set(get_args(Name)), "each has a description"
