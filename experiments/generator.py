"""One headless Locust run as a process of its own, from its options to its `generator.json`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from fave import environment
from fave.errors import EXIT_INVALID_RUN, EXIT_OK, GatewayError
from fave.processes import OwnedProcess, wait_until
from fave.settings import ROOT
from platforms.model import Platform


def generate(
    locustfile: str, options: Mapping[str, object], *, out: Path, log: Path, platform: Platform, deadline_s: float
) -> None:
    """Send a load and wait for its end. `options`: by argument; None for a flag, empty text for nothing.

    Raises
    ------
    GatewayError
        When Locust fails, or is not done by the deadline. A load that is not what was asked for is no failure here:
        whoever asked judges it with all else that was observed.
    """
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / locustfile), "--headless", "-u", "1"]
    command += ["--only-summary", "--loglevel", "WARNING", "--exit-code-on-error", "0", f"--out={out}"]
    command += [name if value is None else f"{name}={value}" for name, value in options.items() if str(value)]
    # Another home: what an account's ~/.locust.conf says is about its own load tests.
    env = environment.for_doors(**platform.endpoints.environment(), HOME=str(log.parent))
    # One process has its core; several would not fit there.
    cores = [] if options.get("--processes") else platform.generator_cores()
    with OwnedProcess("locust", command, log=log, env=env, cwd=ROOT, cores=cores) as locust:
        ended = wait_until(lambda: not locust.running(), timeout_s=deadline_s, interval_s=0.1)
        code = locust.process.poll()
        if not ended or code not in (EXIT_OK, EXIT_INVALID_RUN) or not (out / "generator.json").exists():
            what = f"exit code {code}" if ended else f"still running after {deadline_s:g} s"
            raise GatewayError(f"the load generator failed ({what}):\n{locust.log_tail()}")
