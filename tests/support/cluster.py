"""OpenFaaS on Kubernetes as far as FAVE meets it, over real HTTP: a gateway, its metrics, and the API of the cluster.

What was seen of real ones is set by `Ways`: a proxy that raises 0 to 1, changes that are lost or get in each other's
way, slow probes, streams that break off.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fave.clock import iso, utc_ns

FUNCTION = "faas_function"
API = {
    "pods": "/api/v1/namespaces/openfaas-fn/pods",
    "events": "/api/v1/namespaces/openfaas-fn/events",
    "endpointslices": "/apis/discovery.k8s.io/v1/namespaces/openfaas-fn/endpointslices",
    "nodes": "/api/v1/nodes",
    "deployments": "/apis/apps/v1/namespaces/openfaas-fn/deployments",
    "services": "/api/v1/namespaces/openfaas-fn/services",
    "resourcequotas": "/api/v1/namespaces/openfaas-fn/resourcequotas",
}


@dataclass
class Ways:
    """conflicts: so many changes are refused. deleting: so many, because one of that name still ends. lost: so many
    are answered 200 and forgotten. start_s: until a pod's process is there; probe_s: until it is ready then.
    idles: who scales to zero is there. replaces: every PUT replaces all pods. forbidden: kinds that may not be
    read. away: the cluster's API answers nothing. gone: a stream's place is forgotten.
    """

    conflicts: int = 0
    deleting: int = 0
    lost: int = 0
    raises_zero: bool = False
    idles: bool = False
    replaces: bool = True
    start_s: float = 0.1
    probe_s: float = 0.1
    work_s: float = 0.0
    forbidden: set[str] = field(default_factory=set)
    away: bool = False
    gone: bool = False
    pulls: bool = True


class ClusterDouble:
    def __init__(self, ways: Ways) -> None:
        self.ways = ways
        self.functions: dict[str, dict[str, Any]] = {}
        self.wanted: dict[str, int] = {}
        self.objects: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in API}
        self.objects["nodes"]["n"] = node()
        self.versions: dict[str, int] = {}
        self.calls: dict[str, list[int]] = {}
        self.used: dict[str, float] = {}
        self.served: dict[str, int] = {}
        self.busy: dict[str, int] = {}
        self.hosts: dict[str, tuple[str, int]] = {}
        self.puts: list[dict[str, Any]] = []
        self._changes: list[tuple[int, str, str, dict[str, Any]]] = []
        self._version = 0
        self.changed = threading.Condition()
        self.over = threading.Event()

    # The cluster.

    def put(self, kind: str, change: str, thing: dict[str, Any]) -> None:
        with self.changed:
            self._version += 1
            thing["metadata"]["resourceVersion"] = str(self._version)
            name = thing["metadata"]["name"]
            if change == "DELETED":
                self.objects[kind].pop(name, None)
            else:
                self.objects[kind][name] = thing
            self._changes.append((self._version, kind, change, json.loads(json.dumps(thing))))
            self.changed.notify_all()

    def changes(self, kind: str, since: int, timeout_s: float) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + timeout_s
        while not self.over.is_set() and not self.ways.away and time.monotonic() < deadline:
            if self.ways.gone:
                self.ways.gone = False
                status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
                yield {"type": "ERROR", "object": status}
                return
            with self.changed:
                found = [each for each in self._changes if each[0] > since and each[1] == kind]
                if not found:
                    self.changed.wait(0.05)
            for version, _, change, thing in found:
                since = version
                yield {"type": change, "object": thing}

    def listed(self, kind: str) -> dict[str, Any]:
        with self.changed:
            items = list(self.objects[kind].values())
            return {
                "kind": "List",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": str(self._version)},
                "items": items,
            }

    def change(self, method: str, route: str, given: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        """Deployments and services that somebody makes by hand."""
        kind = next(kind for kind in ("deployments", "services") if route.startswith(API[kind]))
        name = route.removeprefix(API[kind]).strip("/").partition("/")[0] or given["metadata"]["name"]
        there = self.objects[kind].get(name)
        if kind in self.ways.forbidden:
            return 403, {"Content-Type": "application/json"}, b'{"message": "services is forbidden"}'
        if (method == "POST") is (there is not None):
            return (409 if there else 404), {"Content-Type": "application/json"}, b"{}"
        if method == "DELETE":
            self.put(kind, "DELETED", there)
            if kind == "deployments":
                self.scale(name, 0)
                self.functions.pop(name, None)
            return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        stands = _merged(there, given) if method == "PATCH" else given
        self.put(kind, "MODIFIED", stands)
        if kind == "deployments":
            self._made_by_hand(name, stands)
        return _json(stands)

    def _made_by_hand(self, name: str, stands: dict[str, Any]) -> None:
        template = stands["spec"]["template"]
        container = template["spec"]["containers"][0]
        variables = {each["name"]: each["value"] for each in container["env"]}
        self.functions[name] = {
            "service": name,
            "image": container["image"],
            "envVars": variables,
            "labels": template["metadata"]["labels"],
        }
        version = hash(json.dumps(template, sort_keys=True)) & 0xFFFFFFFFF
        if self.versions.setdefault(name, version) != version:
            self.versions[name] = version
            for pod in self.pods_of(name):
                self._end(pod)
        self.scale(name, stands["spec"]["replicas"])

    # Pods.

    def pods_of(self, function: str) -> list[dict[str, Any]]:
        with self.changed:
            pods = list(self.objects["pods"].values())
        return [pod for pod in pods if pod["metadata"]["labels"][FUNCTION] == function and not _ending(pod)]

    def ready_of(self, function: str) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.pods_of(function) if _is_ready(pod)]

    def scale(self, function: str, count: int) -> None:
        self.wanted[function] = count
        there = self.pods_of(function)
        if count > len(there):
            self.used[function] = time.monotonic()
        for pod in there[count:]:
            self._end(pod)
        for _ in range(count - len(there)):
            threading.Thread(target=self._start, args=(function,), daemon=True).start()

    def _start(self, function: str) -> None:
        name = f"{function}-{self.versions[function]:09x}-{uuid.uuid4().hex[:5]}"
        meta = {"name": name, "labels": {FUNCTION: function}, "creationTimestamp": iso(utc_ns())}
        image = self.functions[function]["image"]
        pod = {
            "metadata": meta,
            "spec": {"containers": [{"name": "f", "image": image}]},
            "status": {"phase": "Pending"},
        }
        self.put("pods", "ADDED", pod)
        if not self.ways.pulls:
            self.put("pods", "MODIFIED", pod | {"status": _status(waiting="ErrImagePull")})
            return
        time.sleep(self.ways.start_s)
        began_ns = utc_ns()
        self.hosts[name] = (f"{name}-{uuid.uuid4().hex[:8]}", began_ns)
        pod = pod | {"status": _status(running=True)}
        if name in self.objects["pods"]:
            self.put("pods", "MODIFIED", pod)
        time.sleep(self.ways.probe_s)
        if name in self.objects["pods"] and not _ending(self.objects["pods"][name]):
            self.put("pods", "MODIFIED", pod | {"status": _status(running=True, ready=True)})
            self._tell_endpoints(function)

    def _end(self, pod: dict[str, Any]) -> None:
        ending = pod | {"metadata": pod["metadata"] | {"deletionTimestamp": iso(utc_ns())}}
        self.put("pods", "MODIFIED", ending)
        self._tell_endpoints(pod["metadata"]["labels"][FUNCTION])
        self.put("pods", "DELETED", ending)

    def _tell_endpoints(self, function: str) -> None:
        there = [
            {"targetRef": {"name": name}, "addresses": ["10.0.0.1"], "conditions": {"ready": True}}
            for name in self.ready_of(function)
        ]
        slice_ = {"metadata": {"name": f"{function}-abc"}, "addressType": "IPv4", "endpoints": there, "ports": []}
        self.put("endpointslices", "MODIFIED", slice_)

    def idle_forever(self) -> None:
        """Whoever scales to zero, where somebody does."""
        while not self.over.wait(0.05):
            for name, function in list(self.functions.items()):
                labels = function.get("labels") or {}
                idle_s = _seconds(labels.get("com.openfaas.scale.zero-duration", "900s"))
                used_s = time.monotonic() - self.used.get(name, 0)
                zero = labels.get("com.openfaas.scale.zero") == "true"
                if self.ways.idles and zero and used_s > idle_s and self.wanted.get(name) and not self.busy.get(name):
                    self.scale(name, 0)

    # The gateway.

    def gateway(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        route, _, _ = path.partition("?")
        if route == "/metrics":
            return 200, {"Content-Type": "text/plain"}, self.metrics().encode()
        if route == "/api/v1/query":
            return self.newest()
        if route.startswith("/function/"):
            return self.invoke(route.split("/")[2], headers)
        if route == "/healthz":
            return 200, {}, b"OK"
        given = json.loads(body) if body and method != "GET" else {}
        return self._system(method, route.removeprefix("/system/"), given)

    def _system(self, method: str, route: str, given: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        if method in ("PUT", "POST") and self.ways.conflicts:
            self.ways.conflicts -= 1
            return 500, {}, b"Unable to update function deployment: the object has been modified"
        if route == "info":
            version = {"release": "0.16.0", "sha": "x"}
            provider = {"provider": "faas-netes", "orchestration": "kubernetes", "version": version}
            return _json({"provider": provider, "version": version, "arch": "x86_64"})
        if route == "functions" and method == "GET":
            return _json([self.status(name) for name in self.functions])
        if route == "functions" and method in ("PUT", "POST"):
            return self._deploy(method, given)
        if route == "functions":
            name = given["functionName"]
            self.scale(name, 0)
            return (202 if self.functions.pop(name, None) else 404), {}, b""
        what, _, name = route.partition("/")
        if what == "function" and name in self.functions:
            return _json(self.status(name))
        if what == "scale-function" and name in self.functions:
            count = given["replicas"]
            self.scale(name, max(1, count) if self.ways.raises_zero else count)
            return 202, {}, b""
        return 404, {}, b""

    def _deploy(self, method: str, given: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        name, known = given["service"], given["service"] in self.functions
        if self.ways.deleting:
            self.ways.deleting -= 1
            what = f'object is being deleted: deployments.apps "{name}" already exists'
            return 500, {}, f"unable create Deployment: {what}".encode()
        if method == "PUT" and not known:
            return 404, {}, b""
        if self.ways.lost:
            self.ways.lost -= 1
            return 200, {}, b""
        self.puts.append(given)
        self.functions[name] = given
        self.versions[name] = self.versions.get(name, 0) + (self.ways.replaces or not known)
        if known and self.ways.replaces:
            count = self.wanted[name]
            for pod in self.pods_of(name):
                self._end(pod)
            self.scale(name, count)
        elif not known:
            self.scale(name, 1)
        return 202, {}, b""

    def status(self, name: str) -> dict[str, Any]:
        function = self.functions[name]
        labels = (function.get("labels") or {}) | {FUNCTION: name, "uid": "123"}
        told = {key: value for key, value in function.items() if key != "service"} | {"name": name, "labels": labels}
        counts = {"replicas": self.wanted.get(name, 0), "availableReplicas": len(self.ready_of(name))}
        return told | {key: count for key, count in counts.items() if count}

    def invoke(self, name: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if name not in self.functions:
            return 404, {}, b""
        if not self.wanted.get(name):
            if name in self.objects["deployments"]:
                self.objects["deployments"][name]["spec"]["replicas"] = 1
            self.scale(name, int((self.functions[name].get("labels") or {}).get("com.openfaas.scale.min", "1")))
        deadline = time.monotonic() + 20
        while not self.ready_of(name):
            if time.monotonic() > deadline:
                return 503, {}, f"No endpoints available for: {name}.".encode()
            time.sleep(0.02)
        forwarded_ns = utc_ns()
        self.calls.setdefault(name, [0, 0])[0] += 1
        pod = self.ready_of(name)[0]
        most = int((self.functions[name].get("envVars") or {}).get("max_inflight", "1"))
        with self.changed:
            full = self.busy.get(pod, 0) >= most
            self.busy[pod] = self.busy.get(pod, 0) + (not full)
            self.busy[name] = self.busy.get(name, 0) + (not full)
        if full:
            self.calls[name][1] += 1
            return 429, {}, b"Concurrent request limit exceeded."
        received_ns = utc_ns()
        time.sleep(self.ways.work_s)
        with self.changed:
            self.busy[pod] -= 1
            self.busy[name] -= 1
            before = self.served.get(pod, 0)
            self.served[pod] = before + 1
        self.used[name] = time.monotonic()
        self.calls[name][1] += 1
        replica, began_ns = self.hosts[pod]
        stamps = {
            "X-Fave-Replica-Id": replica,
            "X-Fave-Process-Started-At": began_ns,
            "X-Fave-Ready-At": began_ns,
            "X-Fave-Invocations-Before": before,
            "X-Fave-Received-At": received_ns,
            "X-Fave-Started-At": received_ns,
            "X-Fave-Finished-At": utc_ns(),
            "X-Start-Time": forwarded_ns,
        }
        return 200, {key: str(value) for key, value in stamps.items()}, b"{}"

    def newest(self) -> tuple[int, dict[str, str], bytes]:
        """Whatever is asked, as Prometheus answers: all that the gateway tells."""
        found = []
        for line in self.metrics().splitlines():
            name, _, rest = line.partition("{")
            labels, _, value = rest.partition("} ")
            metric = {"__name__": name} | dict(part.replace('"', "").split("=") for part in labels.split(","))
            found.append({"metric": metric, "value": [time.time(), value]})
        return _json({"status": "success", "data": {"resultType": "vector", "result": found}})

    def metrics(self) -> str:
        """Without Pro's counts of ready replicas and of calls in flight."""
        lines = ['up{instance="gateway:8082",job="gateway"} 1']
        for name in self.functions:
            label = f'function_name="{name}.openfaas-fn"'
            lines.append(f"gateway_service_count{{{label}}} {self.wanted.get(name, 0)}")
            started, finished = self.calls.get(name, [0, 0])
            if started:
                lines.append(f"gateway_function_invocation_started{{{label}}} {started}")
            if finished:
                lines.append(f'gateway_function_invocation_total{{{label},code="200"}} {finished}')
        return "\n".join([*lines, ""])


