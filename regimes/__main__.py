"""`python -m regimes`: list, show, apply and render scaling regimes; try what a platform can do."""

from __future__ import annotations

import argparse
import signal
import sys
import textwrap
import threading
from collections.abc import Collection

import msgspec

from fave.cli import run_door
from fave.clock import iso, utc_ns
from fave.endpoints import find
from fave.errors import ConfigError
from fave.storage import Store
from platforms import idler, preflight, session, stack
from platforms.claim import abandoned, claimed
from platforms.probe import probe
from regimes import model
from regimes.apply import apply
from workloads.model import SHIPPED, Workload
from workloads.model import load as workload_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m regimes", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the regimes that there are")
    commands.add_parser("restore", help="leave the gateway as it was before a campaign that was killed")
    for name, text in (
        ("show", "what a regime says of each function"),
        ("apply", "deploy, apply and verify it"),
        ("stack", "functions/stack.yml with the regime in it, for faas-cli"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("regime")
        command.add_argument("--workload", default=SHIPPED, help="whose functions: a shipped one, or a YAML file")
        command.add_argument("--target", default="", help="one of its requests; without it all its functions")
    command = commands.add_parser("idler", help="scale FAVE's own idle functions to zero where nobody else does it")
    command.add_argument("--workload", default=SHIPPED, help="whose functions")
    command.add_argument("--functions", nargs="+", default=[], help="these; without it all of the workload")
    command.add_argument("--dry-run", action="store_true", help="only say what would be done")
    command = commands.add_parser("probe", help="what the platform can do, tried with one throw-away function")
    command.add_argument("--workload", default=SHIPPED, help="whose smallest function to try it with")
    command.add_argument("--patient", action="store_true", help="also what takes minutes: zero when idle, scaling out")
    command.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args()
    if arguments.command == "list":
        for name in model.names():
            print(f"{name:14} {model.load(name).description}")
        return 0
    if arguments.command == "restore":
        _restore()
        return 0
    workload = workload_of(arguments.workload)
    if arguments.command == "probe":
        _probe(workload, patient=arguments.patient, as_json=arguments.json)
        return 0
    if arguments.command == "idler":
        _idle(workload, arguments.functions or workload.functions, dry=arguments.dry_run)
        return 0
    functions = workload.functions_of(arguments.target) if arguments.target else workload.functions
    policies = model.resolve(arguments.regime, functions)
    if arguments.command == "stack":
        print(stack.render(workload, policies, arguments.regime, stack.load()), end="")
        return 0
    if arguments.command == "apply":
        applied = apply(session.at(find()), workload, arguments.regime, policies)
        print(f"{arguments.regime}: applied and verified in {applied.took_s:.1f} s")
    print(f"{'function':24}{'min':>5}{'max':>5}{'idle':>7}{'in flight':>11}{'memory MB':>11}")
    for function, each in policies.items():
        limits = f"{each.idle_timeout!s:>7}{each.max_in_flight:11}{each.memory_limit_mb:11}"
        print(f"{function:24}{each.min_replicas:5}{each.max_replicas:5}{limits}")
    return 0


def _restore() -> None:
    """Functions of others scale as before; of FAVE's own, those go that were not there."""
    platform = session.at(find())
    names = platform.give_back()
    print(f"put back: {', '.join(names)}" if names else "nothing was borrowed from this gateway")
    if platform.capabilities().known:
        return
    store, gateway_url = Store.at(platform.endpoints), platform.endpoints.gateway_url
    left = abandoned(store, gateway_url)
    if left is None:
        print("no campaign was killed here")
        return
    with claimed(store, gateway_url, "restore", left.found) as found:
        removed = sorted(platform.changeable(workload_of(SHIPPED), []) - found)
        for name in removed:
            platform.remove(name)
    print(f"campaign {left.campaign} was killed; of its functions removed: {', '.join(removed) or 'none'}")


def _idle(workload: Workload, functions: Collection[str], *, dry: bool) -> None:
    """Until TERM or INT."""
    over = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: over.set())
    platform = session.at(find())
    if platform.capabilities().known:
        raise ConfigError("this platform scales idle functions to zero itself", hint="leave the idler out")
    platform.changeable(workload, functions)
    idler.run(platform, functions, _tell, over.is_set, dry=dry)


def _tell(text: str) -> None:
    print(f"{iso(utc_ns())} {text}", flush=True)


def _probe(workload: Workload, *, patient: bool, as_json: bool) -> None:
    there = find()
    if not there.embedded:
        preflight.refuse(there, {}, lambda text: print(text, file=sys.stderr))
    found = probe(session.at(there), workload, patient=patient, say=lambda text: print(text, "...", file=sys.stderr))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    for each in found.found:
        print(f"{each.what:27}{each.answer}")
        print(textwrap.fill(each.evidence, 78, initial_indent="    ", subsequent_indent="    "))


if __name__ == "__main__":
    sys.exit(run_door(main))
