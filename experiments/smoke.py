"""`make smoke`: every function of the pipeline answers through the gateway and reaches the object store by itself."""

from __future__ import annotations

from typing import Any

from experiments.progress import say
from experiments.single import new_id, perform, session, video_address
from fave.envelope import PipelineRequest
from fave.errors import StageError
from fave.workload import ORCHESTRATOR, PIPELINE, functions_of


def run(*, regime: str) -> int:
    """One request on the short sample. The caller gives no credentials: what a function read and wrote, it could.

    Raises
    ------
    StageError
        Naming the function that failed, or those that left nothing in the store.
    """
    request_id = new_id("smoke")
    with session(regime, say) as here:
        uri = video_address("short", request_id, here, lambda _: None)
        request = PipelineRequest(video_uri=uri, query="find scenes with cars", request_id=request_id)
        final = perform(here, request, lambda _: None)
        rows = _by_function([final["invocation"], *final["rows"]])
        kept = {key.split("/")[2] for key in here.store.keys(f"requests/{request_id}/")}
        say(f"{'function':24}{'invocations':>12}{'read bytes':>12}{'wrote bytes':>13}   in the store")
        silent = []
        for function in functions_of(PIPELINE):
            mine = rows.get(function, [])
            read, wrote = (sum(row[name] for row in mine) for name in ("input_bytes", "output_bytes"))
            there = function in kept or (function == ORCHESTRATOR and "metadata" in kept)
            say(f"{function:24}{len(mine):12}{read:12}{wrote:13}   {'yes' if there else 'NO'}")
            if not (mine and read and wrote and there):
                silent.append(function)
    if silent:
        raise StageError("storage", f"nothing of theirs is in the object store: {', '.join(silent)}")
    say(f"all {len(rows)} functions answer and reach the object store")
    return 0


def _by_function(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["stage"], []).append(row)
    return found
