"""Prometheus as FAVE asks it: newest values, and replica samples with their own times."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from fave.calling import CA_HINT, plain_session
from fave.environment import shown
from fave.errors import PlatformError
from prom.queries import OPENFAAS, Profile

_TIMEOUT_S = 10
_STATUS = re.compile(r"HTTP Status Code (\d+) \(b?.(.*).\)", re.DOTALL)
_SET_URL = "`make status` shows the embedded platform; PROMETHEUS_URL names another one"
_HINTS = {
    401: "user and password stand in PROMETHEUS_URL: http://USER:PASSWORD@HOST:9090, special characters as %40",
    403: "the user in PROMETHEUS_URL may not ask; it needs /api/v1/query",
    404: "PROMETHEUS_URL is the address below which /api/v1/query is, with the path of a proxy if there is one",
}


class ReplicaSample(NamedTuple):
    """What one scrape told of one function, at the time of that scrape."""

    function: str
    at_ns: int
    desired: int
    ready: int


class Prometheus:
    """profile: what the platform behind it calls its metrics."""

    def __init__(self, url: str, profile: Profile = OPENFAAS) -> None:
        self.url = url
        self._profile = profile
        # Whoever asks decides whether to ask again; nobody waits for ever.
        self._api = PrometheusConnect(url=url, session=plain_session(), retry=Retry(0), timeout=_TIMEOUT_S)

    def replicas(self) -> dict[str, tuple[int, int]]:
        """(desired, ready) per function, by one question; may be as old as Prometheus' look-back, 5 minutes."""
        profile = self._profile
        counts: dict[str, dict[str, int]] = {profile.desired: {}, profile.ready: {}}
        for item in self._ask(profile.replicas(), {}):
            counts[item["metric"]["__name__"]][self._function(item)] = int(float(item["value"][1]))
        ready = counts[profile.ready]
        return {function: (desired, ready.get(function, 0)) for function, desired in counts[profile.desired].items()}

    def ready_since(self, at_ns: int) -> dict[str, int]:
        """Ready replicas per function, as scrapes after `at_ns` saw them."""
        return self._counts(self._profile.ready_since(at_ns / 1e9))

    def in_flight_since(self, at_ns: int) -> dict[str, int]:
        """Calls in flight per function over all gateway pods; empty until each was scraped after `at_ns`."""
        return self._counts(self._profile.in_flight_since(at_ns / 1e9))

    def up(self) -> dict[str, bool]:
        """Whom it watches, and whether they answered it last."""
        return {
            f"{item['metric'].get('job', '')} {item['metric'].get('instance', '')}".strip(): item["value"][1] == "1"
            for item in self._ask("up", {})
        }

    def gateway(self) -> dict[str, float]:
        """The gateway's metrics as they stand, by `name{function,code}`; of all its pods together."""
        found = {}
        for item in self._ask(self._profile.everything(), {}):
            about = [self._function(item), *([item["metric"]["code"]] if "code" in item["metric"] else [])]
            found[f"{item['metric']['__name__']}{{{','.join(about)}}}"] = float(item["value"][1])
        return dict(sorted(found.items()))

    def replica_samples(self, start_ns: int, end_ns: int) -> list[ReplicaSample]:
        """Every scraped pair of desired and ready in (start, end], by function and time.

        A range-vector query: unlike `query_range` it does not fill gaps with values of up to five minutes ago. Where
        several gateway pods tell of a function, the one with most samples does: two pods' scrapes in turn would halve
        the gaps between samples and show a replica come and go whenever one pod had looked before the other.
        """
        window_ms = max(1, (end_ns - start_ns) // 1_000_000)
        query, at = f"{self._profile.replica_series}[{window_ms}ms]", {"time": f"{end_ns / 1e9:.3f}"}
        pods: dict[tuple[str, str], dict[int, dict[str, int]]] = {}
        for item in self._ask(query, at):
            labels = dict(item["metric"])
            name = labels.pop("__name__")
            samples = pods.setdefault((self._function(item), str(sorted(labels.items()))), {})
            for at_s, value in item["values"]:
                samples.setdefault(round(float(at_s) * 1000) * 1_000_000, {})[name] = int(float(value))
        witness: dict[str, dict[int, dict[str, int]]] = {}
        for (function, _), samples in sorted(pods.items()):
            if len(samples) > len(witness.get(function, ())):
                witness[function] = samples
        return [
            ReplicaSample(function, at_ns, told[self._profile.desired], told[self._profile.ready])
            for function, samples in witness.items()
            for at_ns, told in sorted(samples.items())
            if len(told) == 2
        ]

    def _counts(self, query: str) -> dict[str, int]:
        return {self._function(item): int(float(item["value"][1])) for item in self._ask(query, {})}

    def _ask(self, query: str, params: dict[str, str]) -> list[Any]:
        where = f"Prometheus at {shown(self.url)}"
        try:
            return list(self._api.custom_query(query, params=params))
        except PrometheusApiClientException as error:
            # The library tells the status in words alone.
            status, body = found.groups() if (found := _STATUS.search(str(error))) else ("", str(error))
            hint = _HINTS.get(int(status) if status.isdigit() else 0, _SET_URL)
            said = body[:200].replace(r"\n", " ").strip()
            raise PlatformError(f"{where} answers {status} to {query!r}: {said}", hint=hint) from error
        except (requests.exceptions.JSONDecodeError, LookupError, TypeError) as error:
            raise PlatformError(f"{where} answers {query!r} as no Prometheus does", hint=_HINTS[404]) from error
        except requests.exceptions.SSLError as error:
            raise PlatformError(f"{where}: its certificate is not trusted ({error})", hint=CA_HINT) from error
        except requests.RequestException as error:
            raise PlatformError(f"{where} does not answer {query!r} ({type(error).__name__})", hint=_SET_URL) from error

    def _function(self, item: dict[str, Any]) -> str:
        """`hello` for OpenFaaS' `hello.openfaas-fn`."""
        name = str(item["metric"].get(self._profile.label, ""))
        return name.rpartition(".")[0] or name
