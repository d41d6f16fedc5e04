"""Regimes during a run: applied before it, exchanged under traffic, each change on record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.lock import Semaphore

from fave.campaign.record import Change
from fave.clock import utc_ns
from fave.endpoints import find
from fave.errors import ConfigError, FaveError
from platforms import session
from regimes.apply import apply, switch
from regimes.model import resolve
from workloads.model import Function, Workload


class Regimes:
    """Changes come one after the other; those of the present run are kept."""

    def __init__(self, watch: Any) -> None:
        self._watch = watch
        self._workload: Workload | None = None
        self._functions: dict[str, Function] = {}
        self._changes: list[Change] = []
        self._one_at_a_time = Semaphore()

    @property
    def functions(self) -> tuple[str, ...]:
        return tuple(self._functions)

    def begin(self, workload: Workload, functions: dict[str, Function]) -> None:
        """A new run on these functions of a workload."""
        self._workload, self._functions = workload, functions
        self._changes = []

    def failures(self) -> list[str]:
        """Changes that did not come about: a run on another regime than its rows say is not believed."""
        return [f"regime {each.regime} ({each.by}): {each.error}" for each in self._changes if each.error]

    def record(self) -> list[Change]:
        return self._changes

    def bring_about(self, regime: str) -> None:
        """From nothing: all to 0, deployed, scaled to min, verified.

        Raises
        ------
        FaveError
            When the platform cannot do it.
        """
        requested_at_ns = utc_ns()
        with self._one_at_a_time:
            assert self._workload is not None, "begun"
            policies = resolve(regime, self._functions)
            applied = apply(session.at(find()), self._workload, regime, policies, self._watch.status)
        self._note(
            Change(
                regime=regime,
                by="start",
                requested_at_ns=requested_at_ns,
                effective_at_ns=utc_ns(),
                ready=applied.initial_ready,
            )
        )

    def switch(self, regime: str, *, by: str, phase: str = "", begun: Callable[[int, str], None] | None = None) -> None:
        """Exchange it under traffic; a failure goes on record and on the page. `begun` hears when its turn has come."""
        requested_at_ns = utc_ns()
        self._watch.status(f"switching to regime {regime} ...")
        try:
            with self._one_at_a_time:
                if begun:
                    begun(utc_ns(), regime)
                assert self._workload is not None, "begun"
                policies = resolve(regime, self._functions)
                done = switch(session.at(find()), self._workload, regime, policies, self._watch.status)
        except (FaveError, gevent.GreenletExit) as error:
            text = str(error) or "the run ended before replica counts showed it"
            self._note(Change(regime=regime, by=by, phase=phase, requested_at_ns=requested_at_ns, error=text))
            self._watch.problem(f"regime {regime}: {text}")
            if isinstance(error, gevent.GreenletExit):
                raise
        else:
            self._note(
                Change(
                    regime=regime,
                    by=by,
                    phase=phase,
                    requested_at_ns=requested_at_ns,
                    effective_at_ns=done.effective_at_ns,
                    ready=done.ready,
                    replaced=done.replaced,
                )
            )
        self._watch.status("")

    def switch_or_raise(self, regime: str, *, by: str, begun: Callable[[int, str], None]) -> None:
        self.switch(regime, by=by, begun=begun)
        change = self._changes[-1]
        if change.error:
            raise ConfigError(f"regime {regime}: {change.error}")

    def _note(self, change: Change) -> None:
        self._changes.append(change)
        self._watch.changed(change)
