"""What a person sees while a campaign runs: where it is, a line per finished cell, how long it will take."""

from __future__ import annotations

import sys
import time

from experiments.cell_run import Summary
from experiments.plan import Cell


def say(text: str) -> None:
    """A line on standard output, at once."""
    print(text, flush=True)


class Progress:
    """Time left: the forecast of what is to come, scaled by how the forecast did so far."""

    def __init__(self, cells: int, forecast_s: float, *, quiet: bool = False) -> None:
        self._cells = cells
        self._done = 0
        self._began_s = time.monotonic()
        self._forecast_s = forecast_s
        self._forecast_done_s = 0.0
        self._quiet = quiet

    def say(self, text: str) -> None:
        if not self._quiet:
            say(text)

    def complain(self, text: str) -> None:
        """Also when quiet."""
        print(text, file=sys.stderr, flush=True)

    def running(self, cell: Cell) -> None:
        """A passing line, on terminals only."""
        if sys.stdout.isatty() and not self._quiet:
            print(
                f"  running {cell.load} / {cell.regime}, block {cell.block + 1} ... {self._left()} left",
                end="\r",
                flush=True,
            )

    def finished(self, cell: Cell, summary: Summary, forecast_s: float) -> None:
        self._done += 1
        self._forecast_done_s += forecast_s
        cold = summary.cold_invocations / summary.invocations if summary.invocations else 0.0
        median = f"{summary.median_latency_s:.2f} s" if summary.median_latency_s is not None else "-"
        state = "valid" if summary.verdict.valid else "INVALID: " + "; ".join(summary.verdict.reasons())
        where = f"block {cell.block + 1}  {cell.load:10} {cell.regime:12}"
        counts = f"{summary.requests:4} requests  {summary.failures} failed  cold {cold:6.1%}  median {median:>8}"
        self.say(f"[{self._done:3}/{self._cells}] {where} {counts}  {state}  ({self._left()} left)")

    def repeated(self, cells: int, forecast_s: float) -> None:
        self._cells += cells
        self._forecast_s += forecast_s

    def _left(self) -> str:
        gone_s = time.monotonic() - self._began_s
        speed = gone_s / self._forecast_done_s if self._forecast_done_s else 1.0
        return duration((self._forecast_s - self._forecast_done_s) * speed)


def duration(seconds: float) -> str:
    """`48s`, `5m10s`, `1h02m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"
