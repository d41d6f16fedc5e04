"""What a person may look at while it happens: a point a second, kept for half an hour; in a terminal, lines."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from typing import Any

import gevent
import msgspec

from fave.campaign.validity import quantile
from fave.clock import NS_PER_S, utc_ns
from fave.endpoints import find
from fave.errors import FaveError
from fave.wire.records import StageFigures
from generator.recording import add_figures
from platforms import session
from platforms.model import Platform

_KEPT_S = 1800
_EVERY_S = 1.0
# Replica counts are asked for while a run is on, and while somebody looks.
_WATCHED_S = 10.0
_NEWEST_KEPT = 20_000
_log = logging.getLogger("fave")


class Live:
    """Filled by the coordinator, read by the web tab. Everything it gives out is plain data for JSON."""

    def __init__(self, *, on_page: bool) -> None:
        self._on_page = on_page
        self._points: deque[dict[str, Any]] = deque(maxlen=_KEPT_S)
        self._seq = 0
        self._windows: list[dict[str, Any]] = []
        self._phases: list[dict[str, Any]] = []
        self._changes: list[dict[str, Any]] = []
        self._stages: dict[str, StageFigures] = {}
        self._counts: dict[int, dict[str, int]] = {}
        self._in_flight: dict[int, int] = {}
        self._status = self._problem = self._replica_problem = self._kind = ""
        self._outcome: Any = None
        self._running = False
        self._last: dict[str, int] = {}
        self._looked_s = 0.0
        self._replicas: dict[str, tuple[int, int]] = {}
        # Kept: a new client and connection every second would cost the generator more than the question.
        self._platform: Platform | None = None
        self._point_s = time.monotonic()
        if on_page:
            gevent.spawn(self._tick_for_ever)
            gevent.spawn(self._ask_for_ever)

    # Told by the coordinator.

    def begin(self, user_class: str) -> None:
        self._windows, self._phases, self._changes, self._stages = [], [], [], {}
        self._counts, self._in_flight = {}, {}
        self._last = {}
        self._problem, self._outcome, self._running = "", None, True
        self._kind = user_class

    def go(self, t0_ns: int, tags: list[tuple[int, str, str]]) -> None:
        self.status("")
        self._phases = [
            {"from_s": t0_ns / NS_PER_S + from_us / 1e6, "name": phase, "regime": regime}
            for from_us, phase, regime in tags
        ]

    def status(self, text: str) -> None:
        self._status = text
        if text and not self._on_page:
            sys.stdout.write(f"FAVE: {text}\n")
            sys.stdout.flush()

    def problem(self, text: str) -> None:
        self._problem = text
        if not self._on_page:
            _log.warning(text)

    def switched(self, at_ns: int, regime: str) -> None:
        if self._running and self._phases:
            self._phases.append({"from_s": at_ns / NS_PER_S, "name": "by hand", "regime": regime})

    def changed(self, change: Any) -> None:
        plain = msgspec.to_builtins(change)
        self._changes.append(plain)
        if not self._on_page and change.effective_at_ns and change.by != "start":
            took_s = (change.effective_at_ns - change.requested_at_ns) / NS_PER_S
            lost = f"; replicas were replaced: {', '.join(change.replaced)}" if change.replaced else ""
            self.status(f"regime {change.regime} in force {took_s:.1f} s after it was asked for{lost}")

    def end(self, outcome: Any) -> None:
        self._outcome, self._running = outcome, False
        self._phases.append({"from_s": utc_ns() / NS_PER_S, "name": "", "regime": ""})

    def failed(self, text: str) -> None:
        """The run could not be made."""
        self._running, self._status, self._problem = False, "", text
        if not self._on_page:
            # Not a log line: Locust's log level may hide those.
            sys.stdout.write(f"error: {text}\n")

    def on_live(self, data: dict[str, Any]) -> None:
        """What one process told of its last second."""
        if not self._on_page:
            return
        self._windows.append(data)
        self._in_flight[data["slot"]] = data["in_flight"]
        self._counts[data["slot"]] = data["counts"]
        for name, figures in data["stages"].items():
            add_figures(self._stages, name, msgspec.convert(figures, StageFigures))
            kept = self._stages[name].duration_s
            if len(kept) > _NEWEST_KEPT:
                del kept[: _NEWEST_KEPT // 2]

    # Looked at.

    def _tick_for_ever(self) -> None:
        while True:
            gevent.sleep(_EVERY_S)
            self._point()

    def _point(self) -> None:
        windows, self._windows = self._windows, []
        latencies = [value for window in windows for value in window["latencies_ms"]]
        lags = [value for window in windows for value in window["lags_ms"]]
        totals = self._totals()
        fresh = {name: value - self._last.get(name, 0) for name, value in totals.items()}
        elapsed_s, self._point_s = time.monotonic() - self._point_s, time.monotonic()
        self._last = totals
        self._seq += 1
        self._points.append(
            {
                "seq": self._seq,
                "at_s": round(time.time(), 3),
                "in_flight": sum(self._in_flight.values()) if self._running else None,
                "sent_per_s": fresh.get("sent", 0) / elapsed_s if self._running else None,
                "ok_per_s": fresh.get("ok", 0) / elapsed_s if self._running else None,
                "cold_per_s": fresh.get("cold", 0) / elapsed_s if self._running else None,
                "cold_share": fresh["cold"] / fresh["labelled"] if fresh.get("labelled") else None,
                "lag_ms": round(quantile(lags, 0.99), 3) if lags else None,
                "p50_ms": round(quantile(latencies, 0.5), 1) if latencies else None,
                "p95_ms": round(quantile(latencies, 0.95), 1) if latencies else None,
                "replicas": self._replicas,
            }
        )

    def _totals(self) -> dict[str, int]:
        totals: dict[str, int] = {}
        for counts in self._counts.values():
            for name, value in counts.items():
                totals[name] = totals.get(name, 0) + value
        return totals

    def _ask_for_ever(self) -> None:
        """Replica counts, apart from the points: a Prometheus that is slow or away must not hold those up."""
        while True:
            gevent.sleep(_EVERY_S)
            self._replicas, self._replica_problem = self._asked()

    def _asked(self) -> tuple[dict[str, tuple[int, int]], str]:
        """((desired, ready) by function, what is wrong)."""
        if not self._running and time.monotonic() - self._looked_s > _WATCHED_S:
            return {}, ""
        try:
            if self._platform is None:
                self._platform = session.at(find())
            return self._platform.witnessed(), ""
        except FaveError as error:
            # The platform may come back elsewhere.
            self._platform = None
            return {}, str(error)

    def snapshot(self, since: int) -> dict[str, Any]:
        """The points after `since`, and everything else as it is now."""
        self._looked_s = time.monotonic()
        totals = self._totals()
        labelled = totals.get("labelled", 0)
        return {
            "points": [point for point in self._points if point["seq"] > since],
            "phases": self._phases,
            "changes": self._changes,
            "stages": [self._stage(name, each) for name, each in sorted(self._stages.items())],
            "counts": totals,
            "cold_share": totals["cold"] / labelled if labelled else None,
            "running": self._running,
            "kind": self._kind,
            "status": self._status,
            "problems": [text for text in (self._problem, self._replica_problem) if text],
            "outcome": msgspec.to_builtins(self._outcome),
        }

    def _stage(self, name: str, figures: StageFigures) -> dict[str, Any]:
        durations, inits = figures.duration_s, figures.init_s
        return {
            "name": name,
            "invocations": figures.invocations,
            "cold": figures.cold,
            "failures": figures.failures,
            "init_s": quantile(inits, 0.5) if inits else None,
            "p50_s": quantile(durations, 0.5) if durations else None,
            "p95_s": quantile(durations, 0.95) if durations else None,
        }
