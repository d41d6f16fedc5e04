"""`python -m experiments`: run a benchmark campaign, one request, or the web UI."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments import distortion, driver, forecast, invoke, model, reproduce, smoke, ui
from experiments.plan import plan
from fave.cli import port, run_door
from fave.rundir import RUNS, find_run
from fave.workload import PIPELINE


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.command == "invoke":
        return invoke.run(
            video=arguments.video,
            query=arguments.query,
            regime=arguments.regime,
            config=arguments.config,
            like=arguments.like,
            opens=arguments.open,
            asynchronous=arguments.asynchronous,
            request_id=arguments.request_id,
        )
    if arguments.command == "smoke":
        return smoke.run(regime=arguments.regime)
    if arguments.command == "distortion":
        return distortion.run(runs=arguments.runs.resolve())
    if arguments.command == "list":
        for name in model.names():
            experiment = model.load(name)
            print(f"{name:10} {experiment.expected_duration:28} {experiment.description}")
        return 0
    if arguments.command == "resume":
        return driver.resume(find_run(arguments.run), quiet=arguments.quiet)
    if arguments.command == "reproduce":
        new = find_run(arguments.new) if arguments.new else None
        return reproduce.run(find_run(arguments.run), runs=arguments.runs.resolve(), new=new)
    if arguments.command == "ui":
        return ui.run(regime=arguments.regime, target=arguments.target, port=arguments.port)
    name = arguments.experiment.rpartition("/")[2].removesuffix(".yml")
    experiment, runs = model.load(arguments.experiment), arguments.runs.resolve()
    pilot = _pilot(arguments, name, runs)
    if arguments.command == "plan":
        print(forecast.whole(name, experiment, plan(experiment), pilot))
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
    look = commands.add_parser("plan", help="cells, order, forecast and what can be shown; runs nothing")
    look.add_argument("experiment", help="a name (see list) or a .yml file")
    look.add_argument("--runs", type=Path, default=RUNS, help="where earlier runs are looked for (default: runs/)")
    _add_pilot(look)
    again = commands.add_parser("resume", help="go on with a campaign that was cut short")
    again.add_argument("run", nargs="?", default="latest", help="a folder of runs/, a path, or `latest` (default)")
    again.add_argument("--quiet", action="store_true", help="print nothing but errors")
    twice = commands.add_parser("reproduce", help="run a campaign again at its commit, and compare")
    twice.add_argument("run", nargs="?", default="latest", help="a folder of runs/, a path, or `latest` (default)")
    twice.add_argument("--runs", type=Path, default=RUNS, help="where the new run folder goes (default: runs/)")
    twice.add_argument("--new", metavar="RUN", help="only compare it with this one, which was run elsewhere")
    web = commands.add_parser("ui", help="the Locust web UI on the embedded platform")
    web.add_argument("--regime", default="cold", help="the regime to apply first (default: cold)")
    web.add_argument("--target", default=PIPELINE, help="pipeline (default), or one stage")
    web.add_argument("--port", type=port, default=8089, help="default 8089; another one if it is taken")
    hidden = commands.add_parser("distortion", help="the same arrivals open and closed loop: what the latter hides")
    hidden.add_argument("--runs", type=Path, default=RUNS, help="where the run folder goes (default: runs/)")
    single = commands.add_parser("invoke", help="one request through the pipeline, watched")
    single.add_argument("video", help="a file, an s3:// address, or a sample: short, long")
    single.add_argument("query", help="what to look for")
    single.add_argument("--regime", default="warm", help="deployed where the pipeline is not there yet (default: warm)")
    single.add_argument(
        "--config", default="{}", help='JSON: settings by function, e.g. {"stage-ffmpeg-3": {"fps": 2}}'
    )
    single.add_argument(
        "--request-id", default="", help="go on with an earlier one, where it stopped (default: a new one)"
    )
    single.add_argument(
        "--like", default="", metavar="TIME", help="also find pictures like the one at this time of the video: 0:09.2"
    )
    single.add_argument("--open", action="store_true", help="write a page with pictures and playable clips; open it")
    single.add_argument("--async", dest="asynchronous", action="store_true", help="queue it (/async-function) and poll")
    check = commands.add_parser("smoke", help="invoke every function once and see that it reaches the object store")
    check.add_argument("--regime", default="warm", help="deployed where the pipeline is not there yet (default: warm)")
    return parser


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
