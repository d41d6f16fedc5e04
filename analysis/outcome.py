"""What a campaign's results mean to a machine: one exit code, the gravest first."""

from __future__ import annotations

from collections.abc import Sequence

from fave.campaign.results import Contrast, Results
from fave.errors import EXIT_CONTROL, EXIT_INCONCLUSIVE, EXIT_INVALID_RUN, EXIT_OK, EXIT_THRESHOLD


def at_look(results: Results, blocks: int, next_blocks: int | None, ended: Sequence[str]) -> list[str]:
    """What a look after so many blocks has decided, a line a load. next_blocks: of the next look; ended: loads."""
    rows = [*results.contrasts, *results.effects]
    lines = []
    for load in dict.fromkeys(row.load for row in rows):
        mine = [row for row in rows if row.load == load]
        open_ = [row for row in mine if not row.decided]
        head = f"look after {blocks} blocks, {load}: {len(mine) - len(open_)} of {len(mine)} decided"
        if load in ended:
            lines.append(f"{head}; it ends here")
        elif next_blocks is None:
            lines.append(f"{head}; this was the last look")
        else:
            lines.append(f"{head}; after {next_blocks}: {', '.join(map(_expected, open_))}")
    return lines


def named(row: Contrast) -> str:
    """A contrast, or an effect."""
    return f"{row.a} - {row.b}" if row.b else str(row.a)


def _expected(row: Contrast) -> str:
    chance = row.chance_next
    return named(row) + ("" if chance is None else f" with {100 * chance:.0f} % chance")


def exit_code(results: Results) -> int:
    """From results.json."""
    # Several blocks and yet nothing to compare: no cold-start rate is known, though the runs passed every gate.
    unanswered = any(row.blocks > 1 and row.difference is None for row in results.contrasts)
    if unanswered or not results.validity.valid:
        return EXIT_INVALID_RUN
    if any(control.state == "failed" for control in results.controls):
        return EXIT_CONTROL
    states = {each.state for each in results.thresholds} | {each.state for each in results.guards}
    if states & {"missed", "worse"}:
        return EXIT_THRESHOLD
    undecided = bool(states & {"inconclusive", "undecided"}) or any(
        control.state == "undecided" for control in results.controls
    )
    return EXIT_INCONCLUSIVE if undecided else EXIT_OK
