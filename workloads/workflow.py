"""The pure rules of what can run next in a graph. An item is a clip here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from fave.wire import keys
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
    named = {_clip_of(uri) for uri in _meant(items, done.get(items.of, ()))}
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
    return next(_meant(source, done.get(source.of, ())), "")


def own_tasks(graph: Graph, part: str, clip: str, inputs: Iterable[str], done: Done) -> list[Task]:
    """What a function that runs several stages can do next: with `clip`, for that one alone.

    inputs: what the director gave it. done: what it has done itself.
    """
    stages = graph.parts[part]
    given: dict[str, list[str]] = {}
    brought = []
    for uri in inputs:
        made = keys.made(uri)
        if made is None or made.function not in graph.stages:
            brought.append(uri)
        else:
            given.setdefault(made.task, []).append(uri)
    there = {**{task: tuple(uris) for task, uris in given.items()}, **done}
    per_item = [
        source.of
        for stage in stages
        for source in graph.node(stage).inputs
        if source.of != INPUT and source.of not in stages and graph.node(source.of).per_item
    ]
    # Items whose outputs of before are missing were left out by the director.
    skipped = {each for each in clips_of(graph, there) if any(f"{name}/{each}" not in there for name in per_item)}
    found = runnable(graph, brought[0] if brought else "", there, frozenset(done), frozenset(skipped))
    return [task for task in found if task.stage in stages and (not clip or task.clip == clip)]


def leaving(graph: Graph, part: str, done: Done) -> list[str]:
    """Which outputs a function that runs several stages tells the director of: all of stages that run once, and of
    those that run per item what functions besides it take. (A long video has thousands of frames.)
    """
    stages = graph.parts[part]
    taken = [s for node in graph.nodes if node.function not in stages for s in node.inputs if s.of in stages]
    taken += [graph.items] if graph.items else []
    return [
        uri
        for task, uris in done.items()
        for uri in uris
        if "/" not in task or any(task.startswith(f"{s.of}/") and uri.endswith(s.suffix) for s in taken)
    ]


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
    uris = [uri for name in names for uri in _meant(source, done[name])]
    return [uri for uri in uris if _clip_of(uri) == clip] if clip and not per_clip else uris


def _meant(source: Source, uris: Iterable[str]) -> Iterator[str]:
    for uri in uris:
        made = keys.made(uri) if source.stage else None
        if uri.endswith(source.suffix) and (not source.stage or (made and made.function == source.stage)):
            yield uri


def _clip_of(uri: str) -> str:
    """Of an output of a stage that runs per clip its folder, else the name is the clip's."""
    made = keys.made(uri)
    return (made.task.partition("/")[2] if made else "") or uri.rpartition("/")[2].partition(".")[0]
