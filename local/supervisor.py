"""Owns the platform's services: starts them together, publishes where they answer, stops them together."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil

from fave.calling import answers
from fave.campaign.rundir import write_json
from fave.clock import iso, utc_ns
from fave.endpoints import DEFAULT_BUCKET, Credentials, PublicEndpoints
from fave.environment import check_function_settings, chunks_bodies, uses_control_groups
from fave.errors import AssetError, PlatformError
from fave.processes import OwnedProcess
from local import leftovers, services
from local.gateway.journal import Journal
from local.gateway.replica import SETPRIV, TASKSET

_READY_TIMEOUT_S = 60.0
_LOOK_INTERVAL_S = 0.2
# A gateway that dies more often than so is not started again.
_MOST_DEATHS, _PATIENCE_S = 5, 60.0


def serve(state: Path) -> int:
    """Run the platform in the foreground until TERM or INT; 0 when asked to stop.

    Raises
    ------
    ConfigError
        For a variable that every replica would stumble over.
    AssetError
        When a program that starts replicas is not there.
    PlatformError
        When another supervisor holds `state`, when a service does not become ready, or when one dies; a gateway is
        started again, unless it dies again and again.
    """
    stop = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: stop.set())
    check_function_settings()
    chunks_bodies()
    uses_control_groups()
    insist_on(SETPRIV, TASKSET)
    state.mkdir(parents=True, exist_ok=True)
    with _lock(state), contextlib.ExitStack() as stack:
        leftovers.end_all(state)
        Journal(state).remove()
        incidents = Incidents(state)
        incidents.forget()
        stack.callback(leftovers.end_all, state)
        with _one_at_a_time():
            platform = _start(state, stack)
        stack.callback((state / "endpoints.json").unlink, missing_ok=True)
        while not stop.wait(_LOOK_INTERVAL_S):
            for service in (platform.store, platform.prometheus):
                if not service.running():
                    incidents.add(f"{service.name} {_end_of(service)}: the platform ends")
                    raise PlatformError(f"{service.name} died; the end of {service.log}:\n{service.log_tail()}")
            if not platform.gateway.running():
                _follow(platform, state, stack, incidents)
    return 0


class Incidents:
    """What failed and was mended while the platform ran: on its terminal, and for `status`."""

    def __init__(self, state: Path) -> None:
        self._file = state / "logs" / "incidents.log"

    def add(self, text: str) -> None:
        line = f"{iso(utc_ns())}  {text}\n"
        sys.stderr.write(line)
        sys.stderr.flush()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(line)

    def told(self) -> list[str]:
        return self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else []

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)


def _follow(platform: _Running, state: Path, stack: contextlib.ExitStack, incidents: Incidents) -> None:
    """Another gateway in the place of one that died: it stands as that one did. Calls in flight are lost.

    Raises
    ------
    PlatformError
        When it died too often to be of use.
    """
    how = _end_of(platform.gateway)
    now_s = time.monotonic()
    platform.deaths_s[:] = [at_s for at_s in platform.deaths_s if now_s - at_s < _PATIENCE_S] + [now_s]
    if len(platform.deaths_s) > _MOST_DEATHS:
        incidents.add(f"gateway {how}, {len(platform.deaths_s)} times in {_PATIENCE_S:g} s: the platform ends")
        raise PlatformError(f"gateway died; the end of {platform.gateway.log}:\n{platform.gateway.log_tail()}")
    killed = leftovers.end_all(state)
    platform.gateway = stack.enter_context(platform.start_gateway())
    more = f", {len(killed)} processes of its replicas ended" * bool(killed)
    incidents.add(f"gateway {how}: started again with its functions; calls in flight were lost{more}")


def _end_of(service: OwnedProcess) -> str:
    code = service.process.returncode
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def insist_on(*programs: str) -> None:
    """Raises AssetError, naming those that are not there."""
    if lacking := [program for program in programs if not Path(program).exists()]:
        raise AssetError(f"{', '.join(lacking)}: there is no such program", hint="`apt-get install util-linux` as root")


@dataclasses.dataclass
class _Running:
    store: OwnedProcess
    prometheus: OwnedProcess
    gateway: OwnedProcess
    start_gateway: Callable[[], OwnedProcess]
    deaths_s: list[float] = dataclasses.field(default_factory=list)


def _start(state: Path, stack: contextlib.ExitStack) -> _Running:
    ports = services.choose_ports()
    credentials = Credentials(
        gateway_user="admin",
        gateway_password=secrets.token_urlsafe(18),
        access_key=secrets.token_hex(10),
        secret_key=secrets.token_urlsafe(30),
    )
    services.write_credentials(state, credentials)
    own = services.function_keys()
    # Started together, waited for one after another. Stopped in reverse: the gateway's replicas before their store.
    stack.callback(services.remove_sockets, ports)
    store = stack.enter_context(services.start_object_store(state, ports, credentials, own))
    prometheus = stack.enter_context(services.start_prometheus(state, ports))
    start_gateway = functools.partial(services.start_gateway, state, ports, credentials, own)
    gateway = stack.enter_context(start_gateway())
    gateway.wait_ready(lambda: answers(f"http://127.0.0.1:{ports.gateway}/healthz"), timeout_s=_READY_TIMEOUT_S)
    prometheus.wait_ready(lambda: answers(f"http://127.0.0.1:{ports.prometheus}/-/ready"), timeout_s=_READY_TIMEOUT_S)
    store.wait_ready(lambda: services.prepare_bucket(ports, credentials), timeout_s=_READY_TIMEOUT_S)
    public = PublicEndpoints(
        pid=os.getpid(),
        process_started_at_s=psutil.Process().create_time(),
        gateway_url=f"http://127.0.0.1:{ports.gateway}",
        metrics_url=f"http://127.0.0.1:{ports.metrics}",
        prometheus_url=f"http://127.0.0.1:{ports.prometheus}",
        s3_endpoint_url=f"http://127.0.0.1:{ports.s3}",
        bucket=DEFAULT_BUCKET,
    )
    write_json(state / "endpoints.json", public)
    return _Running(store, prometheus, gateway, start_gateway)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Ports that are free are taken a moment later: two platforms that start together would choose the same."""
    with (Path(tempfile.gettempdir()) / f"fave-ports-{os.geteuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _lock(state: Path) -> Iterator[None]:
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PlatformError(
                f"a platform already runs in {state}", hint="`make status` shows it, `make down` stops it"
            ) from error
        yield


def running_platform(state: Path) -> PublicEndpoints | None:
    """The platform of `state` if its supervisor lives; a stale file of a killed one counts for nothing."""
    try:
        public = msgspec.json.decode((state / "endpoints.json").read_bytes(), type=PublicEndpoints)
        process = psutil.Process(public.pid)
        started_at_s = process.create_time()
        gone = process.status() == psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None
    return public if not gone and abs(started_at_s - public.process_started_at_s) < 1 else None


def stop_platform(state: Path, *, timeout_s: float = 60.0) -> bool:
    """TERM the supervisor and wait until it is gone; False when there was none."""
    public = running_platform(state)
    if public is None:
        return False
    process = psutil.Process(public.pid)
    process.terminate()
    try:
        process.wait(timeout_s)
    except psutil.TimeoutExpired as error:
        raise PlatformError(f"the supervisor (pid {public.pid}) did not stop within {timeout_s:g} s") from error
    deadline_s = time.monotonic() + timeout_s
    while (state / "endpoints.json").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return True
