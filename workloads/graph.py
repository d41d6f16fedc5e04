"""How the functions of a workload call each other. Directors read it when they start: nothing heavy is imported."""

from __future__ import annotations

import msgspec

# What the request itself brings along.
INPUT = "input"
# The variable in which a director finds its graph, as JSON.
GRAPH = "FAVE_GRAPH"


class Source(msgspec.Struct, frozen=True):
    """Outputs of a function whose names end in `suffix`; of `input`, what the request brought along."""

    of: str
    suffix: str = ""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A function in the graph.

    per_item: it runs once for each item, and gets its own item's outputs. asks: its configuration gets the request's
    query.
    """

    function: str
    inputs: tuple[Source, ...]
    per_item: bool = False
    asks: bool = False


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """director: the function that calls all others, each when its inputs are there. items: the outputs that functions
    which run per item run for.
    """

    director: str
    nodes: tuple[Node, ...]
    items: Source | None = None

    def __post_init__(self) -> None:
        problems = [] if self.nodes else ["nodes: at least one"]
        before = {INPUT}
        for node in self.nodes:
            problems += [
                f"nodes: {node.function} takes what {source.of!r} makes, which is no function before it"
                for source in node.inputs
                if source.of not in before
            ]
            if node.function in (*before, self.director):
                problems.append(f"nodes: {node.function!r} stands twice, directs, or is the name of the input")
            if node.per_item and self.items is None:
                problems.append(f"nodes: {node.function} runs per item; items says of which")
            before.add(node.function)
        if self.items is not None and self.items.of not in before - {INPUT}:
            problems.append(f"items: {self.items.of!r} is none of the functions")
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def functions(self) -> tuple[str, ...]:
        return tuple(node.function for node in self.nodes)

    def node(self, function: str) -> Node:
        """Raises KeyError for a function that the graph does not have."""
        found = next((node for node in self.nodes if node.function == function), None)
        if found is None:
            raise KeyError(function)
        return found
