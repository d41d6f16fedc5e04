"""What Kubernetes knows and OpenFaaS' gateway does not tell: when pods came and went, whether nodes were in need."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from yaml import YAMLError

from fave.errors import PlatformError
from fave.strain import Strain
from fave.wire.records import ReplicaRow

_LABEL = "faas_function"
_TIMEOUT_S = 10
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")


class Cluster:
    """Reads only; needs `get` and `list` on pods of the functions' namespace, `list` on nodes."""

    def __init__(self, api: client.CoreV1Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    @classmethod
    def find(cls) -> Cluster | None:
        """By the service account within a cluster, or KUBECONFIG (FAVE_FUNCTION_NAMESPACE, default openfaas-fn).

        None where neither is there: the measurement goes without, and its manifest says so.
        """
        namespace = os.environ.get("FAVE_FUNCTION_NAMESPACE") or "openfaas-fn"
        try:
            config.load_incluster_config()  # type: ignore[no-untyped-call]
            return cls(client.CoreV1Api(), namespace)
        except ConfigException:
            path = os.environ.get("KUBECONFIG")
        if not path:
            return None
        try:
            made = config.new_client_from_config(config_file=path)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError, ValueError, YAMLError) as error:
            raise PlatformError(f"KUBECONFIG={path}: {error}") from error
        return cls(client.CoreV1Api(made), namespace)

    def replica_rows(self, functions: Iterable[str], start_ns: int, end_ns: int) -> list[ReplicaRow]:
        """A row per start, readiness and end of a pod within (start, end].

        Kubernetes stamps to the second, and forgets pods that are gone: these rows stand beside the others, labels are
        not judged by them.
        """
        wanted = set(functions)
        rows = []
        for pod in self._pods():
            function = (pod.metadata.labels or {}).get(_LABEL, "")
            if function in wanted:
                rows += [
                    ReplicaRow(
                        at_ns=at_ns,
                        source="kubernetes",
                        function=function,
                        event=event,
                        replica_id=pod.metadata.name,
                        reason=reason,
                    )
                    for event, at_ns, reason in _history(pod)
                    if start_ns < at_ns <= end_ns
                ]
        return sorted(rows, key=lambda row: row.at_ns)

    def strain(self, start_ns: int) -> Strain:
        """Pressure: 1 where a node has such a condition, or had since `start_ns`, else 0; pods evicted since then."""
        nodes = self._ask(self._api.list_node).items
        pressed = any(
            condition.type in _PRESSURES
            and (condition.status == "True" or _ns(condition.last_transition_time) > start_ns)
            for node in nodes
            for condition in node.status.conditions or ()
        )
        evicted = sum(pod.status.reason == "Evicted" and _last_change_ns(pod) > start_ns for pod in self._pods())
        return Strain(float(pressed), evicted)

    def nodes(self) -> list[dict[str, Any]]:
        """For the manifest: version and size of every node, by number; names are nobody else's business."""
        return [
            {
                "kubelet": node.status.node_info.kubelet_version,
                "kernel": node.status.node_info.kernel_version,
                "architecture": node.status.node_info.architecture,
                "cpu": node.status.capacity.get("cpu"),
                "memory": node.status.capacity.get("memory"),
            }
            for node in self._ask(self._api.list_node).items
        ]

    def images(self) -> dict[str, str]:
        """By function: the digest of the image that its pods run."""
        found = {}
        for pod in self._pods():
            for status in pod.status.container_statuses or ():
                found[(pod.metadata.labels or {}).get(_LABEL, pod.metadata.name)] = status.image_id
        return dict(sorted(found.items()))

    def _pods(self) -> list[Any]:
        return list(self._ask(self._api.list_namespaced_pod, self._namespace, label_selector=_LABEL).items)

    def _ask(self, call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options, _request_timeout=_TIMEOUT_S)
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise PlatformError(
                f"Kubernetes does not answer {call.__name__} ({reason})",
                hint="give the account `list` on pods and nodes, or unset KUBECONFIG to measure without",
            ) from error


def _history(pod: Any) -> list[tuple[str, int, str]]:
    """(event, time, reason) of one pod: created, ready, its containers' ends."""
    found = [("start", _ns(pod.metadata.creation_timestamp), "")]
    for condition in pod.status.conditions or ():
        if condition.type == "Ready" and condition.status == "True":
            found.append(("ready", _ns(condition.last_transition_time), ""))
    for status in pod.status.container_statuses or ():
        for state in (status.last_state, status.state):
            if state is not None and state.terminated is not None:
                killed = state.terminated.reason == "OOMKilled"
                event = "oom_killed" if killed else "crashed" if state.terminated.exit_code else "stop"
                found.append((event, _ns(state.terminated.finished_at), state.terminated.reason or ""))
    return found


def _last_change_ns(pod: Any) -> int:
    """Of a pod that ended: an evicted one may have no containers any more, but its conditions changed."""
    states = [status.state for status in pod.status.container_statuses or () if status.state is not None]
    moments = [condition.last_transition_time for condition in pod.status.conditions or ()]
    moments += [state.terminated.finished_at for state in states if state.terminated is not None]
    moments += [pod.metadata.deletion_timestamp, pod.metadata.creation_timestamp]
    return max(_ns(moment) for moment in moments)


def _ns(at: datetime | None) -> int:
    return int(at.astimezone(UTC).timestamp()) * 1_000_000_000 if at else 0
