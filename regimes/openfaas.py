"""Bring a regime about through the gateway's REST API, and verify it before any traffic."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from fave.clock import utc_ns
from fave.errors import GatewayError, PlatformError
from fave.gateway_client import FunctionStatus, GatewayClient
from prom import queries
from prom.client import Prometheus
from regimes.model import LABEL, MANAGED, Settings, to_spec
from regimes.stack import load, spec

Say = Callable[[str], None]
# Nine functions start together on two cores: librosa's import alone takes seconds of CPU.
_SETTLE_TIMEOUT_S = 180.0
_POLL_S = 0.1
_HOPELESS_STARTS = 3


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What stands: settings per function and the replica counts that were verified (ready = min)."""

    regime: str
    settings: dict[str, Settings]
    initial_ready: dict[str, int]
    took_s: float


def image_of(function: str) -> str:
    """`{FAVE_IMAGE_PREFIX}{function}:{FAVE_IMAGE_TAG}`; the embedded gateway finds the handler by the name alone."""
    return f"{os.environ.get('FAVE_IMAGE_PREFIX', '')}{function}:{os.environ.get('FAVE_IMAGE_TAG', 'latest')}"


def apply(
    gateway: GatewayClient, prometheus: Prometheus, regime: str, settings: dict[str, Settings], say: Say = print
) -> Applied:
    """All replicas to 0, deploy, scale to min, verify; FAVE's own functions of an earlier target are removed.

    Explicitly, not by waiting for idle time-outs: the state at the start must not depend on what ran before.

    Raises
    ------
    PlatformError
        When a function of that name is there that FAVE did not deploy, before anything is changed; when the replicas do
        not become what the regime says (names each function with what it has).
    """
    began_s = time.monotonic()
    there = _own_functions(gateway, settings)
    for function in there:
        gateway.scale(function, 0)
    _settle(gateway, dict.fromkeys(there, 0), say)
    for function in there - settings.keys():
        gateway.delete(function)
    stack = None if _embedded(gateway) else load()
    for function, each in settings.items():
        if stack is None:
            gateway.deploy(to_spec(function, each, image=image_of(function), regime=regime))
        else:
            gateway.deploy(spec(function, each, regime, stack))
        gateway.scale(function, each.min_replicas)
    wanted = {function: each.min_replicas for function, each in settings.items()}
    _settle(gateway, wanted, say)
    _agree(prometheus, wanted, settled_at_ns=utc_ns())
    return Applied(regime=regime, settings=settings, initial_ready=wanted, took_s=time.monotonic() - began_s)


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


def configuration(gateway: GatewayClient, functions: Iterable[str]) -> dict[str, dict[str, str]]:
    """Scaling labels as the gateway has them, to see whether somebody changed them during a run."""
    labels = {status.name: status.labels or {} for status in gateway.functions()}
    return {f: {k: v for k, v in labels.get(f, {}).items() if k.startswith(LABEL)} for f in functions}


def _settle(gateway: GatewayClient, wanted: dict[str, int], say: Say) -> None:
    """Wait until every function has exactly `wanted` replicas, all of them ready, and none that is still ending."""
    deadline_s = time.monotonic() + _SETTLE_TIMEOUT_S
    told_s = time.monotonic()
    since_ns = utc_ns()
    while wrong := _wrong(gateway.functions(), wanted):
        _refuse_hopeless(gateway, since_ns)
        if time.monotonic() > deadline_s:
            hint = "this platform may not allow it (OpenFaaS CE cannot scale to zero); see docs/openfaas.md"
            raise PlatformError(
                f"replicas did not settle within {_SETTLE_TIMEOUT_S:g} s: {'; '.join(wrong)}", hint=hint
            )
        if time.monotonic() - told_s > 10:
            say(f"waiting for replicas: {'; '.join(wrong)}")
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


def _agree(prometheus: Prometheus, wanted: dict[str, int], *, settled_at_ns: int) -> None:
    """Prometheus, the witness of the run, must see the same, in a scrape from after the settling."""
    deadline_s = time.monotonic() + 15
    while True:
        seen = {sample.function: sample.value for sample in prometheus.raw(queries.READY, settled_at_ns, utc_ns())}
        wrong = [f"{f}: {seen.get(f)} instead of {count}" for f, count in wanted.items() if seen.get(f) != count]
        if not wrong:
            return
        if time.monotonic() > deadline_s:
            raise PlatformError(f"Prometheus sees other ready counts than the gateway: {'; '.join(wrong)}")
        time.sleep(_POLL_S)
