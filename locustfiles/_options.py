"""FAVE's own arguments: on the command line, in the environment, and in the web UI's start form."""

from __future__ import annotations

from locust import events

from typing import Any

from fave.workload import PIPELINE, STAGES


@events.init_command_line_parser.add_listener
def _add_arguments(parser: Any) -> None:
    add = parser.add_argument
    targets = [PIPELINE, *STAGES]
    add("--target", choices=targets, default="stage-object-detector", help="the whole pipeline, or one stage")
    add("--requests", type=int, default=60, help="number of arrivals (not with --schedule)")
    add("--duration", default="60s", help="over how long, e.g. 60s (not with --schedule)")
    add("--seed", type=int, default=1, help="seed of the arrivals (not with --schedule)")
    add("--query", default="find scenes with cars", help="what the pipeline searches for")
    add("--max-in-flight", type=int, default=200, help="above it an arrival is dropped and counted")
    add("--request-timeout", default="300s", help="how long to wait for one reply")
    hidden = {"include_in_web_ui": False}
    add("--schedule", default="", help="CSV `k,at_us` of the arrivals, instead of a generated one", **hidden)
    add("--inputs", default="", help="s3:// addresses for a single stage, comma-separated", **hidden)
    add("--settings", default="{}", help="JSON: stage settings (of the target stage, or by stage name)", **hidden)
    add("--regime", default="", help="name of the regime in force, for the record", **hidden)
    add("--id-prefix", default="", help="request ids are PREFIX-k000000", **hidden)
    add("--out", default="", help="folder for arrivals-0.jsonl and generator.json", **hidden)