def _merged(there: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A merge patch: null takes a key away."""
    found = dict(there)
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found.get(key) or {}, value) if isinstance(value, dict) else value
    return found


def node(pressure: str = "False", since: str = "2027-01-15T08:00:00Z") -> dict[str, Any]:
    names = (
        "bootID",
        "containerRuntimeVersion",
        "kubeProxyVersion",
        "machineID",
        "osImage",
        "systemUUID",
        "operatingSystem",
    )
    info = dict.fromkeys(names, "-") | {"kubeletVersion": "v1.31.1", "kernelVersion": "6.1", "architecture": "amd64"}
    condition = {"type": "MemoryPressure", "status": pressure, "lastTransitionTime": since}
    status = {"capacity": {"cpu": "4", "memory": "16Gi"}, "nodeInfo": info, "conditions": [condition]}
    return {"metadata": {"name": "n"}, "status": status}


def _status(*, running: bool = False, ready: bool = False, waiting: str = "") -> dict[str, Any]:
    state = {"running": {"startedAt": iso(utc_ns())}} if running else {"waiting": {"reason": waiting or "Creating"}}
    container = {
        "name": "f",
        "image": "f:1",
        "imageID": "registry/f@sha256:abc",
        "ready": ready,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    }
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": iso(utc_ns())}
    phase = "Running" if running else "Pending"
    return {"phase": phase, "conditions": [condition], "containerStatuses": [container]}


def _ending(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))


def _seconds(text: str) -> float:
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text.rstrip("s"))


def _json(value: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


class _Handler(BaseHTTPRequestHandler):
    """Both APIs at one address: their paths differ."""

    protocol_version = "HTTP/1.1"
    double: ClusterDouble

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        route, _, query = self.path.partition("?")
        with contextlib.suppress(OSError):
            if route.endswith("/selfsubjectaccessreviews"):
                asked = json.loads(body)["spec"]["resourceAttributes"]
                allowed = asked["resource"] not in self.double.ways.forbidden
                self._answer(*_json({"spec": {}, "status": {"allowed": allowed}}))
            elif self.command != "GET" and route.startswith("/api"):
                self._answer(*self.double.change(self.command, route, json.loads(body) if body else {}))
            elif route.startswith("/api") and route != "/api/v1/query":
                self._kubernetes(route, query)
            else:
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._answer(*self.double.gateway(self.command, self.path, body, headers))

    def _kubernetes(self, route: str, query: str) -> None:
        kind = next((kind for kind, path in API.items() if route == path), "")
        if self.double.ways.away:
            self.close_connection = True
        elif kind in self.double.ways.forbidden:
            self._answer(403, {"Content-Type": "application/json"}, b'{"reason": "Forbidden"}')
        elif not kind:
            line = b"2027-01-15T08:00:00.000000001Z hello from the pod\n"
            self._answer(200, {"Content-Type": "text/plain"}, line)
        elif "watch=true" not in query.lower():
            self._answer(*_json(self.double.listed(kind)))
        else:
            asked = dict(part.split("=") for part in query.split("&"))
            self._stream(self.double.changes(kind, int(asked["resourceVersion"]), 30))

    def _stream(self, changes: Iterator[dict[str, Any]]) -> None:
        self.send_response_only(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for change in changes:
            line = json.dumps(change).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
        self.close_connection = True

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_any  # noqa: N815 - the standard library asks for these

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is part of these tests."""


@contextlib.contextmanager
def cluster_double(ways: Ways | None = None) -> Iterator[tuple[ClusterDouble, str]]:
    """The double, and the address of its gateway, metrics and Kubernetes."""
    double = ClusterDouble(ways or Ways())
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"double": double}))
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)]
    threads.append(threading.Thread(target=double.idle_forever, daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield double, f"http://127.0.0.1:{server.server_port}"
    finally:
        double.over.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()


def kubeconfig(url: str) -> str:
    """The text of a file that leads there."""
    parts = {
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    return json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "c"} | parts)
