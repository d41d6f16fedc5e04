"""`python -m experiments`: run a benchmark campaign, or the web UI."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from experiments import ab, distortion, driver, forecast, model, own, reproduce, shipping, ui
from experiments.plan import plan
from fave.campaign.rundir import RUNS, find_run
from fave.cli import port, run_door
from fave.endpoints import find
from fave.errors import ConfigError
from fave.storage import Store
from workloads.model import SHIPPED


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.command == "distortion":
        return distortion.run(runs=arguments.runs.resolve())
    if arguments.command == "list":
        for name in model.names():
            experiment = model.load(name)
            print(f"{name:10} {experiment.expected_duration:28} {experiment.description}")
        return 0
    if arguments.command == "resume":
        return driver.resume(find_run(arguments.run), quiet=arguments.quiet)
    if arguments.command == "fetch":
        return _fetch(arguments.run, arguments.runs.resolve())
    if arguments.command == "reproduce":
        new = find_run(arguments.new) if arguments.new else None
        return reproduce.run(find_run(arguments.run), runs=arguments.runs.resolve(), new=new)
    if arguments.command == "ui":
        return ui.run(arguments.workload, regime=arguments.regime, target=arguments.target, port=arguments.port)
    name = arguments.experiment.rpartition("/")[2].removesuffix(".yml")
    experiment, runs = _experiment(arguments), arguments.runs.resolve()
    pilot = _pilot(arguments, name, runs)
    if arguments.command == "plan":
        groups = plan(experiment)
        print(forecast.whole(name, experiment, groups, pilot))
        hasty = forecast.too_fast(experiment, groups, pilot)
        if hasty:
            raise ConfigError(hasty, hint="it would be refused: switch earlier before bursts, or further apart")
        return 0
    return driver.run(name, experiment, runs=runs, quiet=arguments.quiet, pilot=pilot)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the experiments that there are")
    run = commands.add_parser("run", help="run a campaign to a finished report in runs/")
    run.add_argument("experiment", help="a name (see list) or a .yml file")
    run.add_argument("--runs", type=Path, default=RUNS, help="where the run folder goes (default: runs/)")
    run.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _add_pilot(run)
    _add_own(run)
    look = commands.add_parser("plan", help="cells, order, forecast and what can be shown; runs nothing")
    look.add_argument("experiment", help="a name (see list) or a .yml file")
    look.add_argument("--runs", type=Path, default=RUNS, help="where earlier runs are looked for (default: runs/)")
    _add_pilot(look)
    _add_own(look)
    again = commands.add_parser("resume", help="go on with a campaign that was cut short")
    again.add_argument("run", nargs="?", default="latest", help="a folder of runs/, a path, or `latest` (default)")
    again.add_argument("--quiet", action="store_true", help="print nothing but errors")
    bring = commands.add_parser("fetch", help="bring a run folder from the object store (FAVE_SHIP_RUNS)")
    bring.add_argument("run", nargs="?", default="", help="its name; without one: which there are")
    bring.add_argument("--runs", type=Path, default=RUNS, help="where it goes (default: runs/)")
    twice = commands.add_parser("reproduce", help="run a campaign again at its commit, and compare")
    twice.add_argument("run", nargs="?", default="latest", help="a folder of runs/, a path, or `latest` (default)")
    twice.add_argument("--runs", type=Path, default=RUNS, help="where the new run folder goes (default: runs/)")
    twice.add_argument("--new", metavar="RUN", help="only compare it with this one, which was run elsewhere")
    web = commands.add_parser("ui", help="the Locust web UI on the embedded platform")
    web.add_argument("--regime", default="cold", help="the regime to apply first (default: cold)")
    web.add_argument("--workload", default=SHIPPED, help="whose functions are called: a shipped one, or a YAML file")
    web.add_argument("--target", default="", help="one of its requests; without it all that have a weight, as a mix")
    web.add_argument("--port", type=port, default=8089, help="default 8089; another one if it is taken")
    hidden = commands.add_parser("distortion", help="the same arrivals open and closed loop: what the latter hides")
    hidden.add_argument("--runs", type=Path, default=RUNS, help="where the run folder goes (default: runs/)")
    return parser


def _fetch(name: str, runs: Path) -> int:
    store = Store.at(find())
    if name:
        print(f"{shipping.fetch(name, store, runs)}: `make report RUN={name}` analyses it anew")
    else:
        print("\n".join(shipping.shipped(store)) or "no run folder is in the object store")
    return 0


def _add_own(parser: argparse.ArgumentParser) -> None:
    mine = parser.add_argument_group("your own", f"what the experiments `{own.NAME}` and `{ab.NAME}` are about")
    mine.add_argument("--workload", default="", help="a YAML file: your functions, and what they are asked")
    mine.add_argument(
        "--trace", default="", help="a CSV of times or a server's log: its arrivals, not steady and bursty ones"
    )
    mine.add_argument(
        "--a", default="", help=f"of `{ab.NAME}`: what is otherwise in version a, KEY=VALUE … (default: nothing)"
    )
    mine.add_argument("--b", default="", help=f"of `{ab.NAME}`: in version b: image, command, commit, env.NAME …")
    mine.add_argument("--regime", default="", help=f"of `{ab.NAME}`: in which both run (default: cold)")
    mine.add_argument("--paths", default="", help="of a log: beginnings of the paths that count")
    mine.add_argument("--regimes", default="", help="which are compared (default: cold warm)")
    mine.add_argument("--duration", default="", help="of each run (default: 14s; of a trace 5m)")


def _experiment(arguments: argparse.Namespace) -> model.Experiment:
    """Raises ConfigError for options without effect: they are about one experiment only."""
    given = {name: getattr(arguments, name) for name in _OWN if getattr(arguments, name)}
    taken, make = _ABOUT.get(arguments.experiment, ((), None))
    without = [name for name in given if name not in taken]
    if without:
        others = [name for name, (words, _) in _ABOUT.items() if without[0] in words]
        raise ConfigError(
            f"--{without[0]}: experiment {arguments.experiment} says itself what it is about",
            hint=f"it is for the experiment {' or '.join(others)}",
        )
    if make is None:
        return model.load(arguments.experiment)
    if not arguments.workload:
        raise ConfigError(f"{arguments.experiment} is about a workload of yours", hint="--workload FILE")
    return make(**given)


# By experiment that is about somebody's own: what it takes of the command line.
_ABOUT: dict[str, tuple[tuple[str, ...], Callable[..., model.Experiment]]] = {
    own.NAME: (("workload", "trace", "paths", "regimes", "duration"), own.of),
    ab.NAME: (("workload", "a", "b", "regime"), ab.of),
}
_OWN = tuple(dict.fromkeys(word for words, _ in _ABOUT.values() for word in words))


def _add_pilot(parser: argparse.ArgumentParser) -> None:
    spread = parser.add_mutually_exclusive_group()
    spread.add_argument("--pilot", help="a run whose spread tells what can be shown (default: the latest of its name)")
    spread.add_argument("--sd", type=float, help="that spread: standard deviation of block-wise differences, 0 to 1")


def _pilot(arguments: argparse.Namespace, name: str, runs: Path) -> forecast.Pilot | None:
    if arguments.sd is not None:
        return forecast.given(arguments.sd)
    if arguments.pilot:
        return forecast.from_run(find_run(arguments.pilot))
    return forecast.earlier(name, runs)


if __name__ == "__main__":
    sys.exit(run_door(main))
