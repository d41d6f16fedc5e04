"""What a person sees while a campaign runs: where it is, a line per finished cell, how long it will take."""

from __future__ import annotations

import sys
import threading
import time

from experiments.cell_run import Summary
from experiments.plan import Cell
from fave.campaign.record import Times

_TICK_S = 1.0


def say(text: str) -> None:
    """A line on standard output, at once."""
    print(text, flush=True)


class Progress:
    """Time left: the forecast of what is to come, scaled by how the forecast did so far.

    On terminals a passing line tells every second what the current cell is doing; elsewhere there are whole lines only.
    """

    def __init__(self, cells: int, forecast_s: float, *, quiet: bool = False) -> None:
        self._cells = cells
        self._done = 0
        self._began_s = time.monotonic()
        self._forecast_s = forecast_s
        self._forecast_done_s = 0.0
        self._quiet = quiet
        self._cells_since_s = 0.0
        self._told = (forecast_s, self._began_s)
        self._cell = ""
        self._phase = ("", 0.0)
        self._load_s = 0.0
        self._cold: dict[str, tuple[int, int]] = {}
        self._times: list[Times] = []
        self._caches_s = 0.0
        self._lock = threading.Lock()
        if sys.stdout.isatty() and not quiet:
            threading.Thread(target=self._tick_for_ever, daemon=True).start()

    def say(self, text: str) -> None:
        if not self._quiet:
            with self._lock:
                self._clear()
                say(text)

    def complain(self, text: str) -> None:
        """Also when quiet."""
        with self._lock:
            self._clear()
            print(text, file=sys.stderr, flush=True)

    def running(self, cell: Cell, load_s: float) -> None:
        self._cells_since_s = self._cells_since_s or time.monotonic()
        self._cell = f"{cell.load} / {cell.regime}, block {cell.block + 1}"
        self._load_s = load_s

    def phase(self, text: str) -> None:
        """What the current cell, or the campaign between two of them, does from now on; empty: nothing to tell."""
        self._phase = (text, time.monotonic())

    def _tick_for_ever(self) -> None:
        while True:
            time.sleep(_TICK_S)
            text, since_s = self._phase
            if text:
                with self._lock:
                    self._clear()
                    print(self._passing(text, time.monotonic() - since_s), end="", flush=True)

    def _passing(self, text: str, for_s: float) -> str:
        of = f" of {duration(self._load_s)}" if text == "sending" else ""
        cold = ", ".join(
            f"{regime} {cold / known:.0%}" for regime, (cold, known) in sorted(self._cold.items()) if known
        )
        so_far = f"; cold so far: {cold}" if cold else ""
        where = f"[{self._done + 1}/{self._cells}] {self._cell}: " if self._cell else ""
        return f"  {where}{text} {duration(for_s)}{of}; {self._left()} left{so_far}"

    def _clear(self) -> None:
        if sys.stdout.isatty() and not self._quiet:
            print("\r\033[K", end="", flush=True)

    def finished(self, cell: Cell, summary: Summary, forecast_s: float) -> None:
        self.phase("")
        self._cell = ""
        self._done += 1
        self._forecast_done_s += forecast_s
        self._forecast_again()
        self._times.append(summary.times)
        before = self._cold.get(cell.regime, (0, 0))
        self._cold[cell.regime] = (before[0] + summary.cold_invocations, before[1] + summary.invocations)
        cold = summary.cold_invocations / summary.invocations if summary.invocations else 0.0
        median = f"{summary.median_latency_s:.2f} s" if summary.median_latency_s is not None else "-"
        state = "valid" if summary.verdict.valid else "INVALID: " + "; ".join(summary.verdict.reasons())
        where = f"block {cell.block + 1:2}  {cell.load:10} {cell.regime:12}"
        counts = f"{summary.requests:4} requests  {summary.failures} failed  cold {cold:6.1%}  median {median:>8}"
        self.say(f"[{self._done:3}/{self._cells}] {where} {counts}  {state}  ({self._left()} left)")

    def more(self, cells: int, forecast_s: float) -> None:
        """Cells that were not foreseen: repeats, or blocks that the stopping rule asks for."""
        self._cells += cells
        self._forecast_s += forecast_s
        self._forecast_again()

    def caches_touched(self, took_s: float) -> None:
        """Part of the initial states: the machine's."""
        self._caches_s += took_s

    def shares(self) -> str:
        """Where the wall time went since the start."""
        whole_s = time.monotonic() - self._began_s
        load_s, state_s, drain_s = (
            sum(getattr(each, name) for each in self._times) for name in ("load_s", "state_s", "drain_s")
        )
        state_s += self._caches_s
        parts = {
            "offered load": load_s,
            "initial states": state_s,
            "draining": drain_s,
            "everything else": whole_s - load_s - state_s - drain_s,
        }
        told = ", ".join(f"{name} {seconds / whole_s:.0%}" for name, seconds in parts.items())
        return f"wall time {duration(whole_s)}: {told}"

    def _forecast_again(self) -> None:
        """At the end of a cell, not during one: in between the clock runs down."""
        now_s = time.monotonic()
        gone_s = now_s - self._cells_since_s
        speed = gone_s / self._forecast_done_s if self._forecast_done_s else 1.0
        self._told = ((self._forecast_s - self._forecast_done_s) * speed, now_s)

    def _left(self) -> str:
        left_s, since_s = self._told
        return duration(left_s - (time.monotonic() - since_s))


def duration(seconds: float) -> str:
    """`48s`, `5m10s`, `1h02m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"
