"""The critical path of every request of a run: which invocations made its duration, and what they spent it on.

The same rule as `fave.wire.critical_path`, for all requests at once: an invocation waited for whatever returned last
before it was sent, be it an input or a place under the orchestrator's limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from workloads.graph import INPUT, Graph

# What a request's time from send to reply goes to. They add up to it exactly.
PARTS = ("cold_wait", "held", "queue", "storage", "compute", "orchestration", "network", "unexplained")
_COLD, _HELD, _QUEUE, _STORAGE, _COMPUTE, _ORCHESTRATION, _NETWORK, _UNEXPLAINED = range(len(PARTS))
_SPANS = ("storage_read", "storage_write", "compute", "init", "held")
_STAMPS = ("sent", "forwarded", "received", "started", "worked", "finished", "returned", "routable")

Array = np.ndarray[Any, Any]


class Paths(NamedTuple):
    """Of the answered requests of a run, in the order of `request_ids`; n of them.

    response_s: (n,) send to reply. parts_s: (n, len(PARTS)), rows add up to response_s.
    cold_by_stage_s: by function, (n,) seconds of cold wait on the path. saved_s: by function, (n,) how much earlier the
    request would have ended had that function not been cold, everything else as it was.
    """

    request_ids: list[str]
    response_s: Array
    parts_s: Array
    cold_by_stage_s: dict[str, Array]
    saved_s: dict[str, Array]


def paths(stages: pl.DataFrame, entries: Sequence[str], graph: Graph | None = None) -> Paths:
    """Empty where no request has the caller's stamps and those of the replica that served it.

    entries: the functions that arrivals call. graph: where that is a director, of what it calls.
    """
    answered = stages.filter((pl.col("sent_at_ns") > 0) & (pl.col("returned_at_ns") > 0))
    roots = (
        answered.filter(pl.col("stage").is_in(list(entries)) & (pl.col("status") == "ok"))
        .sort("returned_at_ns")
        .unique("request_id", keep="last", maintain_order=True)
    )
    own = _parts_ns(roots)
    at = _stamps(roots)
    response_s = at["returned"] - at["sent"]
    ids = roots["request_id"].to_list()
    called = roots["stage"].to_numpy()
    cold_by_stage: dict[str, Array] = {name: own[:, _COLD] * (called == name) for name in entries}
    saved: dict[str, Array] = {name: each.copy() for name, each in cold_by_stage.items()}
    if graph is not None and len(roots):
        below = _Below.of(answered.filter(pl.col("stage") != graph.director), roots)
        # What the director did itself is what its stages do not cover.
        own[:, [_COMPUTE, _STORAGE, _UNEXPLAINED]] = 0
        on_path, own[:, _ORCHESTRATION] = below.path()
        own += (below.parts_ns * on_path[:, :, None]).sum(axis=1)
        for name in below.functions():
            mine = below.stage == name
            cold_by_stage[name] = (below.parts_ns[:, :, _COLD] * (on_path & mine)).sum(axis=1)
            saved[name] = below.without_cold(graph, name)
    return Paths(
        ids,
        response_s / 1e9,
        own / 1e9,
        {name: each / 1e9 for name, each in cold_by_stage.items()},
        {name: each / 1e9 for name, each in saved.items()},
    )


def told(splits: Iterable[Mapping[str, float]]) -> list[str]:
    """The parts that are shown of these: only some platforms hold calls, and nobody else needs to read of it."""
    held = any(split.get("held") for split in splits)
    return [name for name in PARTS if held or name != "held"]


def row_parts_s(rows: pl.DataFrame) -> Array:
    """(rows, parts) of single invocations, in seconds."""
    return _parts_ns(rows) / 1e9


def _stamps(rows: pl.DataFrame) -> dict[str, Array]:
    columns = rows.select(pl.col(f"{name}_at_ns").fill_null(0) for name in _STAMPS)
    return {name: columns[f"{name}_at_ns"].to_numpy() for name in _STAMPS}


def _parts_ns(rows: pl.DataFrame) -> Array:
    """(rows, parts): each from stamps of its own; without a stamp its time stays where it cannot be told from.

    cold wait: sent until routable, and lazy initialisation. held: kept by a gateway that has no queue. queue: until the
    gateway forwards, and from the replica's receipt to the handler's start (without the gateway's stamp the whole way
    there). storage: the stage's own reading and writing, and writing its row. network: gateway to replica, and the way
    back.
    """
    at = _stamps(rows)
    columns = rows.select(pl.col(f"{name}_s").fill_null(0.0) for name in _SPANS)
    seconds = {name: np.round(columns[f"{name}_s"].to_numpy() * 1e9) for name in _SPANS}
    parts = np.zeros((len(rows), len(PARTS)))
    known = (at["received"] > 0) & (at["started"] > 0) & (at["finished"] > 0)
    base = np.maximum(at["sent"], at["routable"])
    forwarded = np.where(at["forwarded"] > 0, np.maximum(at["forwarded"], base), at["received"])
    worked = np.where(at["worked"] > 0, at["worked"], at["finished"])
    parts[:, _COLD] = base - at["sent"] + seconds["init"]
    parts[:, _HELD] = seconds["held"]
    parts[:, _QUEUE] = forwarded - base - seconds["held"] + at["started"] - at["received"]
    parts[:, _NETWORK] = at["received"] - forwarded + at["returned"] - at["finished"]
    parts[:, _STORAGE] = seconds["storage_read"] + seconds["storage_write"] + at["finished"] - worked
    parts[:, _COMPUTE] = seconds["compute"]
    parts[~known] = 0
    parts[:, _UNEXPLAINED] = at["returned"] - at["sent"] - parts.sum(axis=1)
    return parts


class _Below(NamedTuple):
    """The stages' invocations of n requests, each padded to the most that any has (w): arrays (n, w)."""

    started_ns: Array
    finished_ns: Array
    there: Array
    sent_ns: Array
    returned_ns: Array
    parts_ns: Array
    stage: Array
    clip: Array

    @classmethod
    def of(cls, rows: pl.DataFrame, roots: pl.DataFrame) -> _Below:
        """Rows of an earlier attempt of the orchestrator are none of this one's path."""
        index = roots.select("request_id", "started_at_ns", "finished_at_ns").with_row_index("i")
        rows = (
            rows.join(index, on="request_id", suffix="_root")
            .filter(
                (pl.col("sent_at_ns") >= pl.col("started_at_ns_root"))
                & (pl.col("returned_at_ns") <= pl.col("finished_at_ns_root"))
            )
            .sort("i", "returned_at_ns", "stage", "clip")
            .with_columns(pl.int_range(pl.len()).over("i").alias("j"))
        )
        i, j = rows["i"].to_numpy(), rows["j"].to_numpy()
        shape = (len(roots), int(j.max()) + 1 if len(j) else 1)

        def spread(values: Array, fill: Any) -> Array:
            padded = np.full(shape + values.shape[1:], fill, dtype=values.dtype)
            padded[i, j] = values
            return padded

        return cls(
            started_ns=roots["started_at_ns"].to_numpy(),
            finished_ns=roots["finished_at_ns"].to_numpy(),
            there=spread(np.ones(len(rows), bool), False),
            sent_ns=spread(rows["sent_at_ns"].to_numpy(), np.iinfo(np.int64).max),
            returned_ns=spread(rows["returned_at_ns"].to_numpy(), -1),
            parts_ns=spread(_parts_ns(rows), 0.0),
            stage=spread(rows["stage"].to_numpy().astype("U32"), ""),
            clip=spread(rows["clip"].fill_null("").to_numpy().astype("U32"), ""),
        )

    def functions(self) -> list[str]:
        return sorted({str(name) for name in np.unique(self.stage)} - {""})

    def path(self) -> tuple[Array, Array]:
        """Which invocations are on the path, (n, w), and the orchestrator's time around and between them, (n,)."""
        n = np.arange(len(self.there))
        on_path = np.zeros_like(self.there)
        until = self.finished_ns.copy()
        between = np.zeros(len(n))
        left = np.ones(len(n), bool)
        while left.any():
            before = np.where(
                (self.sent_ns < until[:, None]) & (self.returned_ns <= until[:, None]), self.returned_ns, -1
            )
            last = before.argmax(axis=1)
            found = left & (before[n, last] >= 0)
            ended = np.where(found, before[n, last], self.started_ns)
            between += np.where(left, until - ended, 0)
            on_path[n[found], last[found]] = True
            until = np.where(found, self.sent_ns[n, last], until)
            left = found
        return on_path, between

    def without_cold(self, graph: Graph, function: str) -> Array:
        """(n,) ns by which the last invocation would have returned earlier had `function` never been cold.

        The graph is walked forwards: an invocation is sent as long after its last input as it was in fact.
        """
        cold = np.where(self.stage == function, self.parts_ns[:, :, _COLD], 0.0)
        if not cold.any():
            return np.zeros(len(cold))
        returned: dict[tuple[str, str], Array] = {}
        earlier: dict[tuple[str, str], Array] = {}
        last = np.zeros(len(cold))
        last_earlier = np.zeros(len(cold))
        clips = sorted({str(clip) for clip in np.unique(self.clip)})
        for node in graph.nodes:
            for clip in clips if node.per_item else [""]:
                mine = self.stage == node.function
                if node.per_item:
                    mine &= self.clip == clip
                there = mine.any(axis=1)
                # The last attempt is the one whose outputs are used.
                pick = self.there.shape[1] - 1 - mine[:, ::-1].argmax(axis=1)
                rows = np.arange(len(there))
                inputs = [
                    key
                    for source in node.inputs
                    if source.of != INPUT
                    for key in returned
                    if key[0] == source.of and (not node.per_item or key[1] in ("", clip))
                ]
                gained = _latest(inputs, returned, there) - _latest(inputs, earlier, there)
                was = np.where(there, self.returned_ns[rows, pick] - self.started_ns, 0.0)
                now = np.where(there, was - gained - cold[rows, pick], 0.0)
                returned[node.function, clip], earlier[node.function, clip] = was, now
                last, last_earlier = np.maximum(last, was), np.maximum(last_earlier, now)
        return last - last_earlier


def _latest(keys: Sequence[tuple[str, str]], of: dict[tuple[str, str], Array], like: Array) -> Array:
    found = np.zeros(len(like))
    for key in keys:
        found = np.maximum(found, of[key])
    return found
