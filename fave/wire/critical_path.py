"""The chain of invocations that a request's duration is made of."""

from __future__ import annotations

from collections.abc import Sequence

from fave.wire.records import StageRow


def critical_path(rows: Sequence[StageRow]) -> list[StageRow]:
    """From the first to the last invocation of the chain that ended last.

    Walks backwards: what an invocation waited for is whatever returned last before it was sent, be it an input or a
    place under the concurrency limit. Needs the caller's stamps only, so it holds for any graph.
    """
    answered = [row for row in rows if row.sent_at_ns and row.returned_at_ns]
    chain: list[StageRow] = []
    current = max(answered, key=lambda row: row.returned_at_ns, default=None)
    while current is not None:
        chain.append(current)
        sent_at_ns = current.sent_at_ns
        before = [row for row in answered if row.sent_at_ns < sent_at_ns and row.returned_at_ns <= sent_at_ns]
        current = max(before, key=lambda row: row.returned_at_ns, default=None)
    return chain[::-1]
