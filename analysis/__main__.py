"""`python -m analysis`: from a run folder to verdicts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analysis import distortion, report
from fave.cli import run_door
from fave.rundir import find_run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("report", help="write results.json, report.html, report.md and figures/")
    command.add_argument("run", nargs="?", default="latest", help="a folder of runs/, a path, or `latest` (default)")
    stalled = commands.add_parser("distortion", help="the report of a distortion run (make distortion)")
    stalled.add_argument("run", help="its folder")
    arguments = parser.parse_args()
    if arguments.command == "distortion":
        folder = Path(arguments.run)
        print(distortion.in_terminal(distortion.write(folder), folder))
        return 0
    folder = find_run(arguments.run)
    print(report.in_terminal(report.write(folder), folder))
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))
