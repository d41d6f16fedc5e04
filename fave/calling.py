"""Calling functions through a gateway: `/function/NAME` and `/async-function/NAME`. Administration is a platform's."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from fave.environment import ca_file, shown
from fave.errors import GatewayError

T = TypeVar("T")
CONNECT_TIMEOUT_S = 3.05
CA_HINT = "FAVE_CA_FILE names a file with the certificates of an authority of your own"


def plain_session() -> requests.Session:
    """Never from ~/.netrc or proxy variables: a measurement must not depend on the account that runs it."""
    session = requests.Session()
    session.trust_env = False
    session.verify = ca_file() or True
    return session


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


class Caller:
    """Blocking, pooled, shared by threads. Retries nothing: a retry is an attempt with stamps of its own."""

    def __init__(self, url: str, *, pool_size: int = 32) -> None:
        self.url = url.rstrip("/")
        self._shown = shown(self.url)
        self.session = plain_session()
        adapter = _Adapter(pool_connections=2, pool_maxsize=pool_size)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)

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
            raise refusal("POST", f"/async-function/{name}", reply)
        return str(reply.headers.get("X-Call-Id", ""))

    def _post(self, path: str, body: bytes, headers: dict[str, str] | None, timeout_s: float) -> requests.Response:
        name = path.partition("/")[2]
        try:
            return self.session.post(
                f"{self.url}/{path}",
                data=body,
                headers=headers,
                timeout=(CONNECT_TIMEOUT_S, timeout_s),
                allow_redirects=False,
            )
        except requests.ReadTimeout as error:
            raise GatewayError(f"{name}: no reply within {timeout_s:g} s", status=504) from error
        except requests.RequestException as error:
            what = f"{name}: gateway {self._shown} does not answer ({type(error).__name__})"
            raise GatewayError(what, sent=not _never_sent(error)) from error


def _never_sent(error: requests.RequestException) -> bool:
    """Whether the connection could not even be made."""
    return isinstance(error, requests.ConnectTimeout) or "NewConnectionError" in repr(error)


def refusal(method: str, path: str, reply: requests.Response) -> GatewayError:
    hint = "set GATEWAY_USER and GATEWAY_PASSWORD" if reply.status_code == 401 else ""
    said = reply.text.strip()[:300] or reply.reason
    return GatewayError(f"{method} {path}: {reply.status_code} {said}", status=reply.status_code, hint=hint)
