"""The graph that this director was deployed with, and the outputs in it that its own answer is made from."""

from __future__ import annotations

import functools
import os

import msgspec

from fave.errors import ConfigError
from workloads.graph import GRAPH, Graph, Source

ORCHESTRATOR = "orchestrator"
MEDIA = Source("stage-ffmpeg-0", "media.json")
RANKING = Source("stage-search", "ranking.json")
EXPLANATION = Source("stage-explainer", "explanation.json")


@functools.cache
def graph() -> Graph:
    """Raises ConfigError where this function was deployed without one."""
    text = os.environ.get(GRAPH, "")
    try:
        return msgspec.json.decode(text, type=Graph)
    except (msgspec.MsgspecError, ValueError) as error:
        what = f"{GRAPH} is no graph ({error})" if text else f"{GRAPH} is not set: there is nothing to direct"
        hint = "`python -m regimes apply`, or a stack file that `make stack` rendered, sets it"
        raise ConfigError(f"environment {what}", hint=hint) from error
