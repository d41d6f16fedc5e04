"""`python -m analysis`: from a run folder to verdicts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analysis import across, distortion, report
from analysis.load import load
from fave.cli import run_door
from fave.rundir import find_run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("report", help="write results.json, report.html, report.md and figures/")
    command.add_argument("run", nargs="?", default="latest", help="a folder of runs/, a path, or `latest` (default)")
    pair = commands.add_parser("compare", help="two campaigns side by side; unlike ones are refused, with the reasons")
    pair.add_argument("a", help="a folder of runs/, a path, or `latest`")
    pair.add_argument("b", help="the other one; differences are b - a")
    pair.add_argument("--anyway", action="store_true", help="compare unlike ones, too, and state how they differ")
    stalled = commands.add_parser("distortion", help="the report of a distortion run (make distortion)")
    stalled.add_argument("run", help="its folder")
    arguments = parser.parse_args()
    if arguments.command == "distortion":
        folder = Path(arguments.run)
        print(distortion.in_terminal(distortion.write(folder), folder))
        return 0
    if arguments.command == "compare":
        a, b = load(find_run(arguments.a)), load(find_run(arguments.b))
        print(across.in_terminal(a, b, across.compared(a, b, anyway=arguments.anyway)))
        return 0
    folder = find_run(arguments.run)
    found = report.write(folder)
    print(report.in_terminal(found, folder))
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))
