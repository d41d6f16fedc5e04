"""What a campaign's results mean to a machine: one exit code, the gravest first."""

from __future__ import annotations

from typing import Any

from fave.errors import EXIT_CONTROL, EXIT_INCONCLUSIVE, EXIT_INVALID_RUN, EXIT_OK, EXIT_THRESHOLD


def exit_code(results: dict[str, Any]) -> int:
    """From results.json."""
    # Several blocks and yet nothing to compare: no cold-start rate is known, though the runs passed every gate.
    unanswered = any(row["blocks"] > 1 and row["risk_difference"] is None for row in results["contrasts"])
    if unanswered or not results["validity"]["valid"]:
        return EXIT_INVALID_RUN
    if any(control["state"] == "failed" for control in results["controls"]):
        return EXIT_CONTROL
    states = {each["state"] for each in results["thresholds"]}
    if "missed" in states:
        return EXIT_THRESHOLD
    undecided = "inconclusive" in states or any(control["state"] == "undecided" for control in results["controls"])
    return EXIT_INCONCLUSIVE if undecided else EXIT_OK
