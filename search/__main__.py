"""`python -m search`: one request through the pipeline, watched; or every function of it once."""

from __future__ import annotations

import argparse
import sys

from fave.cli import run_door
from search import invoke, smoke


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
    return smoke.run(regime=arguments.regime)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m search", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
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


if __name__ == "__main__":
    sys.exit(run_door(main))
