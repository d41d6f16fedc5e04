"""What Kubernetes knows and OpenFaaS' gateway does not tell: what became of pods, whether nodes were in need."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psutil
import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.utils.quantity import parse_quantity
from yaml import YAMLError

from fave.clock import NS_PER_S
from fave.errors import PlatformError
from fave.strain import Strain
from platforms.pod_watch import PodWatch
from platforms.pods import FUNCTION, failed_starts

_TIMEOUT_S = 10
_MB = 2**20
_STARTING = ("imagePullPolicy", "readinessProbe", "livenessProbe", "startupProbe", "resources")
_OVER = ("Succeeded", "Failed")
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")


class Right(NamedTuple):
    """needed: nothing can be measured without it. without: what is lost, in words."""

    verb: str
    resource: str
    group: str = ""
    everywhere: bool = False
    needed: bool = True
    without: str = "nothing is seen of replicas"

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


_POLICY = "without it a start is late by what a router takes"
_RIGHTS = (
    Right("list", "pods"),
    Right("watch", "pods"),
    Right("list", "nodes", everywhere=True, without="pressure on nodes is not seen"),
    Right("list", "endpointslices", "discovery.k8s.io", needed=False, without=_POLICY),
    Right("watch", "endpointslices", "discovery.k8s.io", needed=False, without=_POLICY),
    Right("watch", "events", needed=False, without="why a pod does not start is not told"),
    Right("get", "pods/log", needed=False, without="what functions wrote is not kept"),
)


def unmet(memory_mb: Mapping[str, int], nodes_mb: Sequence[float], quota_mb: float | None) -> list[str]:
    """Why one replica of each function does not fit, in words. quota_mb: what is left of it; None is no bound."""
    if not memory_mb or not nodes_mb:
        return []
    largest, need_mb = max(memory_mb.items(), key=lambda each: each[1]), sum(memory_mb.values())
    found = []
    if largest[1] > max(nodes_mb):
        found.append(f"{largest[0]} needs {largest[1]} MB, and the largest node has {max(nodes_mb):.0f}")
    if need_mb > sum(nodes_mb):
        found.append(f"one replica of each function needs {need_mb} MB, and the nodes have {sum(nodes_mb):.0f}")
    if quota_mb is not None and need_mb > quota_mb:
        found.append(f"one replica of each function needs {need_mb} MB, and the quota leaves {quota_mb:.0f}")
    return found


class Cluster:
    """Reads only; needs `get`, `list` and `watch` on pods, endpoint slices and events, `list` on nodes."""

    def __init__(self, made: client.ApiClient, namespace: str) -> None:
        self.made = made
        self._api = client.CoreV1Api(made)
        self.namespace = namespace

    def watch(self, functions: Collection[str]) -> PodWatch:
        return PodWatch(self.made, self.namespace, functions)

    def ready(self) -> dict[str, int]:
        """By function, how many pods are ready now and do not end."""
        found: dict[str, int] = {}
        for pod in self._pods():
            conditions = pod.status.conditions or ()
            ready = any(each.type == "Ready" and each.status == "True" for each in conditions)
            name = pod.metadata.labels[FUNCTION]
            found[name] = found.get(name, 0) + (ready and pod.metadata.deletion_timestamp is None)
        return found

    def alive(self) -> dict[str, int]:
        """By function, how many pods have not ended, those that are about to included."""
        return dict(Counter(pod.metadata.labels[FUNCTION] for pod in self._pods() if pod.status.phase not in _OVER))

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

    def missing_rights(self) -> list[Right]:
        """Of those that are used here. Any account may ask for its own."""
        api = client.AuthorizationV1Api(self.made)
        return [right for right in _RIGHTS if not self._may(api, right)]

    def _may(self, api: Any, right: Right) -> bool:
        resource, _, sub = right.resource.partition("/")
        about = client.V1ResourceAttributes(
            verb=right.verb,
            group=right.group,
            resource=resource,
            subresource=sub or None,
            namespace=None if right.everywhere else self.namespace,
        )
        asked = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=about))
        return bool(self._ask(api.create_self_subject_access_review, asked).status.allowed)

    def nodes_memory_mb(self) -> list[float]:
        """That pods may have, by node; empty where nodes may not be listed."""
        try:
            nodes = self._ask(self._api.list_node).items
        except PlatformError:
            return []
        return [_mb((each.status.allocatable or each.status.capacity)["memory"]) for each in nodes]

    def quota_memory_mb(self) -> float | None:
        """What the functions' namespace has left; None without a quota, or without the right to see it."""
        try:
            quotas = self._ask(self._api.list_namespaced_resource_quota, self.namespace).items
        except PlatformError:
            return None
        left = [
            _mb(hard) - _mb((each.status.used or {}).get(name, "0"))
            for each in quotas
            for name, hard in (each.status.hard or {}).items()
            if name in ("limits.memory", "requests.memory", "memory")
        ]
        return min(left, default=None)

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

    def failed_starts(self, since_ns: int) -> list[tuple[str, list[str]]]:
        """Of pods made since, by function: why they did not start, once for each time."""
        # Its stamps are whole seconds.
        new = [pod for pod in self._pods() if _ns(pod.metadata.creation_timestamp) > since_ns - NS_PER_S]
        plain = (self.made.sanitize_for_serialization(pod) for pod in new)  # type: ignore[no-untyped-call]
        return [(pod["metadata"]["labels"][FUNCTION], failed_starts(pod)) for pod in plain]

    def how_pods_start(self) -> dict[str, Any]:
        """By function: pull policy, probes and requests of its container; nothing of the node that it is on."""
        found = {}
        for pod in self._pods():
            container = self.made.sanitize_for_serialization(pod.spec.containers[0])  # type: ignore[no-untyped-call]
            found[pod.metadata.labels[FUNCTION]] = {name: container[name] for name in _STARTING if name in container}
        return dict(sorted(found.items()))

    def is_here(self) -> bool:
        """Whether a node is this machine, or pods of functions are on the node that this pod is on (NODE_NAME)."""
        mine = os.environ.get("NODE_NAME")
        if mine:
            return any(pod.spec.node_name == mine for pod in self._pods())
        own = {each.address for addresses in psutil.net_if_addrs().values() for each in addresses}
        nodes = self._ask(self._api.list_node).items
        return any(each.address in own for node in nodes for each in node.status.addresses or ())

    def _pods(self) -> list[Any]:
        return list(self._ask(self._api.list_namespaced_pod, self.namespace, label_selector=FUNCTION).items)

    def _ask(self, call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options, _request_timeout=_TIMEOUT_S)
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise PlatformError(
                f"Kubernetes does not answer {call.__name__} ({reason})",
                hint="give the account `list` on pods and nodes, or unset KUBECONFIG to measure without",
            ) from error


def _mb(quantity: str) -> float:
    return float(parse_quantity(quantity)) / _MB  # type: ignore[no-untyped-call]


def _last_change_ns(pod: Any) -> int:
    """Of a pod that ended: an evicted one may have no containers any more, but its conditions changed."""
    states = [status.state for status in pod.status.container_statuses or () if status.state is not None]
    moments = [condition.last_transition_time for condition in pod.status.conditions or ()]
    moments += [state.terminated.finished_at for state in states if state.terminated is not None]
    moments += [pod.metadata.deletion_timestamp, pod.metadata.creation_timestamp]
    return max(_ns(moment) for moment in moments)


def _ns(at: datetime | None) -> int:
    return int(at.astimezone(UTC).timestamp()) * 1_000_000_000 if at else 0
