"""Bring a regime about through the gateway's REST API, and verify it before any traffic."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from fave.clock import utc_ns
from fave.errors import GatewayError, PlatformError
from fave.gateway_client import FunctionSpec, FunctionStatus, GatewayClient
from prom.client import Prometheus
from regimes.model import LABEL, MANAGED, Settings, Settle, to_spec
from regimes.stack import load, spec

Say = Callable[[str], None]
_SWITCH_TIMEOUT_S = 180.0
_WITNESS_TIMEOUT_S = 15.0
_POLL_S = 0.1
_HOPELESS_STARTS = 3


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What stands: settings per function and the replica counts that were verified."""

    regime: str
    settings: dict[str, Settings]
    initial_ready: dict[str, int]
    took_s: float


class Switched(msgspec.Struct, frozen=True, kw_only=True):
    """A regime that was exchanged under traffic: when it was asked for, and when replica counts showed it."""

    regime: str
    requested_at_ns: int
    effective_at_ns: int
    ready: dict[str, int]


def image_of(function: str) -> str:
    """`{FAVE_IMAGE_PREFIX}{function}:{FAVE_IMAGE_TAG}`; the embedded gateway finds the handler by the name alone."""
    return f"{os.environ.get('FAVE_IMAGE_PREFIX', '')}{function}:{os.environ.get('FAVE_IMAGE_TAG', 'latest')}"


def apply(
    gateway: GatewayClient,
    prometheus: Prometheus,
    regime: str,
    settings: dict[str, Settings],
    say: Say = print,
    *,
    initial: int | None = None,
    settle: Settle | None = None,
) -> Applied:
    """All replicas to 0, deploy, scale to the initial count, verify; FAVE's functions of an earlier target are removed.

    Explicitly, not by waiting for idle timeouts: the state at the start must not depend on what ran before. Where a
    platform cannot do that, `settle` says to wait.
    initial: ready replicas of each function at the start, within its bounds; None is its minimum.

    Raises
    ------
    PlatformError
        When a function of that name is there that FAVE did not deploy, before anything is changed; when the replicas do
        not become what the regime says (names each function with what it has).
    """
    began_s = time.monotonic()
    rule = settle or Settle()
    there = _own_functions(gateway, settings)
    if rule.how == "scale":
        for function in there:
            gateway.scale(function, 0)
        _settle(gateway, dict.fromkeys(there, 0), rule.timeout, say)
    for function in there - settings.keys():
        gateway.delete(function)
    wanted = {f: each.min_replicas if initial is None else initial for f, each in settings.items()}
    for function, deployment in _specs(gateway, regime, settings).items():
        gateway.deploy(deployment)
        if rule.how == "scale" or wanted[function]:
            gateway.scale(function, wanted[function])
    _settle(gateway, wanted, rule.timeout, say)
    time.sleep(rule.rest)
    # Prometheus, the witness of the run, must see the same, in a scrape from after the settling.
    settled_at_ns = utc_ns()
    exactly = {function: (count, count) for function, count in wanted.items()}
    _wait_for(lambda: _unseen(prometheus, exactly, settled_at_ns), _WITNESS_TIMEOUT_S, "Prometheus", say)
    return Applied(regime=regime, settings=settings, initial_ready=wanted, took_s=time.monotonic() - began_s)


def switch(
    gateway: GatewayClient, prometheus: Prometheus, regime: str, settings: dict[str, Settings], say: Say = print
) -> Switched:
    """Exchange the scaling policy under traffic: no replica is stopped for it but those above the new maximum.

    That holds where regimes differ in scaling only, as the shipped ones do; a changed limit replaces replicas.

    In force when every function has at least its minimum ready and at most its maximum there. Replicas above the new
    minimum go when their idle timeout passes, as the regime says; until then they are what the earlier one left.

    Raises
    ------
    PlatformError
        When a function is not deployed or not FAVE's, before anything is changed; when counts do not come to lie within
        the new bounds.
    """
    requested_at_ns = utc_ns()
    _own_functions(gateway, settings)
    there = {status.name: status for status in gateway.functions()}
    missing = sorted(settings.keys() - there.keys())
    if missing:
        raise PlatformError(f"not deployed: {', '.join(missing)}", hint=f"python -m regimes apply {regime}")
    for function, deployment in _specs(gateway, regime, settings).items():
        # The annotation is part of a replica's identity: a new one would replace the replicas.
        kept = there[function].annotations or {}
        gateway.deploy(msgspec.structs.replace(deployment, annotations=kept))
        if there[function].replicas < settings[function].min_replicas:
            gateway.scale(function, settings[function].min_replicas)
    bounds = {function: (each.min_replicas, each.max_replicas) for function, each in settings.items()}
    _wait_for(lambda: _outside(gateway, bounds), _SWITCH_TIMEOUT_S, "the gateway", say)
    settled_at_ns = utc_ns()
    _wait_for(lambda: _unseen(prometheus, bounds, settled_at_ns), _WITNESS_TIMEOUT_S, "Prometheus", say)
    ready = {status.name: status.available_replicas for status in gateway.functions() if status.name in settings}
    return Switched(regime=regime, requested_at_ns=requested_at_ns, effective_at_ns=settled_at_ns, ready=ready)


