"""What Kubernetes knows and OpenFaaS' gateway does not tell: what became of pods, whether nodes were in need."""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from yaml import YAMLError

from fave.errors import PlatformError
from fave.strain import Strain
from platforms.pod_watch import PodWatch
from platforms.pods import FUNCTION

_TIMEOUT_S = 10
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")


class Cluster:
    """Reads only; needs `get`, `list` and `watch` on pods, endpoint slices and events, `list` on nodes."""

    def __init__(self, made: client.ApiClient, namespace: str) -> None:
        self._made = made
        self._api = client.CoreV1Api(made)
        self._namespace = namespace

    def watch(self, functions: Collection[str]) -> PodWatch:
        return PodWatch(self._made, self._namespace, functions)

    def ready(self) -> dict[str, int]:
        """By function, how many pods are ready now and do not end."""
        found: dict[str, int] = {}
        for pod in self._pods():
            conditions = pod.status.conditions or ()
            ready = any(each.type == "Ready" and each.status == "True" for each in conditions)
            name = pod.metadata.labels[FUNCTION]
            found[name] = found.get(name, 0) + (ready and pod.metadata.deletion_timestamp is None)
        return found

    def replica_sets(self) -> dict[str, set[str]]:
        """By function, the ReplicaSets of pods that do not end: one for each version of its deployment."""
        found: dict[str, set[str]] = {}
        for pod in self._pods():
            if pod.metadata.deletion_timestamp is None:
                found.setdefault(pod.metadata.labels[FUNCTION], set()).add(pod.metadata.name.rpartition("-")[0])
        return found

    @classmethod
    def find(cls) -> Cluster:
        """By the service account within a cluster, or KUBECONFIG (FAVE_FUNCTION_NAMESPACE, default openfaas-fn).

        Raises
        ------
        PlatformError
            When there is neither, or it cannot be read.
        """
        namespace = os.environ.get("FAVE_FUNCTION_NAMESPACE") or "openfaas-fn"
        path = os.environ.get("KUBECONFIG")
        try:
            if not path:
                config.load_incluster_config()  # type: ignore[no-untyped-call]
                return cls(client.ApiClient(), namespace)
            return cls(config.new_client_from_config(config_file=path), namespace)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError, ValueError, YAMLError) as error:
            raise PlatformError(f"KUBECONFIG={path or ''}: {error}", hint="unset it to measure without") from error

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
                found[pod.metadata.labels[FUNCTION]] = status.image_id
        return dict(sorted(found.items()))

    def _pods(self) -> list[Any]:
        return list(self._ask(self._api.list_namespaced_pod, self._namespace, label_selector=FUNCTION).items)

    def _ask(self, call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options, _request_timeout=_TIMEOUT_S)
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise PlatformError(
                f"Kubernetes does not answer {call.__name__} ({reason})",
                hint="give the account `list` on pods and nodes, or unset KUBECONFIG to measure without",
            ) from error


def _last_change_ns(pod: Any) -> int:
    """Of a pod that ended: an evicted one may have no containers any more, but its conditions changed."""
    states = [status.state for status in pod.status.container_statuses or () if status.state is not None]
    moments = [condition.last_transition_time for condition in pod.status.conditions or ()]
    moments += [state.terminated.finished_at for state in states if state.terminated is not None]
    moments += [pod.metadata.deletion_timestamp, pod.metadata.creation_timestamp]
    return max(_ns(moment) for moment in moments)


def _ns(at: datetime | None) -> int:
    return int(at.astimezone(UTC).timestamp()) * 1_000_000_000 if at else 0
