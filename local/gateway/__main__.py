"""`python -m local.gateway`: the gateway alone, in the foreground (the supervisor starts it so)."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TypeVar

import msgspec
import uvloop
from aiohttp import web

from fave.cli import port, run_door
from fave.environment import chunks_bodies, uses_control_groups
from fave.errors import ConfigError
from fave.processes import places
from local.gateway.app import Gateway, Options
from local.gateway.inbound import Inbound, hang_up

T = TypeVar("T")
_HANG_UP_S = 5.0


async def serve(options: Options, own_port: int, metrics_port: int) -> None:
    gateway = Gateway(options)
    stopped = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sig, stopped.set)
    runners = [
        web.AppRunner(app, access_log=None, shutdown_timeout=1, handler_cancellation=True)
        for app in (gateway.app(), gateway.metrics_app())
    ]
    administration, metrics = runners
    for runner in runners:
        await runner.setup()
    await web.TCPSite(metrics, "127.0.0.1", metrics_port, reuse_address=True).start()
    assert administration.server is not None
    loop, front = asyncio.get_running_loop(), gateway.front
    server = await loop.create_server(
        lambda: Inbound(front, administration.server, gateway.connections),  # type: ignore[arg-type]
        "127.0.0.1",
        own_port,
        reuse_address=True,
        backlog=1024,
    )
    await stopped.wait()
    server.close()
    await gateway.close()
    await hang_up(gateway.connections, _HANG_UP_S)
    for runner in runners:
        await runner.cleanup()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.gateway", description=__doc__)
    parser.add_argument("--port", type=port, default=8080)
    parser.add_argument("--metrics-port", type=port, default=8082)
    parser.add_argument("--state", type=Path, required=True, help="folder for logs and the event log")
    arguments = parser.parse_args()
    where = places(os.sched_getaffinity(0))
    if where:
        os.sched_setaffinity(0, where["gateway"])
    options = Options(
        user=os.environ.get("GATEWAY_USER", "admin"),
        password=_password(),
        state=arguments.state,
        # By environment, not by flag: they hold the object store's credentials.
        function_env=_from_environment("FAVE_FUNCTION_ENV", dict[str, str]),
        own_env=_from_environment("FAVE_OWN_ENV", dict[str, dict[str, str]]),
        places=where,
        chunked_bodies=chunks_bodies(),
        control_groups=uses_control_groups(),
    )
    uvloop.run(serve(options, arguments.port, arguments.metrics_port))
    return 0


def _password() -> str:
    password = os.environ.get("GATEWAY_PASSWORD", "")
    if not password:
        raise ConfigError("environment GATEWAY_PASSWORD is not set", hint="it guards the gateway's /system addresses")
    return password


def _from_environment(variable: str, kind: type[T]) -> T:
    """Its value is not shown: it holds credentials."""
    try:
        return msgspec.json.decode(os.environ.get(variable) or "{}", type=kind)
    except ValueError as error:
        raise ConfigError(f"environment {variable}: {error}") from error


if __name__ == "__main__":
    sys.exit(run_door(main))