def _specs(gateway: GatewayClient, regime: str, settings: dict[str, Settings]) -> dict[str, FunctionSpec]:
    if _embedded(gateway):
        return {f: to_spec(f, each, image=image_of(f), regime=regime) for f, each in settings.items()}
    stack = load()
    return {f: spec(f, each, regime, stack) for f, each in settings.items()}


def _outside(gateway: GatewayClient, bounds: dict[str, tuple[int, int]]) -> list[str]:
    """Functions whose counts do not lie within (min, max), in words."""
    have = {status.name: (status.replicas, status.available_replicas) for status in gateway.functions()}
    counts = {function: have.get(function, (0, 0)) for function in bounds}
    return [
        f"{function} has {ready} ready of {replicas}, wanted {bounds[function][0]} to {bounds[function][1]}"
        for function, (replicas, ready) in counts.items()
        if ready < bounds[function][0] or replicas > bounds[function][1]
    ]


def _unseen(prometheus: Prometheus, bounds: dict[str, tuple[int, int]], since_ns: int) -> list[str]:
    seen = prometheus.ready_since(since_ns)
    return [
        f"{function}: {seen.get(function)}, wanted {low} to {high}"
        for function, (low, high) in bounds.items()
        if not low <= seen.get(function, -1) <= high
    ]


def _embedded(gateway: GatewayClient) -> bool:
    """The embedded platform gives functions addresses and credentials itself; elsewhere the stack file does."""
    return bool(gateway.info().get("provider", {}).get("provider") == "fave-local")


def _own_functions(gateway: GatewayClient, wanted: Iterable[str]) -> set[str]:
    """The functions that FAVE deployed. Everybody else's stay as they are."""
    statuses = gateway.functions()
    own = {status.name for status in statuses if (status.labels or {}).get(MANAGED) == "true"}
    foreign = sorted({status.name for status in statuses} & set(wanted) - own)
    if foreign:
        hint = f"delete or rename them, or give them the label {MANAGED}=true if FAVE may replace them"
        raise PlatformError(
            f"functions that FAVE did not deploy have the names it needs: {', '.join(foreign)}", hint=hint
        )
    return own


def capabilities(gateway: GatewayClient) -> dict[str, bool]:
    """What this platform offers beyond deploying, scaling and calling.

    Events are asked for; the rest is what the embedded gateway is known to do and no other one is relied upon for.
    """
    try:
        events = gateway.events(since=2**62) == []
    except GatewayError as error:
        if error.status != 404:
            raise
        events = False
    embedded = _embedded(gateway)
    return {
        "replica_events": events,
        "limits_enforced_by_gateway": embedded,
        "draining_replicas_told": embedded,
        "credentials_by_function": embedded,
    }


def configuration(gateway: GatewayClient, functions: Iterable[str]) -> dict[str, dict[str, str]]:
    """Scaling labels as the gateway has them, to see whether somebody changed them during a run."""
    labels = {status.name: status.labels or {} for status in gateway.functions()}
    return {f: {k: v for k, v in labels.get(f, {}).items() if k.startswith(LABEL)} for f in functions}


def _settle(gateway: GatewayClient, wanted: dict[str, int], timeout_s: float, say: Say) -> None:
    """Wait until every function has exactly `wanted` replicas, all of them ready, and none that is still ending."""
    since_ns = utc_ns()

    def wrong() -> list[str]:
        found = _wrong(gateway.functions(), wanted)
        if found:
            _refuse_hopeless(gateway, since_ns)
        return found

    _wait_for(wrong, timeout_s, "the gateway", say)


def _wait_for(wrong: Callable[[], list[str]], timeout_s: float, witness: str, say: Say) -> None:
    """Until `wrong` finds nothing; tells what it still finds every ten seconds."""
    deadline_s = time.monotonic() + timeout_s
    told_s = time.monotonic()
    while found := wrong():
        if time.monotonic() > deadline_s:
            hint = "this platform may not allow it (OpenFaaS CE cannot scale to zero); see docs/openfaas.md"
            raise PlatformError(
                f"replicas did not settle within {timeout_s:g} s, says {witness}: {'; '.join(found)}", hint=hint
            )
        if time.monotonic() - told_s > 10:
            say(f"waiting for replicas: {'; '.join(found)}")
            told_s = time.monotonic()
        time.sleep(_POLL_S)


def _refuse_hopeless(gateway: GatewayClient, since_ns: int) -> None:
    """Not wait minutes for replicas that end before they are ready, where the platform tells of it."""
    try:
        events = gateway.events()
    except GatewayError:
        return
    failed = Counter(e["function"] for e in events if e["event"] == "start_failed" and e["at_ns"] >= since_ns)
    for function, count in failed.items():
        if count >= _HOPELESS_STARTS:
            hint = f"its replicas' logs tell why; on the embedded platform: .fave/logs/{function}/"
            raise PlatformError(f"{function} cannot start: {count} replicas ended before they were ready", hint=hint)


def _wrong(statuses: list[FunctionStatus], wanted: dict[str, int]) -> list[str]:
    have = {status.name: (status.replicas, status.available_replicas, status.draining) for status in statuses}
    wrong = []
    for function, count in wanted.items():
        replicas, ready, draining = have.get(function, (0, 0, 0))
        if (replicas, ready, draining) != (count, count, 0):
            wrong.append(
                f"{function} has {ready} ready of {replicas}, wanted {count}"
                + f", {draining} draining" * bool(draining)
            )
    return wrong
