"""`python -m regimes`: list, show, apply and render scaling regimes."""

from __future__ import annotations

import argparse
import sys

from fave.cli import run_door
from fave.endpoints import find
from fave.gateway_client import GatewayClient
from fave.workload import PIPELINE, functions_of
from prom.client import Prometheus
from regimes import model, openfaas, stack


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m regimes", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the regimes that there are")
    for name, text in (
        ("show", "what a regime says of each function"),
        ("apply", "deploy, apply and verify it"),
        ("stack", "functions/stack.yml with the regime in it, for faas-cli"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("regime")
        command.add_argument("--target", default=PIPELINE, help="pipeline (default), or one function")
    arguments = parser.parse_args()
    if arguments.command == "list":
        for name in model.names():
            print(f"{name:14} {model.load(name).description}")
        return 0
    settings = model.resolve(arguments.regime, functions_of(arguments.target))
    if arguments.command == "stack":
        print(stack.render(settings, arguments.regime, stack.load()), end="")
        return 0
    if arguments.command == "apply":
        endpoints = find()
        gateway = GatewayClient.at(endpoints)
        applied = openfaas.apply(gateway, Prometheus(endpoints.prometheus_url), arguments.regime, settings)
        print(f"{arguments.regime}: applied and verified in {applied.took_s:.1f} s")
    print(f"{'function':24}{'min':>5}{'max':>5}{'idle':>7}{'in flight':>11}{'memory MB':>11}")
    for function, each in settings.items():
        limits = f"{each.idle_timeout!s:>7}{each.max_in_flight:11}{each.memory_limit_mb:11}"
        print(f"{function:24}{each.min_replicas:5}{each.max_replicas:5}{limits}")
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))
