"""The OpenFaaS gateway's REST API: the one interface to the embedded gateway and to a real OpenFaaS."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from fave.endpoints import Endpoints
from fave.environment import shown
from fave.errors import GatewayError

T = TypeVar("T")
_CONNECT_TIMEOUT_S = 3.05


class FunctionSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """OpenFaaS' FunctionDeployment, the part that FAVE sets."""

    service: str
    image: str
    namespace: str = ""
    env_process: str = msgspec.field(name="envProcess", default="")
    env_vars: dict[str, str] = msgspec.field(name="envVars", default={})
    secrets: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    limits: dict[str, str] = {}
    requests: dict[str, str] = {}
    read_only_root_filesystem: bool = msgspec.field(name="readOnlyRootFilesystem", default=False)


class FunctionStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """OpenFaaS' FunctionStatus. A count of 0 is absent in the JSON, hence the defaults.

    draining is the embedded gateway's: replicas that take nothing more but are still there.
    """

    name: str
    image: str = ""
    namespace: str = ""
    replicas: int = 0
    available_replicas: int = msgspec.field(name="availableReplicas", default=0)
    draining: int = msgspec.field(name="drainingReplicas", default=0)
    invocation_count: float = msgspec.field(name="invocationCount", default=0)
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    env_vars: dict[str, str] | None = msgspec.field(name="envVars", default=None)
    secrets: tuple[str, ...] | None = None
    limits: dict[str, str] | None = None
    requests: dict[str, str] | None = None
    read_only_root_filesystem: bool = msgspec.field(name="readOnlyRootFilesystem", default=False)


class _Secret(msgspec.Struct, frozen=True):
    name: str


