"""The pure rules of what can run next in a graph. An item is a clip here."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from workloads.graph import INPUT, Graph, Node, Source


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One invocation to make: `stage`, or `stage/clip`."""

    stage: str
    clip: str = ""
    inputs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.clip}" if self.clip else self.stage


# Outputs by task name, of the tasks that are done.
Done = Mapping[str, tuple[str, ...]]


def clips_of(graph: Graph, done: Done, skipped: frozenset[str] = frozenset()) -> list[str]:
    """The clips, in order, once the fan-out is known; without those that are left out."""
    items = graph.items or Source("")
    named = {_clip_of(uri) for uri in done.get(items.of, ()) if uri.endswith(items.suffix)}
    return sorted(named - skipped)


def runnable(
    graph: Graph,
    video_uri: str,
    done: Done,
    started: frozenset[str],
    skipped: frozenset[str] = frozenset(),
) -> list[Task]:
    """Tasks whose inputs are all there and that were not started, in the graph's order."""
    found = []
    for node in graph.nodes:
        for clip in clips_of(graph, done, skipped) if node.per_item else [""]:
            task = _task(graph, node, clip, video_uri, done, skipped)
            if task is not None and task.name not in started:
                found.append(task)
    return found


def complete(graph: Graph, done: Done, skipped: frozenset[str] = frozenset()) -> bool:
    """Every node is done, per clip those of every clip that is not left out."""
    clips = clips_of(graph, done, skipped)
    names = [
        [f"{node.function}/{clip}" for clip in clips] if node.per_item else [node.function] for node in graph.nodes
    ]
    return all(name in done for each in names for name in each)


def task_named(graph: Graph, name: str) -> Task:
    """A task without its inputs.

    Raises
    ------
    KeyError
        For a stage that the graph does not have.
    """
    stage, _, clip = name.partition("/")
    return Task(stage=graph.node(stage).function, clip=clip)


def output_of(source: Source, done: Done) -> str:
    """The one output that `source` means, of a stage that runs once; empty when it is not there."""
    return next((uri for uri in done.get(source.of, ()) if uri.endswith(source.suffix)), "")


def _task(graph: Graph, node: Node, clip: str, video_uri: str, done: Done, skipped: frozenset[str]) -> Task | None:
    inputs: list[str] = []
    for source in node.inputs:
        if source.of == INPUT:
            inputs.append(video_uri)
            continue
        found = _outputs(graph, source, clip, done, skipped)
        if not found:
            return None
        inputs += found
    return Task(stage=node.function, clip=clip, inputs=tuple(inputs))


def _outputs(graph: Graph, source: Source, clip: str, done: Done, skipped: frozenset[str]) -> list[str]:
    """The source's outputs for this clip, or of all clips for a task that gathers them; empty while any is missing."""
    per_clip = graph.node(source.of).per_item
    names = [source.of]
    if per_clip:
        clips = [clip] if clip else clips_of(graph, done, skipped)
        names = [f"{source.of}/{each}" for each in clips]
    if not names or any(name not in done for name in names):
        return []
    uris = [uri for name in names for uri in done[name] if uri.endswith(source.suffix)]
    return [uri for uri in uris if _clip_of(uri) == clip] if clip and not per_clip else uris


def _clip_of(uri: str) -> str:
    return uri.rpartition("/")[2].partition(".")[0]
