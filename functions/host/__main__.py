"""`python -m functions.host MODULE`: serve `MODULE.handle` on `port` (default 8080)."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

import waitress

from fave.cli import run_door
from functions.host.logs import Log
from functions.host.replica import Identity
from functions.host.server import Host
from functions.host.settings import Limits


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m functions.host", description=__doc__)
    parser.add_argument("module", help="importable module with handle(event, context)")
    identity, limits = Identity.from_environment(), Limits.from_environment()
    log = Log.from_environment(identity)
    log.take_over_logging()
    # The handler's import loads its model: only then is the replica ready.
    handler = importlib.import_module(parser.parse_args().module).handle
    host = Host(handler, identity, limits, log)
    host.drain_on_sigterm()
    server = waitress.create_server(
        host,
        host=os.environ.get("bind", "127.0.0.1"),  # noqa: SIM112 - of-watchdog's style
        port=int(os.environ.get("port", "8080")),  # noqa: SIM112
        # Probes must be answered while every handler thread is busy.
        threads=limits.max_in_flight + 2,
        ident="fave",
        channel_timeout=int(limits.exec_timeout_s) + 60,
        # Reading on while a handler works is how the server notices that its caller has gone.
        channel_request_lookahead=1,
        clear_untrusted_proxy_headers=False,
    )
    host.mark_ready()
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))
