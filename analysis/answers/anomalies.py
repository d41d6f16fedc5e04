"""What went wrong in the runs: failures, timeouts, kills; with what the replicas wrote last."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.rows.digest import Digest
from fave.campaign.results import Anomaly

_SAID = {
    "oom_killed": "killed over its memory limit",
    "crashed": "crashed",
    "start_failed": "did not get ready",
}
# Examples of each kind; the rows have all of them.
_EXAMPLES = 3


def anomalies(digests: Sequence[Digest]) -> list[Anomaly]:
    """Of all finished runs, used or not, by load and regime."""
    found = []
    for load, regime in sorted({(each.run.load, each.run.regime) for each in digests}):
        mine = [each for each in digests if (each.run.load, each.run.regime) == (load, regime)]
        where = f"{load}, {regime}"
        found += [*_failed(where, mine), *_ended_badly(where, mine)]
    return found


def _failed(where: str, mine: Sequence[Digest]) -> list[Anomaly]:
    errors: dict[str, int] = {}
    statuses: dict[str, int] = {}
    for each in mine:
        for counts, into in ((each.errors, errors), (each.statuses, statuses)):
            for name, count in counts.items():
                into[name] = into.get(name, 0) + count
    bad = {name: count for name, count in statuses.items() if name != "ok"}
    requests = sum(each.requests for each in mine)
    most = sorted(errors.items(), key=lambda item: (-item[1], item[0]))[:_EXAMPLES]
    said = {text: lines for each in reversed(mine) for text, lines in each.said.items() if lines}
    detail = [f"{count} x {text[:300]}{_quoted(said.get(text, ()))}" for text, count in most]
    return [
        Anomaly(what=f"requests {name} ({count / requests:.1%} of {requests})", where=where, count=count, detail=detail)
        for name, count in sorted(bad.items())
    ]


def _ended_badly(where: str, mine: Sequence[Digest]) -> list[Anomaly]:
    found = []
    kinds = sorted({(end.event, end.function) for each in mine for end in each.ended_badly})
    for event, function in kinds:
        ends = [
            (each, end) for each in mine for end in each.ended_badly if (end.event, end.function) == (event, function)
        ]
        detail = [
            f"{each.run.folder}, after {end.after_s:.1f} s{': ' * bool(end.reason)}{end.reason}"
            + _quoted(end.last_words)
            for each, end in ends[:_EXAMPLES]
        ]
        found.append(Anomaly(what=f"{function} {_SAID[event]}", where=where, count=len(ends), detail=detail))
    return found


def _quoted(lines: Sequence[str]) -> str:
    return "".join(f"\n    {line[:300]}" for line in lines)
