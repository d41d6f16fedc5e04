"""Several stages of the graph as one function: which ones, the graph says that it is deployed with, under its name."""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

from fave.images import handler_of
from functions import stage
from functions.fused.composing import Work, work
from workloads.graph import deployed_with

_name = os.environ["FAVE_FUNCTION"]
_graph = deployed_with()
# All that they load is loaded before this function is ready.
_works: dict[str, Work] = {name: importlib.import_module(handler_of(name)).work for name in _graph.parts[_name]}


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run(_name, event, context, functools.partial(work, graph=_graph, part=_name, works=_works))
