"""A deployment that stands: tried again where a controller was in the way, and read back.

No status proves success. faas-netes answers 200 to a change that failed, of two changes at once one is lost, and a
controller that is at work refuses the next one for a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from fave.errors import GatewayError, PlatformError
from fave.wire.openfaas import LABEL, FunctionSpec, FunctionStatus, cores, memory_mb
from platforms.gateway import Gateway

T = TypeVar("T")
# OpenFaaS' provider says 500 where a controller was quicker; from 0.3 s on it never did, where that was tried.
_IN_THE_WAY = (409, 429, 500, 502, 503, 504)
# One that is being deleted has pods that are given their time to end.
_GONE_WITHIN_S = 90.0
_WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
# What stands is told by a cache that follows within moments.
_READ_WITHIN_S = 5.0
_READ_AGAIN_S = 0.1
_TRIES = 3
_LIMITS = {"memory": memory_mb, "cpu": cores}


def deploy(gateway: Gateway, spec: FunctionSpec) -> None:
    """Update, or create where it is missing, until it stands as asked for.

    Raises
    ------
    PlatformError
        When what stands is something else, with each difference.
    """
    found: list[str] = []
    for _ in range(_TRIES):
        insisting(lambda: gateway.deploy(spec))
        found = _differences_within(_READ_WITHIN_S, gateway, spec)
        if not found:
            return
    what = f"{spec.service}: the gateway took the deployment, and what stands is something else"
    hint = "somebody else may deploy it as well, or the provider did not understand a value and does not say so"
    raise PlatformError("\n  ".join([what, *found]), hint=hint)


def remove(gateway: Gateway, function: str) -> None:
    """Delete, and wait until it is gone: what is deployed meanwhile would end with it.

    Raises
    ------
    PlatformError
        When it is there for longer than pods are given to end.
    """
    insisting(lambda: gateway.delete(function))
    deadline_s = time.monotonic() + _GONE_WITHIN_S
    while gateway.function(function) is not None:
        if time.monotonic() > deadline_s:
            raise PlatformError(f"{function} was deleted, and is there still after {_GONE_WITHIN_S:g} s")
        time.sleep(_READ_AGAIN_S)


def insisting(call: Callable[[], T]) -> T:
    """What a controller's work may get in the way of, within some seconds. Raises what the last try raised."""
    deadline_s, waits_s = time.monotonic() + _GONE_WITHIN_S, iter(_WAITS_S)
    while True:
        try:
            return call()
        except GatewayError as error:
            ends = "being deleted" in error.message and time.monotonic() < deadline_s
            wait_s = _WAITS_S[-2] if ends else next(waits_s, None)
            if error.status not in _IN_THE_WAY or wait_s is None:
                raise
            time.sleep(wait_s)


def _differences_within(timeout_s: float, gateway: Gateway, spec: FunctionSpec) -> list[str]:
    deadline_s = time.monotonic() + timeout_s
    while True:
        status = gateway.function(spec.service)
        found = ["there is no such function"] if status is None else differences(spec, status)
        if not found or time.monotonic() > deadline_s:
            return found
        time.sleep(_READ_AGAIN_S)


def differences(spec: FunctionSpec, status: FunctionStatus) -> list[str]:
    """What was asked for and does not stand, in words.

    Labels, annotations and variables of others beside ours are theirs, but for scaling. What a platform does not tell
    at all cannot be compared.
    """
    found = [] if status.image == spec.image or not spec.image else [_unlike("image", status.image, spec.image)]
    labels = status.labels or {}
    found += _unlike_each("label", labels, spec.labels)
    found += [f"label {name} is {labels[name]!r}, not asked for" for name in labels if _is_scaling(name, spec)]
    for kind, have, want in (
        ("annotation", status.annotations, spec.annotations),
        ("environment", status.env_vars, spec.env_vars),
    ):
        if have is not None:
            found += _unlike_each(kind, have, want)
    if status.secrets is not None and set(status.secrets) != set(spec.secrets):
        found.append(_unlike("secrets", sorted(status.secrets), sorted(spec.secrets)))
    if status.limits is not None:
        found += [
            _unlike(f"limit {name}", status.limits.get(name), spec.limits.get(name))
            for name, read in _LIMITS.items()
            if _read(read, status.limits.get(name)) != _read(read, spec.limits.get(name))
        ]
    return found


def _is_scaling(name: str, spec: FunctionSpec) -> bool:
    return name.startswith(LABEL) and name not in spec.labels


def _unlike_each(kind: str, have: Mapping[str, str], want: Mapping[str, str]) -> Iterator[str]:
    for name, value in want.items():
        if have.get(name) != value:
            yield _unlike(f"{kind} {name}", have.get(name), value)


def _unlike(what: str, have: object, want: object) -> str:
    return f"{what} is {have!r}, asked for was {want!r}"


def _read(read: Callable[[str], float], text: str | None) -> float:
    """A quantity by its value: `1Gi` is `1024Mi`."""
    try:
        return read(text or "")
    except ValueError:
        return -1.0
