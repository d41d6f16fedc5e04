"""Owns the platform's services: starts them together, publishes where they answer, stops them together."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

from fave.endpoints import DEFAULT_BUCKET, Credentials, PublicEndpoints
from fave.environment import check_function_settings
from fave.errors import PlatformError
from fave.gateway_client import answers
from fave.processes import OwnedProcess
from fave.rundir import write_json
from local import services

_READY_TIMEOUT_S = 60.0


def serve(state: Path) -> int:
    """Run the platform in the foreground until TERM or INT; 0 when asked to stop.

    Raises
    ------
    ConfigError
        For a variable that every replica would stumble over.
    PlatformError
        When another supervisor holds `state`, when a service does not become ready, or when one dies.
    """
    stop = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: stop.set())
    check_function_settings()
    state.mkdir(parents=True, exist_ok=True)
    with _lock(state), contextlib.ExitStack() as stack:
        running = _start(state, stack)
        stack.callback((state / "endpoints.json").unlink, missing_ok=True)
        while not stop.wait(0.2):
            for service in running:
                if not service.running():
                    raise PlatformError(f"{service.name} died; the end of {service.log}:\n{service.log_tail()}")
    return 0


def _start(state: Path, stack: contextlib.ExitStack) -> list[OwnedProcess]:
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
    gateway = stack.enter_context(services.start_gateway(state, ports, credentials, own))
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
    return [store, prometheus, gateway]


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
