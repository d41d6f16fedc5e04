"""Which platform is in force: the one that is there, or an embedded one of its own for as long as it is needed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import msgspec

from fave import environment
from fave.endpoints import STATE, Endpoints, PublicEndpoints, find
from fave.environment import shown
from fave.errors import ConfigError, NoPlatformError, PlatformError
from fave.processes import OwnedProcess
from fave.settings import ROOT
from platforms.embedded import Embedded
from platforms.gateway import Gateway
from platforms.model import Platform
from platforms.openfaas import OpenFaas
from platforms.openfaas_kubernetes import OpenFaasOnKubernetes
from platforms.plain_deployments import PlainDeployments

_START_TIMEOUT_S = 90.0
_STOP_GRACE_S = 60.0
_WITH_KUBERNETES = ("kubernetes", "plain")


# A kind of platform is a class, and a line here; who serves first is it, unless PLATFORM names another.
KINDS: dict[str, type[Platform]] = {
    "embedded": Embedded,
    "kubernetes": OpenFaasOnKubernetes,
    "openfaas": OpenFaas,
    "plain": PlainDeployments,
}


def at(endpoints: Endpoints) -> Platform:
    """The platform that answers there.

    Raises
    ------
    PlatformError
        When nothing does, or another than PLATFORM says.
    """
    name = environment.platform(KINDS)
    if not name:
        return next(kind(endpoints) for kind in KINDS.values() if kind.serves(endpoints))
    if not KINDS[name].serves(endpoints):
        needs = "KUBECONFIG, or a pod's own account" if name in _WITH_KUBERNETES else "another GATEWAY_URL"
        raise PlatformError(
            f"PLATFORM={name} is not what is at {shown(endpoints.gateway_url)}", hint=f"it needs {needs}"
        )
    return KINDS[name](endpoints)


def on_kubernetes() -> bool:
    """Whether the environment leads to a Kubernetes that can be asked: KUBECONFIG, or a pod's own account."""
    return OpenFaasOnKubernetes.reachable()


@contextlib.contextmanager
def opened(say: Callable[[str], None]) -> Iterator[Platform]:
    """Yield the platform that runs, or an embedded one that is stopped at the end."""
    there = running()
    if there is not None:
        say(f"using the platform at {shown(there.gateway_url)}")
        yield at(there)
        return
    if os.environ.get("GATEWAY_URL"):
        raise PlatformError(f"GATEWAY_URL={shown(os.environ['GATEWAY_URL'])} does not answer")
    name = environment.platform(KINDS)
    if name not in ("", "embedded"):
        raise ConfigError(
            f"PLATFORM={name}: where is it?", hint="GATEWAY_URL, PROMETHEUS_URL and S3_ENDPOINT_URL say so"
        )
    environment.check_function_settings()
    say("starting object store, gateway and Prometheus ...")
    log = STATE / "logs" / "supervisor.log"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "local", "serve", "--state", str(STATE)]
    supervisor = OwnedProcess("platform", command, log=log, cwd=ROOT, stop_grace_s=_STOP_GRACE_S)
    try:
        supervisor.wait_ready(lambda: _published_by(supervisor.pid), timeout_s=_START_TIMEOUT_S)
        yield at(find())
    finally:
        supervisor.stop()


def running() -> Endpoints | None:
    """The endpoints of the platform in force, None when it does not answer.

    Raises
    ------
    ConfigError
        When the environment names another platform, but not the whole of it, or cannot be used.
    """
    try:
        endpoints = find()
    except NoPlatformError:
        if os.environ.get("GATEWAY_URL"):
            raise
        return None
    return endpoints if Gateway(endpoints.gateway_url).healthy() else None


def _published_by(pid: int) -> bool:
    """Whether endpoints.json is this supervisor's, not one that a killed platform left behind."""
    try:
        published = msgspec.json.decode((STATE / "endpoints.json").read_bytes(), type=PublicEndpoints)
    except (FileNotFoundError, ValueError):
        return False
    return published.pid == pid