class Cancellation:
    """Ends invocations under way from another thread: their connections are closed, which the gateway notices."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        with _lock:
            self.cancelled.set()
            for connected, owner in _in_use.items():
                if owner is self:
                    _shut(connected)

    @contextlib.contextmanager
    def covers(self) -> Any:
        """What this thread sends within the block can be cancelled."""
        _covered.by = self
        try:
            yield
        finally:
            _covered.by = None


_covered = threading.local()
# Whose request is on which connection. Connections are pooled: the next request on one takes it over.
_in_use: weakref.WeakKeyDictionary[socket.socket, Cancellation | None] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _shut(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


class _Announced:
    """A connection that tells the cancellation in force on its thread which socket it uses."""

    sock: Any

    def request(self, *arguments: Any, **options: Any) -> None:
        cancellation = getattr(_covered, "by", None)
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        with _lock:
            _in_use[self.sock] = cancellation
            if cancellation is not None and cancellation.cancelled.is_set():
                _shut(self.sock)
        super().request(*arguments, **options)  # type: ignore[misc]


class _Connection(_Announced, HTTPConnection):
    pass


class _SecureConnection(_Announced, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


def answers(url: str) -> bool:
    """Whether something of ours on this machine does, within a second."""
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands between us and loopback
            return session.get(url, timeout=1).status_code < 300
    except requests.RequestException:
        return False


class GatewayClient:
    """Blocking, pooled, shared by threads. Retries nothing: a retry is an attempt with stamps of its own."""

    def __init__(self, url: str, user: str = "", password: str = "", *, pool_size: int = 32) -> None:
        self.url = url.rstrip("/")
        self._shown = shown(self.url)
        self.session = requests.Session()
        adapter = _Adapter(pool_connections=2, pool_maxsize=pool_size)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        # Never from ~/.netrc or proxy variables: a measurement must not depend on the account that runs it.
        self.session.trust_env = False
        self.auth = (user, password) if user else None

    @classmethod
    def at(cls, endpoints: Endpoints) -> GatewayClient:
        return cls(endpoints.gateway_url, endpoints.gateway_user, endpoints.gateway_password)

    def functions(self) -> list[FunctionStatus]:
        return self._decoded(self._system("GET", "functions").content, list[FunctionStatus])

    def function(self, name: str) -> FunctionStatus | None:
        """The status, or None when there is no such function."""
        reply = self._system("GET", f"function/{name}", accept=(404,))
        return None if reply.status_code == 404 else self._decoded(reply.content, FunctionStatus)

    def deploy(self, spec: FunctionSpec) -> None:
        """Update, or create where it is missing."""
        body = msgspec.json.encode(spec)
        if self._system("PUT", "functions", body, accept=(404,)).status_code == 404:
            self._system("POST", "functions", body)

    def delete(self, name: str) -> None:
        """Delete; a function that is already gone is no error."""
        self._system("DELETE", "functions", msgspec.json.encode({"functionName": name}), accept=(404,))

    def scale(self, name: str, replicas: int) -> None:
        body = msgspec.json.encode({"serviceName": name, "replicas": replicas})
        self._system("POST", f"scale-function/{name}", body)

    def info(self) -> dict[str, Any]:
        return self._decoded(self._system("GET", "info").content, dict[str, Any])

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """The embedded gateway's event log after sequence number `since` (404 → GatewayError elsewhere)."""
        text = self._system("GET", f"events?since={since}").content
        return [self._decoded(line, dict[str, Any]) for line in text.splitlines() if line]

    def logs(self, function: str, since: str, tail: int) -> list[dict[str, Any]]:
        """The last `tail` lines of a function's replicas, written since (ISO 8601); `instance` is the replica's id."""
        query = urlencode({"name": function, "since": since, "tail": tail, "follow": "false"})
        reply = self._system("GET", f"logs?{query}", accept=(404,))
        if reply.status_code == 404:
            return []
        return [self._decoded(line, dict[str, Any]) for line in reply.content.splitlines() if line.strip()]

    def invoke(
        self,
        name: str,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        timeout_s: float = 300.0,
        cancellation: Cancellation | None = None,
    ) -> requests.Response:
        """POST to the function (`name` may go on with a path). Any status is returned; only "no answer" is an error."""
        with cancellation.covers() if cancellation else contextlib.nullcontext():
            return self._post(f"function/{name}", body, headers, timeout_s)

    def invoke_async(
        self, name: str, body: bytes, headers: dict[str, str] | None = None, *, callback_url: str = ""
    ) -> str:
        """Queue an invocation; returns its call id. The reply is posted to `callback_url`, where there is one.

        Raises
        ------
        GatewayError
            When the gateway does not take it (404: it has no queue, or no such function).
        """
        extra = {"X-Callback-Url": callback_url} if callback_url else {}
        reply = self._post(f"async-function/{name}", body, {**(headers or {}), **extra}, 30.0)
        if reply.status_code != 202:
            raise _refusal("POST", f"/async-function/{name}", reply)
        return str(reply.headers.get("X-Call-Id", ""))

    def _post(self, path: str, body: bytes, headers: dict[str, str] | None, timeout_s: float) -> requests.Response:
        name = path.partition("/")[2]
        try:
            return self.session.post(
                f"{self.url}/{path}",
                data=body,
                headers=headers,
                timeout=(_CONNECT_TIMEOUT_S, timeout_s),
                allow_redirects=False,
            )
        except requests.ReadTimeout as error:
            raise GatewayError(f"{name}: no reply within {timeout_s:g} s", status=504) from error
        except requests.RequestException as error:
            what = f"{name}: gateway {self._shown} does not answer ({type(error).__name__})"
            raise GatewayError(what, sent=not _never_sent(error)) from error

    # Secrets, which functions find in files (`fave.endpoints.credential`).

    def secrets(self) -> list[str]:
        return [secret.name for secret in self._decoded(self._system("GET", "secrets").content, list[_Secret])]

    def put_secret(self, name: str, value: str) -> None:
        """Create, or change where it is there."""
        body = msgspec.json.encode({"name": name, "value": value})
        if self._system("PUT", "secrets", body, accept=(404,)).status_code == 404:
            self._system("POST", "secrets", body)

    def delete_secret(self, name: str) -> None:
        self._system("DELETE", "secrets", msgspec.json.encode({"name": name}), accept=(404,))

    def _decoded(self, content: bytes, kind: type[T]) -> T:
        """Whatever answers at an address may be something else than a gateway."""
        try:
            return msgspec.json.decode(content, type=kind)
        except ValueError as error:
            raise GatewayError(
                f"{self._shown} answers, but not as OpenFaaS' gateway does ({error})",
                hint="GATEWAY_URL names the gateway",
            ) from error

    def healthy(self) -> bool:
        try:
            return self.session.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def _system(self, method: str, path: str, body: bytes = b"", *, accept: tuple[int, ...] = ()) -> requests.Response:
        try:
            reply = self.session.request(
                method, f"{self.url}/system/{path}", data=body, auth=self.auth, timeout=(_CONNECT_TIMEOUT_S, 30)
            )
        except requests.RequestException as error:
            raise GatewayError(
                f"gateway {self._shown} does not answer ({type(error).__name__})",
                hint="`make status` shows the embedded platform; GATEWAY_URL names another one",
            ) from error
        if reply.ok or reply.status_code in accept:
            return reply
        raise _refusal(method, f"/system/{path}", reply)


def _never_sent(error: requests.RequestException) -> bool:
    """Whether the connection could not even be made."""
    return isinstance(error, requests.ConnectTimeout) or "NewConnectionError" in repr(error)


def _refusal(method: str, path: str, reply: requests.Response) -> GatewayError:
    hint = "set GATEWAY_USER and GATEWAY_PASSWORD" if reply.status_code == 401 else ""
    said = reply.text.strip()[:300] or reply.reason
    return GatewayError(f"{method} {path}: {reply.status_code} {said}", status=reply.status_code, hint=hint)
