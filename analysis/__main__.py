"""`python -m analysis`: from a run folder to verdicts."""

from __future__ import annotations

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path

import msgspec

from analysis import outcome
from analysis.report import across, distortion, index, publish
from analysis.report import write as report
from analysis.rows.folder import load
from fave.campaign.results import Prices, Results
from fave.campaign.rundir import RUNS, find_run
from fave.cli import run_door, whole
from fave.errors import ConfigError
from fave.yaml_file import load_yaml


def main() -> int:
    arguments = _parser().parse_args()
    return int(arguments.door(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("report", help="write results.json, report.html, report.md and figures/")
    one.add_argument("run", nargs="?", default="latest", help="a folder of runs/, a path, or `latest` (default)")
    one.add_argument("--prices", type=Path, metavar="FILE", help="a price table; it is copied into the run folder")
    one.set_defaults(door=_report)
    pair = commands.add_parser("compare", help="two campaigns side by side; unlike ones are refused, with the reasons")
    pair.add_argument("a", help="a folder of runs/, a path, or `latest`")
    pair.add_argument("b", help="the other one; differences are b - a")
    pair.add_argument("--anyway", action="store_true", help="compare unlike ones, too, and state how they differ")
    pair.set_defaults(door=_compare)
    every = commands.add_parser("index", help="write runs/index.html over all campaigns")
    every.add_argument(
        "folder", nargs="?", type=Path, default=RUNS, help="another folder of campaigns (default: runs/)"
    )
    every.set_defaults(door=_index)
    small = commands.add_parser("publish", help="a copy small enough for a repository, with the same report")
    small.add_argument("run", help="a folder of runs/, a path, or `latest`")
    small.add_argument("to", type=Path, help="the new folder; a campaign there is replaced")
    small.set_defaults(door=_publish)
    simulated = commands.add_parser("calibrate", help="false alarms and coverage of this code on simulated campaigns")
    simulated.add_argument(
        "--campaigns",
        type=partial(whole, least=2, most=1_000_000),
        default=1000,
        help="of each kind of traffic (default: 1000)",
    )
    simulated.set_defaults(door=_calibrate)
    commands.add_parser("schema", help="the JSON Schema of results.json").set_defaults(door=_schema)
    stalled = commands.add_parser("distortion", help="the report of a distortion run (make distortion)")
    stalled.add_argument("run", type=Path, help="its folder")
    stalled.set_defaults(door=_distortion)
    return parser


def _report(arguments: argparse.Namespace) -> int:
    folder = find_run(arguments.run)
    if arguments.prices:
        load_yaml(arguments.prices, Prices)
        shutil.copyfile(arguments.prices, folder / report.PRICES)
    found = report.write(folder)
    print(report.in_terminal(found, folder))
    return outcome.exit_code(found)


def _compare(arguments: argparse.Namespace) -> int:
    a, b = load(find_run(arguments.a)), load(find_run(arguments.b))
    found = across.compared(a, b, anyway=arguments.anyway)
    print(across.in_terminal(found))
    print(f"\nreport: {across.write(found, RUNS / 'comparisons')}")
    return 0


def _index(arguments: argparse.Namespace) -> int:
    if not arguments.folder.is_dir():
        raise ConfigError(f"{arguments.folder}: there is no such folder")
    count = index.write(arguments.folder)
    print(f"{count} campaign{'s' * (count != 1)}: {arguments.folder / 'index.html'}")
    return 0


def _publish(arguments: argparse.Namespace) -> int:
    size_bytes = publish.publish(find_run(arguments.run), arguments.to.resolve())
    print(f"{arguments.to}: {size_bytes / 1e6:.1f} MB")
    return 0


def _calibrate(arguments: argparse.Namespace) -> int:
    from analysis.answers import calibrate, calibrate_ab  # start processes, which must not import them unasked

    print(calibrate.in_markdown(calibrate.tables(calibrate.calibrate(arguments.campaigns))))
    print(f"\n{calibrate.in_markdown([calibrate_ab.table(calibrate_ab.calibrate(arguments.campaigns))])}")
    return 0


def _schema(_: argparse.Namespace) -> int:
    print(msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Results)), indent=2).decode())
    return 0


def _distortion(arguments: argparse.Namespace) -> int:
    print(distortion.in_terminal(distortion.write(arguments.run), arguments.run))
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))
