"""Prometheus as FAVE asks it: newest values, and raw samples with their own times."""

from __future__ import annotations

from typing import Any, NamedTuple

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from fave.endpoints import shown
from fave.errors import PlatformError
from prom import queries

_TIMEOUT_S = 10


class Sample(NamedTuple):
    """One scraped value of one function, at the time of its scrape."""

    function: str
    at_ns: int
    value: float


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url
        session = requests.Session()
        session.trust_env = False
        # Whoever asks decides whether to ask again; nobody waits for ever.
        self._api = PrometheusConnect(url=url, session=session, retry=Retry(0), timeout=_TIMEOUT_S)

    def latest(self, query: str) -> dict[str, float]:
        """The instant value per function (may be as old as Prometheus' look-back, 5 minutes)."""
        return {_function(item): float(item["value"][1]) for item in self._ask(query, {})}

    def replicas(self) -> dict[str, tuple[int, int]]:
        """(desired, ready) per function, by one question."""
        counts: dict[str, dict[str, int]] = {queries.DESIRED: {}, queries.READY: {}}
        for item in self._ask(queries.REPLICAS, {}):
            counts[item["metric"]["__name__"]][_function(item)] = int(float(item["value"][1]))
        ready = counts[queries.READY]
        return {function: (desired, ready.get(function, 0)) for function, desired in counts[queries.DESIRED].items()}

    def gateway(self) -> dict[str, float]:
        """The gateway's metrics as they stand, by `name{function,code}`."""
        found = {}
        for item in self._ask(queries.GATEWAY, {}):
            about = [_function(item), *([item["metric"]["code"]] if "code" in item["metric"] else [])]
            found[f"{item['metric']['__name__']}{{{','.join(about)}}}"] = float(item["value"][1])
        return dict(sorted(found.items()))

    def raw(self, metric: str, start_ns: int, end_ns: int) -> list[Sample]:
        """Every scraped sample of `metric` in (start, end], by function and time.

        A range-vector query: unlike `query_range` it does not fill gaps with values of up to five minutes ago.
        """
        window_ms = max(1, (end_ns - start_ns) // 1_000_000)
        result = self._ask(f"{metric}[{window_ms}ms]", {"time": f"{end_ns / 1e9:.3f}"})
        return [
            Sample(_function(item), int(float(at_s) * 1000) * 1_000_000, float(value))
            for item in result
            for at_s, value in item["values"]
        ]

    def _ask(self, query: str, params: dict[str, str]) -> list[Any]:
        try:
            return list(self._api.custom_query(query, params=params))
        except (requests.RequestException, PrometheusApiClientException) as error:
            raise PlatformError(
                f"Prometheus at {shown(self.url)} does not answer {query!r} ({type(error).__name__})",
                hint="`make status` shows the embedded platform; PROMETHEUS_URL names another one",
            ) from error


def _function(item: dict[str, Any]) -> str:
    """`stage-librosa` for OpenFaaS' `stage-librosa.openfaas-fn`."""
    return str(item["metric"].get("function_name", "")).rpartition(".")[0] or str(
        item["metric"].get("function_name", "")
    )
