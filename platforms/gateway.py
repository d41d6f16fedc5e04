"""Administration of OpenFaaS' gateway by its REST API: the same for the embedded one and for a real OpenFaaS."""

from __future__ import annotations

import functools
import time
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
import requests

from fave.calling import CA_HINT, CONNECT_TIMEOUT_S, plain_session, refusal
from fave.endpoints import Endpoints
from fave.environment import shown
from fave.errors import GatewayError
from fave.wire.openfaas import FunctionSpec, FunctionStatus

T = TypeVar("T")
_AGAIN_AFTER_S = 0.5


class _Secret(msgspec.Struct, frozen=True):
    name: str


class Gateway:
    """Blocking, shared by threads."""

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        self.url = url.rstrip("/")
        self._shown = shown(self.url)
        self._session = plain_session()
        self.auth = (user, password) if user else None

    @classmethod
    def at(cls, endpoints: Endpoints) -> Gateway:
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

    def date(self) -> str:
        """What it thinks of the time, as HTTP says it; empty where it does not say."""
        return self._system("GET", "info").headers.get("Date", "")

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """The embedded gateway's event log after sequence number `since` (404 → GatewayError elsewhere)."""
        text = self._system("GET", f"events?since={since}").content
        return [self._decoded(line, dict[str, Any]) for line in text.splitlines() if line]

    def logs(self, function: str, since: str, tail: int) -> list[dict[str, Any]]:
        """The last `tail` lines of a function's replicas, written since (ISO 8601); `instance` is the replica's id."""
        query = urlencode({"name": function, "since": since, "tail": tail, "follow": "false"})
        # 500 is what OpenFaaS says of a function without a replica.
        reply = self._system("GET", f"logs?{query}", accept=(404, 500))
        if not reply.ok:
            return []
        return [self._decoded(line, dict[str, Any]) for line in reply.content.splitlines() if line.strip()]

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
            return self._session.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def _system(self, method: str, path: str, body: bytes = b"", *, accept: tuple[int, ...] = ()) -> requests.Response:
        try:
            reply = self._asked(method, path, body)
        except requests.exceptions.SSLError as error:
            raise GatewayError(
                f"gateway {self._shown}: its certificate is not trusted ({error})", hint=CA_HINT
            ) from error
        except requests.RequestException as error:
            raise GatewayError(
                f"gateway {self._shown} does not answer ({type(error).__name__})",
                hint="`make status` shows the embedded platform; GATEWAY_URL names another one",
            ) from error
        if reply.ok or reply.status_code in accept:
            return reply
        raise refusal(method, f"/system/{path}", reply)

    def _asked(self, method: str, path: str, body: bytes) -> requests.Response:
        """A question that a gateway did not live to answer is asked once more; a change may have been made."""
        send = functools.partial(
            self._session.request,
            method,
            f"{self.url}/system/{path}",
            data=body,
            auth=self.auth,
            timeout=(CONNECT_TIMEOUT_S, 30),
        )
        try:
            return send()
        except requests.ConnectionError:
            if method != "GET":
                raise
            time.sleep(_AGAIN_AFTER_S)
            return send()
