"""Whether two campaigns, or a campaign and what would be run now, were made alike: fact by fact of campaign.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fave.campaign.validity import at_most

Facts = Mapping[str, Any]
# A difference in one of these makes runs other runs, and two cold-start rates answers to different questions.
_SAME = ("co_located", "embedded", "images", "nodes", "pods", "assets", "traces", "workload")
_SAME_HOST = ("cpu_model", "cores")
_SAME_PLATFORM = ("provider", "limits", "function_settings", "places")
_TOLD = ("versions", "source")
# A reboot may leave a machine some kilobytes more or less.
_MEMORY_TOLERANCE = 0.05
_LONGEST = 60


class Difference(NamedTuple):
    """Something that is not the same. refuses: because of it, the two do not belong together."""

    what: str
    a: Any
    b: Any
    refuses: bool

    def __str__(self) -> str:
        return self.said()

    def said(self, form: str = "{what}: {a} in A, {b} in B") -> str:
        return form.format(what=self.what, a=_short(self.a), b=_short(self.b))


def of_setup(one: Facts, two: Facts) -> list[Difference]:
    """What only one of them has recorded (versions of FAVE differ) is told and refuses nothing."""
    host, other = one.get("host", {}), two.get("host", {})
    told = sorted(key for key in host if key not in _SAME_HOST and not key.startswith(("load_", "memory_")))
    found = between(host, other, "host.", _SAME_HOST, refuses=True) + _memory(host, other)
    found += between(one.get("platform", {}), two.get("platform", {}), "platform.", _SAME_PLATFORM, refuses=True)
    found += between(one, two, "", _SAME, refuses=True)
    found += between(host, other, "host.", told, refuses=False)
    for part in _TOLD:
        mine, others = one.get(part, {}), two.get(part, {})
        found += between(mine, others, f"{part}.", sorted(mine.keys() | others.keys()), refuses=False)
    return found


def between(one: Facts, two: Facts, prefix: str, keys: Iterable[str], *, refuses: bool) -> list[Difference]:
    return [
        Difference(f"{prefix}{key}", one.get(key), two.get(key), refuses=refuses and key in one and key in two)
        for key in keys
        if _set(one.get(key)) != _set(two.get(key))
    ]


def _set(value: Any) -> Any:
    """None for what says nothing: an earlier version may not have had the key at all."""
    return None if value in (0, "", "0s", "0ms", [], {}, False) else value


def _memory(one: Facts, two: Facts) -> list[Difference]:
    mine, other = one.get("memory_kb", 0), two.get("memory_kb", 0)
    far = mine and other and not at_most(abs(mine - other), _MEMORY_TOLERANCE * mine)
    return [Difference("host.memory_kb", mine, other, refuses=True)] if far else []


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
