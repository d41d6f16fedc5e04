"""A function as plain Kubernetes objects, a Deployment and a Service, and what a Deployment says of its function. Pure.

As OpenFaaS' provider finds them: by the label `faas_function`, behind a service of the function's name. How a function
scales and its regime stand on the Deployment alone, not on its pods, so that no change of them replaces a pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fave.wire.openfaas import LABEL, NAME_LABEL, FunctionSpec, FunctionStatus
from workloads.model import Function

Object = dict[str, Any]
_PORT = 8080
_SECRETS = "/var/openfaas/secrets"
_PROBES = {"readinessProbe": "com.openfaas.ready.http.", "livenessProbe": "com.openfaas.health.http."}
_HOSTED_READY = "/_/ready"
# Whom FAVE's images know.
_USER = 10001


def deployment(spec: FunctionSpec, about: Function, replicas: int) -> Object:
    """What it asks of a pod fits Pod Security's *restricted*: no root, no capabilities."""
    name = {NAME_LABEL: spec.service}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": spec.service, "labels": name | spec.labels, "annotations": spec.annotations},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": name},
            "template": {"metadata": {"labels": name}, "spec": _pod(spec, about)},
        },
    }


def service(spec: FunctionSpec) -> Object:
    name = {NAME_LABEL: spec.service}
    ports = [{"name": "http", "port": _PORT, "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": spec.service, "labels": name},
        "spec": {"selector": name, "ports": ports},
    }


def scaling(spec: FunctionSpec, there: Mapping[str, str]) -> Object:
    """The change that gives a Deployment these scaling labels and takes away others that it has."""
    gone = {name: None for name in there if name.startswith(LABEL)}
    return {"metadata": {"labels": gone | {name: v for name, v in spec.labels.items() if name.startswith(LABEL)}}}


def status_of(found: Mapping[str, Any], ready: int) -> FunctionStatus:
    """found: a Deployment as plain data."""
    meta, template = found["metadata"], found["spec"]["template"]["spec"]
    container = template["containers"][0]
    secrets = [
        source["secret"]["name"]
        for volume in template.get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
    ]
    return FunctionStatus(
        name=meta["name"],
        image=container["image"],
        labels=meta.get("labels") or {},
        annotations=meta.get("annotations") or {},
        env_process="",
        env_vars={each["name"]: each.get("value", "") for each in container.get("env") or ()},
        secrets=tuple(secrets),
        limits=(container.get("resources") or {}).get("limits") or {},
        replicas=found["spec"].get("replicas") or 0,
        available_replicas=ready,
    )


def _pod(spec: FunctionSpec, about: Function) -> Object:
    environment = spec.env_vars | ({"fprocess": spec.env_process} if spec.env_process else {})
    container: Object = {
        "name": spec.service,
        "image": spec.image,
        "ports": [{"name": "http", "containerPort": _PORT}],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {"limits": spec.limits, "requests": spec.requests or spec.limits},
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": spec.read_only_root_filesystem,
        },
        **_probes(spec, about),
    }
    volumes: list[Object] = [{"name": "scratch", "emptyDir": {}}]
    if spec.secrets:
        container["volumeMounts"].append({"name": "secrets", "mountPath": _SECRETS, "readOnly": True})
        volumes.append({"name": "secrets", "projected": {"sources": [{"secret": {"name": n}} for n in spec.secrets]}})
    return {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }


def _probes(spec: FunctionSpec, about: Function) -> Object:
    """As OpenFaaS' annotations say; else when the workload says that a replica is ready, asked every second."""
    found: Object = {}
    for probe, prefix in _PROBES.items():
        told = {name.removeprefix(prefix): v for name, v in spec.annotations.items() if name.startswith(prefix)}
        if path := told.pop("path", ""):
            asked = {"httpGet": {"path": path, "port": "http"}}
            found[probe] = asked | {name: int(value) for name, value in told.items()}
    path = about.ready.path or (_HOSTED_READY if about.hosted else "")
    how: Object = {"httpGet": {"path": path, "port": "http"}} if path else {"tcpSocket": {"port": "http"}}
    return {"readinessProbe": how | {"periodSeconds": 1}} | found
