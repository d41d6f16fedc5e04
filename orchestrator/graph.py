"""The graph that this director was deployed with, and the outputs in it that its own answer is made from."""

from __future__ import annotations

import functools

from workloads.graph import Graph, Source, deployed_with

ORCHESTRATOR = "orchestrator"
MEDIA = Source("stage-ffmpeg-0", "media.json")
RANKING = Source("stage-search", "ranking.json")
EXPLANATION = Source("stage-explainer", "explanation.json")


@functools.cache
def stages() -> Graph:
    """What flows between stages, and which function runs which. Raises ConfigError where there is none."""
    return deployed_with()


@functools.cache
def graph() -> Graph:
    """What is called, and when."""
    return stages().called()
