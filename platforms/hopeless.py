"""Replicas that end before they are ready, again and again: said at once, with what they wrote, not after a timeout."""

from __future__ import annotations

from collections import Counter

from fave.errors import PlatformError
from platforms.model import Platform

# So often it may have been a neighbour's fault.
_STARTS = 3
_LAST_LINES = 5
# What Kubernetes calls its own waiting: why it waits is another's word.
_WAITING = "CrashLoopBackOff"


def refuse(platform: Platform, since_ns: int) -> None:
    """Where the platform tells of failed starts.

    Raises
    ------
    PlatformError
        For a function of which too many failed since, with why and their last lines.
    """
    failed = platform.failed_starts(since_ns)
    for function, count in Counter(each.function for each in failed).items():
        mine = [each for each in failed if each.function == function]
        if count >= _STARTS or mine[-1].final:
            hint = f"its replicas' logs tell why; on the embedded platform: .fave/logs/{function}/"
            reasons = list(dict.fromkeys(each.reason for each in mine))
            why = ", ".join([each for each in reasons if each != _WAITING] or reasons)
            what = f"{function} cannot start: {count} replica{'s' * (count != 1)} ended before ready ({why})"
            said = [str(line.get("text", "")) for line in platform.logs(function, since_ns, _LAST_LINES)]
            raise PlatformError("\n  ".join([what, *said]), hint=hint)
