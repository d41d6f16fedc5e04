"""What a function does that runs several stages of the graph: the same handlers, one after another, in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fave.errors import StageError, StorageError
from fave.storage import parse_uri
from fave.wire import keys
from fave.wire.envelope import Envelope, failure_of
from functions import stage
from functions.fused.kept import Kept
from workloads.graph import Graph
from workloads.workflow import Task, leaving, own_tasks

Work = Callable[[stage.Job], None]


def work(job: stage.Job, *, graph: Graph, part: str, works: Mapping[str, Work]) -> None:
    """Do the stages of a part, each when its inputs are there.

    Raises
    ------
    StageError
        As the first stage that fails does; the reason names it. `bad-request` where an input of a stage is missing.
    """
    order, done = job.envelope, dict[str, tuple[str, ...]]()
    folder = job.folder / "kept"
    folder.mkdir()
    store = Kept(job.store, folder)
    while tasks := own_tasks(graph, part, order.clip, order.inputs, done):
        for task in tasks:
            try:
                done[task.name] = job.step(_envelope(job, task), store, works[task.stage])
            except (StageError, StorageError) as error:
                failure = failure_of(error, task.stage)
                reason = f"{task.name}: {failure.reason}"
                raise StageError(failure.slug, reason, retryable=failure.retryable) from error
    missing = sorted(set(graph.parts[part]) - {task.partition("/")[0] for task in done})
    if missing:
        raise StageError("bad-request", f"inputs of {', '.join(missing)} are missing")
    job.outputs = leaving(graph, part, done)


def _envelope(job: stage.Job, task: Task) -> Envelope:
    """As the director would send it, were the stage a function of its own."""
    order = job.envelope
    versions = {**order.etags, **job.etags}
    return Envelope(
        request_id=order.request_id,
        stage=task.stage,
        clip=task.clip,
        input_uris=task.inputs,
        output_uri=f"s3://{parse_uri(order.output_uri).bucket}/{keys.outputs(order.request_id, task.name)}",
        etags={uri: versions[uri] for uri in task.inputs if uri in versions},
        config=order.config.get(task.stage, {}),
    )
