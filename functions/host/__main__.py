"""`python -m functions.host MODULE`: serve `MODULE.handle` on `port` (default 8080)."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import threading
from typing import Any

import waitress

from fave.cli import run_door
from fave.environment import check_function_settings, count
from fave.errors import ConfigError
from fave.wire.invocation import READY_DESCRIPTOR
from functions.host.logs import Log
from functions.host.replica import Identity
from functions.host.server import Handler, Host
from functions.host.settings import Limits


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m functions.host", description=__doc__)
    parser.add_argument("module", help="importable module with handle(event, context)")
    module = parser.parse_args().module
    tell = _who_wants_to_know()
    identity, limits = Identity.from_environment(), Limits.from_environment()
    check_function_settings()
    port = count("port", 8080, most=65_535)
    log = Log.from_environment(identity)
    log.take_over_logging()
    _insist_on(module)
    host = Host(identity, limits, log)
    host.drain_on_sigterm()
    server = _listening(
        host,
        host=os.environ.get("bind", "127.0.0.1"),  # noqa: SIM112 - of-watchdog's style
        port=port,
        # Probes must be answered while every handler thread is busy, and every place in the queue taken.
        threads=limits.max_in_flight + limits.queue + 2,
        ident="fave",
        channel_timeout=int(limits.exec_timeout_s) + 60,
        # Reading on while a handler works is how the server notices that its caller has gone.
        channel_request_lookahead=1,
        clear_untrusted_proxy_headers=False,
    )
    # It listens first: a probe for life must not end what is only slow to start.
    serving = threading.Thread(target=server.run, name="server", daemon=True)
    serving.start()
    # The handler's import loads its model: only then is the replica ready.
    try:
        host.serve_with(_handler(module))
    except BaseException:
        server.close()
        raise
    if tell is not None:
        os.write(tell, b"1")
        os.close(tell)
    serving.join()
    return 0


def _who_wants_to_know() -> int | None:
    """Where to say that it is ready: a pipe of who started it, which is quicker than being asked again and again."""
    descriptor = os.environ.pop(READY_DESCRIPTOR, "")
    if not descriptor:
        return None
    # What a handler starts must not hold it open.
    os.set_inheritable(int(descriptor), False)
    return int(descriptor)


def _listening(application: Host, **options: Any) -> Any:
    """Raises ConfigError when the port is somebody else's."""
    try:
        return waitress.create_server(application, **options)
    except OSError as error:
        where = f"{options['host']}:{options['port']}"
        raise ConfigError(f"cannot listen on {where}: {error.strerror}", hint="`port` and `bind` say where") from error


def _insist_on(module: str) -> None:
    """Before anything listens. Raises ConfigError when there is no such module."""
    names = module.split(".")
    if not all(map(str.isidentifier, names)):
        raise ConfigError(
            f"{module[:80]!r} is no module", hint="name one as Python imports it, e.g. orchestrator.handler"
        )
    missing = module
    try:
        if importlib.util.find_spec(module):
            return
    except ModuleNotFoundError as error:
        # A module that one of its packages imports and that is not installed is another mistake.
        if error.name is None or names[: error.name.count(".") + 1] != error.name.split("."):
            raise
        missing = error.name
    raise ConfigError(f"there is no module {missing[:80]!r}")


def _handler(module: str) -> Handler:
    """What the module handles requests with. Whatever else its import raises is its own defect.

    Raises
    ------
    ConfigError
        When it has no handler.
    """
    try:
        return importlib.import_module(module).handle  # type: ignore[no-any-return]
    except AttributeError as error:
        if error.name != "handle":
            raise
        raise ConfigError(f"{module} has no handle(event, context)") from error


if __name__ == "__main__":
    sys.exit(run_door(main))
