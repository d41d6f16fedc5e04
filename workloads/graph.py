"""How the functions of a workload call each other. Directors read it when they start: nothing heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import msgspec

from fave.errors import ConfigError

# What the request itself brings along.
INPUT = "input"
# The variable in which a director, and a function that runs several stages, finds its graph, as JSON.
GRAPH = "FAVE_GRAPH"


class Source(msgspec.Struct, frozen=True):
    """Outputs of a function whose names end in `suffix`; of `input`, what the request brought along.

    stage: where that function runs several stages, the one that makes them.
    """

    of: str
    suffix: str = ""
    stage: str = ""


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
    """director: the function that calls all others, each when its inputs are there. nodes: stages, and what flows
    between them. items: the outputs that stages which run per item run for.

    parts: functions that run several stages in one process, by name; a stage that is in none is a function itself.
    """

    director: str
    nodes: tuple[Node, ...]
    items: Source | None = None
    parts: dict[str, tuple[str, ...]] = {}

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
        problems = problems or [*self._wrong_parts()]
        if problems:
            raise ValueError("\n".join(problems))

    def with_parts(self, parts: Mapping[str, tuple[str, ...]]) -> Graph:
        """Raises ValueError for parts that cannot be."""
        return Graph(director=self.director, nodes=self.nodes, items=self.items, parts=dict(parts))

    def _wrong_parts(self) -> Iterable[str]:
        names, taken = {node.function for node in self.nodes}, set[str]()
        for part, stages in self.parts.items():
            if part in (*names, self.director, INPUT):
                yield f"parts: {part!r} is the name of another function, or of the input"
            if len(stages) < 2:
                yield f"parts.{part}: two stages or more; one that is by itself is in no part"
            for stage in stages:
                if stage not in names:
                    yield f"parts.{part}: {stage!r} is none of the stages {', '.join(sorted(names))}"
                elif stage in taken:
                    yield f"parts.{part}: {stage!r} stands twice"
                taken.add(stage)
        if taken <= names:
            yield from self._circles()

    def _circles(self) -> Iterable[str]:
        """A part must be able to begin: nothing that it takes may need what it makes."""
        left, done = self._takes(), {INPUT}
        while left:
            ready = [name for name, takes in left.items() if takes <= done]
            if not ready:
                yield f"parts: {' and '.join(sorted(left))} need each other's outputs: what lies between belongs to one"
                return
            done |= set(ready)
            left = {name: takes for name, takes in left.items() if name not in ready}

    def _takes(self) -> dict[str, set[str]]:
        """By called function, the functions whose outputs it needs."""
        found: dict[str, set[str]] = {}
        for node in self.nodes:
            mine = self.part_of(node.function)
            sources = {self.part_of(source.of) for source in node.inputs}
            found[mine] = found.get(mine, set()) | (sources - {mine})
        return found

    def part_of(self, stage: str) -> str:
        """The function that runs a stage."""
        return next((part for part, stages in self.parts.items() if stage in stages), stage)

    def seen(self, source: Source) -> Source:
        """What stages make, as the director sees it: made by the function that runs the stage."""
        part = self.part_of(source.of)
        return source if part == source.of else Source(part, source.suffix, source.of)

    def called(self) -> Graph:
        """As the director sees it: functions as nodes, in an order in which each comes after what it takes."""
        if not self.parts:
            return self
        made: dict[str, Node] = {}
        left = self._takes()
        while left:
            name = next(name for name, takes in left.items() if takes <= {INPUT, *made})
            del left[name]
            made[name] = self._called(name)
        items = self.seen(self.items) if self.items else None
        return Graph(director=self.director, nodes=tuple(made.values()), items=items)

    def _called(self, name: str) -> Node:
        stages = self.parts.get(name, (name,))
        nodes = [node for node in self.nodes if node.function in stages]
        per_item = all(node.per_item for node in nodes)
        sources = [source for node in nodes for source in node.inputs if source.of not in stages]
        # Which items there are is told by the outputs that are.
        of_items = any(self.node(each).per_item for each in {*stages, *(s.of for s in sources)} - {INPUT})
        if name in self.parts and of_items and self.items and self.items.of not in stages:
            sources.append(self.items)
        inputs = tuple(dict.fromkeys(self.seen(source) for source in sources))
        return Node(function=name, inputs=inputs, per_item=per_item, asks=any(node.asks for node in nodes))

    @property
    def functions(self) -> tuple[str, ...]:
        """That the director calls."""
        return tuple(dict.fromkeys(self.part_of(node.function) for node in self.nodes))

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(node.function for node in self.nodes)

    def node(self, function: str) -> Node:
        """Raises KeyError for a function that the graph does not have."""
        found = next((node for node in self.nodes if node.function == function), None)
        if found is None:
            raise KeyError(function)
        return found


def deployed_with() -> Graph:
    """The graph in this function's environment. Raises ConfigError where it was deployed without one."""
    text = os.environ.get(GRAPH, "")
    try:
        return msgspec.json.decode(text, type=Graph)
    except (msgspec.MsgspecError, ValueError) as error:
        what = f"{GRAPH} is no graph ({error})" if text else f"{GRAPH} is not set: there is nothing to direct"
        hint = "`python -m regimes apply`, or a stack file that `make stack` rendered, sets it"
        raise ConfigError(f"environment {what}", hint=hint) from error
