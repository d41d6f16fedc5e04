"""The OpenFaaS gateway's REST API: the one interface to the embedded gateway and to a real OpenFaaS."""

from __future__ import annotations

from typing import Any

import msgspec
import requests
from requests.adapters import HTTPAdapter

from fave.errors import GatewayError


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


class GatewayClient:
    """Blocking, pooled; one per thread or shared."""

    def __init__(self, url: str, user: str = "", password: str = "", *, pool_size: int = 32) -> None:
        self.url = url.rstrip("/")
        self.session = requests.Session()
        adapter = HTTPAdapter(pool_connections=2, pool_maxsize=pool_size)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        # Never from ~/.netrc or proxy variables: a measurement must not depend on the account that runs it.
        self.session.trust_env = False
        self.auth = (user, password) if user else None

    def functions(self) -> list[FunctionStatus]:
        return msgspec.json.decode(self._system("GET", "functions").content, type=list[FunctionStatus])

    def function(self, name: str) -> FunctionStatus | None:
        """The status, or None when there is no such function."""
        reply = self._system("GET", f"function/{name}", accept=(404,))
        return None if reply.status_code == 404 else msgspec.json.decode(reply.content, type=FunctionStatus)

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
        return dict(self._system("GET", "info").json())

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """The embedded gateway's event log after sequence number `since` (404 → GatewayError elsewhere)."""
        text = self._system("GET", f"events?since={since}").content
        return [msgspec.json.decode(line) for line in text.splitlines() if line]

    def invoke(
        self, name: str, body: bytes, headers: dict[str, str] | None = None, *, timeout_s: float = 300.0
    ) -> requests.Response:
        """POST to the function. Any status is returned; only "no answer" is an error."""
        try:
            return self.session.post(
                f"{self.url}/function/{name}",
                data=body,
                headers=headers,
                timeout=(3.05, timeout_s),
                allow_redirects=False,
            )
        except requests.Timeout as error:
            raise GatewayError(f"{name}: no reply within {timeout_s:g} s", status=504) from error
        except requests.RequestException as error:
            raise GatewayError(f"{name}: gateway {self.url} does not answer ({type(error).__name__})") from error

    def healthy(self) -> bool:
        try:
            return self.session.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def _system(self, method: str, path: str, body: bytes = b"", *, accept: tuple[int, ...] = ()) -> requests.Response:
        try:
            reply = self.session.request(
                method, f"{self.url}/system/{path}", data=body, auth=self.auth, timeout=(3.05, 30)
            )
        except requests.RequestException as error:
            raise GatewayError(
                f"gateway {self.url} does not answer ({type(error).__name__})",
                hint="`make status` shows the embedded platform; GATEWAY_URL names another one",
            ) from error
        if reply.ok or reply.status_code in accept:
            return reply
        raise _refusal(method, path, reply)


def _refusal(method: str, path: str, reply: requests.Response) -> GatewayError:
    hint = "set GATEWAY_USER and GATEWAY_PASSWORD" if reply.status_code == 401 else ""
    said = reply.text.strip()[:300] or reply.reason
    return GatewayError(f"{method} /system/{path}: {reply.status_code} {said}", status=reply.status_code, hint=hint)
