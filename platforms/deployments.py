"""Deployments and Services of the functions' namespace, as plain data, through Kubernetes' client."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, TypeVar

import urllib3
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from fave.errors import PlatformError
from platforms.kubernetes_api import Cluster
from platforms.plain_objects import Object

T = TypeVar("T")
_TIMEOUT_S = 10
_TAKEN = 409


class Deployments:
    """Needs get, list, create, patch and delete on deployments, patch on deployments/scale, and create and delete on
    services.
    """

    def __init__(self, made: client.ApiClient, namespace: str) -> None:
        self._namespace = namespace
        self._apps, self._core = client.AppsV1Api(made), client.CoreV1Api(made)

    @classmethod
    def of(cls, cluster: Cluster) -> Deployments:
        return cls(cluster.made, cluster.namespace)

    def all(self) -> list[Object]:
        """Of everybody, in this namespace."""
        found = _asked("list deployments", lambda: self._apps.list_namespaced_deployment(self._namespace, **_RAW))
        return list(_plain(found)["items"])

    def put(self, deployment: Any, service: Any) -> Object:
        """Make or replace both; the Deployment as it stands then."""
        name = deployment["metadata"]["name"]
        self._put_service(name, service)
        stands = _asked(f"create deployment {name}", lambda: self._create_or_replace(name, deployment))
        return _plain(stands)

    def _create_or_replace(self, name: str, deployment: Any) -> Any:
        try:
            return self._apps.create_namespaced_deployment(self._namespace, deployment, **_RAW)
        except ApiException as error:
            if error.status != _TAKEN:
                raise
        return self._apps.replace_namespaced_deployment(name, self._namespace, deployment, **_RAW)

    def _put_service(self, name: str, service: Any) -> None:
        """One that is there selects the same pods."""

        def create() -> None:
            try:
                self._core.create_namespaced_service(self._namespace, service, **_RAW)
            except ApiException as error:
                if error.status != _TAKEN:
                    raise

        _asked(f"create service {name}", create)

    def patch(self, name: str, change: Object) -> None:
        _asked(
            f"patch deployment {name}",
            lambda: self._apps.patch_namespaced_deployment(name, self._namespace, change, **_RAW),
        )

    def scale(self, name: str, replicas: int) -> None:
        body = {"spec": {"replicas": replicas}}
        _asked(
            f"patch deployments/scale {name}",
            lambda: self._apps.patch_namespaced_deployment_scale(name, self._namespace, body, **_RAW),
        )

    def delete(self, name: str) -> None:
        """What is gone already is no error."""
        for what, call in (
            ("deployment", self._apps.delete_namespaced_deployment),
            ("service", self._core.delete_namespaced_service),
        ):
            gone = functools.partial(call, name, self._namespace, **_RAW)
            _asked(f"delete {what} {name}", functools.partial(_gone, gone))


# As it comes: the client's own types refuse what some versions answer (a Status where a Service was deleted).
_RAW: dict[str, Any] = {"_request_timeout": _TIMEOUT_S, "_preload_content": False}


def _plain(reply: Any) -> Object:
    made: Object = json.loads(reply.data)
    return made


def _gone(call: Callable[[], object]) -> None:
    try:
        call()
    except ApiException as error:
        if error.status != 404:
            raise


def _asked(what: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except (ApiException, urllib3.exceptions.HTTPError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise PlatformError(
            f"Kubernetes: {what}: {reason} {_message(error)}".rstrip(),
            hint="`kubectl apply -k platforms/manifests/plain` gives the account what PLATFORM=plain needs",
        ) from error


def _message(error: Exception) -> str:
    return str(getattr(error, "body", "") or "")[:300]
