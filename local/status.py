"""What the platform's functions do at a moment, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from fave.wire.openfaas import LABEL, FunctionStatus

_HEAD = f"{'function':<26}{'ready':>6}{'starting':>9}{'ending':>7}{'bounds':>8}{'in flight':>10}{'waiting':>8}"
_NOTHING_ELSE = "no function is deployed: `python -m regimes apply REGIME` or `make bench` deploys some"
_IN_FLIGHT, _WAITING = "gateway_function_invocation_inflight", "fave_queue_length"

Samples = Mapping[tuple[str, str], float]


def samples_of(exposition: str) -> Samples:
    """Values by metric and function."""
    return {
        (sample.name, sample.labels["function_name"].rpartition(".")[0]): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name in (_IN_FLIGHT, _WAITING)
    }


def table(functions: Iterable[FunctionStatus], samples: Samples) -> str:
    """At most 80 columns wide, unless names are long."""
    lines = [
        f"{each.name:<26}{each.available_replicas:>6}{each.replicas - each.available_replicas:>9}{each.draining:>7}"
        f"{_bounds(each):>8}{_of(samples, _IN_FLIGHT, each):>10}{_of(samples, _WAITING, each):>8}"
        for each in functions
    ]
    return "\n".join([_HEAD, *lines]) if lines else _NOTHING_ELSE


def _of(samples: Samples, metric: str, function: FunctionStatus) -> int:
    return int(samples.get((metric, function.name), 0))


def _bounds(function: FunctionStatus) -> str:
    """Replicas without any request, and at most."""
    labels = function.labels or {}
    to_zero = labels.get(f"{LABEL}zero", "").lower() in ("true", "1")
    return f"{0 if to_zero else labels.get(f'{LABEL}min', '1')}-{labels.get(f'{LABEL}max', '20')}"
