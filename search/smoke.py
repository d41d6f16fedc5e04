"""`make smoke`: every function of the pipeline answers through the gateway and reaches the object store by itself."""

from __future__ import annotations

from experiments.progress import say
from fave.errors import StageError
from fave.wire import keys
from fave.wire.envelope import PipelineRequest
from fave.wire.records import StageRow
from search.single import new_id, perform, session, video_address
from workloads.model import shipped


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
        rows = _by_function([final.invocation, *final.rows])
        kept = {key.split("/")[2] for key in here.store.keys(keys.of_request(request_id))}
        say(f"{'function':24}{'invocations':>12}{'read bytes':>12}{'wrote bytes':>13}   in the store")
        silent = []
        for function in shipped().functions:
            mine = rows.get(function, [])
            read, wrote = (sum(getattr(row, name) for row in mine) for name in ("input_bytes", "output_bytes"))
            there = function in kept or (shipped().directs(function) and "metadata" in kept)
            say(f"{function:24}{len(mine):12}{read:12}{wrote:13}   {'yes' if there else 'NO'}")
            if not (mine and read and wrote and there):
                silent.append(function)
    if silent:
        raise StageError("storage", f"nothing of theirs is in the object store: {', '.join(silent)}")
    say(f"all {len(rows)} functions answer and reach the object store")
    return 0


def _by_function(rows: list[StageRow]) -> dict[str, list[StageRow]]:
    found: dict[str, list[StageRow]] = {}
    for row in rows:
        found.setdefault(row.stage, []).append(row)
    return found
