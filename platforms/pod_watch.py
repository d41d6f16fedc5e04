"""Kubernetes' streams of pods, endpoints and events, and what pods write, heard while a regime stands and a run lasts.

A look afterwards finds few: Kubernetes forgets pods that are gone, and their logs with them. When a stream breaks off,
all is listed again, and how long nobody listened is known.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

import urllib3
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException

from fave.clock import utc_ns
from fave.errors import PlatformError
from fave.wire.records import ReplicaRow
from platforms.pods import FUNCTION, Pods

_STREAM_S = 300
_CONNECT_S = 5.0
_FIRST_WITHIN_S = 20.0
_AGAIN_AFTER_S = 0.5
_FORBIDDEN = (401, 403)
_LINES_KEPT = 2000
# As the embedded platform's Prometheus.
_SAMPLE_S = 0.5
# A stream may break off and go on without anything being late.
_MISSED_OVER_NS = 1_000_000_000
Handle = Callable[[str, Mapping[str, Any], int], None]


class PodWatch:
    """From `start` to `stop`. refused: what the account may not watch, by name."""

    def __init__(self, made: client.ApiClient, namespace: str, functions: Collection[str]) -> None:
        core, discovery = client.CoreV1Api(made), client.DiscoveryV1Api(made)
        self._made = made
        self._core = core
        self._namespace = namespace
        self._functions = functions
        self._lists: dict[str, Callable[..., Any]] = {
            "pods": core.list_namespaced_pod,
            "endpointslices": discovery.list_namespaced_endpoint_slice,
            "events": core.list_namespaced_event,
        }
        self.refused: set[str] = set()
        self.missed_ns = 0
        self.pods = Pods(functions)
        self.samples: list[ReplicaRow] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._streams: set[watch.Watch] = set()
        self._logs: dict[str, deque[dict[str, Any]]] = defaultdict(lambda: deque(maxlen=_LINES_KEPT))
        self._followed: set[str] = set()

    def start(self) -> None:
        """Returns when all that is there was listed.

        Raises
        ------
        PlatformError
            When Kubernetes does not answer.
        """
        # Endpoints first: a pod that is listed is routable, or is not, by what they say.
        sampler = threading.Thread(target=self._sample, name="replica counts", daemon=True)
        for kind, handle in (
            ("endpointslices", self._endpoints),
            ("pods", self._pod),
            ("events", self._event),
        ):
            listed = threading.Event()
            thread = threading.Thread(target=self._follow, args=(kind, handle, listed), name=kind, daemon=True)
            self._threads.append(thread)
            thread.start()
            if not listed.wait(_FIRST_WITHIN_S):
                self.stop()
                raise PlatformError(
                    f"Kubernetes does not list {kind} within {_FIRST_WITHIN_S:g} s",
                    hint="KUBECONFIG says where it is; unset it to measure without",
                )
            if kind == "endpointslices" and kind in self.refused:
                self.pods = Pods(self._functions, with_endpoints=False)
        sampler.start()

    def stop(self) -> None:
        """The streams end with what they hear next, or with their connection."""
        self._over.set()
        for stream in list(self._streams):
            stream.stop()  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """What was seen before is forgotten, but not who stands."""
        with self._lock:
            self.pods.rows.clear()
            self.samples = self.pods.counts(utc_ns(), 0.0)
            self.missed_ns = 0

    def heard(self) -> tuple[list[ReplicaRow], dict[str, int]]:
        """What happened since `begin`, and counts in between; since when each pod could be sent to.

        That is 0 for those that were there before.
        """
        with self._lock:
            return [*self.pods.rows, *self.samples], dict(self.pods.routable_at_ns)

    def lines(self, function: str) -> list[dict[str, Any]]:
        """What the function's pods wrote, in order of time, as `/system/logs` tells it."""
        with self._lock:
            found = [line for name, lines in self._logs.items() for line in lines if line["name"] == function]
        return sorted(found, key=lambda line: str(line["timestamp"]))

    def _sample(self) -> None:
        """Counts as they stand, again and again: whatever changed was heard."""
        before_ns = utc_ns()
        while not self._over.wait(_SAMPLE_S):
            now_ns = utc_ns()
            with self._lock:
                self.samples += self.pods.counts(now_ns, (now_ns - before_ns) / 1e9)
            before_ns = now_ns

    # Streams.

    def _follow(self, kind: str, handle: Handle, listed: threading.Event) -> None:
        call, version, away_since_ns = self._lists[kind], "", 0
        while not self._over.is_set():
            try:
                if not version:
                    version = self._list(call, handle, "ADDED" if listed.is_set() else "LISTED")
                    if away_since_ns:
                        self._note_missed(away_since_ns)
                    away_since_ns = 0
                    listed.set()
                for change in self._stream(call, version):
                    found = change["raw_object"]
                    handle(change["type"], found, utc_ns())
                    version = found["metadata"]["resourceVersion"]
                continue
            except ApiException as error:
                if error.status in _FORBIDDEN:
                    self.refused.add(kind)
                    listed.set()
                    return
            except (urllib3.exceptions.HTTPError, OSError, ValueError):
                pass
            # What stands now is listed again: it also says how long nobody listened.
            away_since_ns, version = away_since_ns or utc_ns(), ""
            self._over.wait(_AGAIN_AFTER_S)

    def _list(self, call: Callable[..., Any], handle: Handle, change: str) -> str:
        found = call(self._namespace, _request_timeout=(_CONNECT_S, _FIRST_WITHIN_S))
        now_ns = utc_ns()
        objects = [self._made.sanitize_for_serialization(each) for each in found.items]  # type: ignore[no-untyped-call]
        for each in objects:
            handle(change, each, now_ns)
        if handle == self._pod:
            with self._lock:
                there = {each["metadata"]["name"] for each in objects}
                gone = {name: function for name, function in self.pods.alive().items() if name not in there}
            for name in gone:
                handle("DELETED", {"metadata": {"name": name, "labels": {FUNCTION: gone[name]}}}, now_ns)
        return str(found.metadata.resource_version)

    def _stream(self, call: Callable[..., Any], version: str) -> Any:
        stream = watch.Watch()  # type: ignore[no-untyped-call]
        self._streams.add(stream)
        try:
            yield from stream.stream(  # type: ignore[no-untyped-call]
                call,
                self._namespace,
                resource_version=version,
                timeout_seconds=_STREAM_S,
                _request_timeout=(_CONNECT_S, _STREAM_S + _FIRST_WITHIN_S),
            )
        finally:
            self._streams.discard(stream)

    def _note_missed(self, since_ns: int) -> None:
        missed_ns = utc_ns() - since_ns
        with self._lock:
            self.missed_ns += missed_ns if missed_ns > _MISSED_OVER_NS else 0

    def _pod(self, change: str, pod: Mapping[str, Any], at_ns: int) -> None:
        with self._lock:
            self.pods.pod(change, pod, at_ns)
            alive = self.pods.alive()
        name = pod["metadata"]["name"]
        states = [each.get("state") or {} for each in (pod.get("status") or {}).get("containerStatuses") or ()]
        if name in alive and name not in self._followed and any("running" in state for state in states):
            self._followed.add(name)
            function = pod["metadata"]["labels"][FUNCTION]
            threading.Thread(target=self._read, args=(name, function), name=f"log of {name}", daemon=True).start()

    def _endpoints(self, change: str, group: Mapping[str, Any], at_ns: int) -> None:
        with self._lock:
            self.pods.endpoints(change, group, at_ns)

    def _event(self, change: str, event: Mapping[str, Any], at_ns: int) -> None:
        if change != "LISTED":
            with self._lock:
                self.pods.event(event, at_ns)

    def _read(self, name: str, function: str) -> None:
        """What one pod writes, to its end."""
        while not self._over.is_set():
            with contextlib.suppress(ApiException, urllib3.exceptions.HTTPError, OSError):
                reply: Any = self._core.read_namespaced_pod_log(
                    name,
                    self._namespace,
                    follow=True,
                    timestamps=True,
                    _preload_content=False,
                    _request_timeout=(_CONNECT_S, _STREAM_S),
                )
                for line in reply:
                    stamp, _, text = line.decode("utf-8", "replace").rstrip("\n").partition(" ")
                    with self._lock:
                        known = self._logs[name]
                        # A stream that was begun again tells all once more.
                        if not known or str(known[-1]["timestamp"]) < stamp:
                            known.append({"name": function, "instance": name, "timestamp": stamp, "text": text})
            with self._lock:
                there = name in self.pods.alive()
            if not there:
                return
            time.sleep(_AGAIN_AFTER_S)
