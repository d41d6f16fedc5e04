"""Strict configuration: plain data into frozen msgspec structs, all errors at once, with suggestions.

regimes/burst-ready.yml:7: functions.orchestrator: unknown key 'max_replica' (did you mean 'max_replicas'?)
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fave.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)
V = TypeVar("V")

ROOT = Path(__file__).resolve().parents[1]
NAME_PATTERN = re.compile(r"[a-z0-9-]{1,32}")

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# Far beyond any run, and exact in microseconds.
_LONGEST_S = 10_000 * 86400.0


class Duration(float):
    """Seconds; written in YAML with a unit (`500ms`, `4s`, `15m`, `1h30m`)."""

    @classmethod
    def parse(cls, text: object) -> Duration:
        if isinstance(text, Duration):
            return text
        if not isinstance(text, str) or not re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
            raise ValueError(f"{text!r} is not a duration (write 500ms, 4s, 15m or 1h)")
        duration_s = sum(float(value) * _UNIT_S[unit] for value, unit in _DURATION.findall(text))
        if duration_s > _LONGEST_S:
            raise ValueError(f"{text[:40]!r} is longer than {_LONGEST_S / 86400:,.0f} days")
        return cls(duration_s)

    def __str__(self) -> str:
        """Go's way of writing it, which OpenFaaS' labels and timeouts use: `4s`, `500ms`, `1.5s`."""
        value, unit = (self * 1000, "ms") if self < 1 else (float(self), "s")
        return f"{value:.6f}".rstrip("0").rstrip(".") + unit


def decode(data: object, cls: type[T], place: str | Callable[[str], str]) -> T:
    """Build `cls` from plain data. `place`: what messages call the source, or where each key of it stands."""
    builder = _Builder()
    value = builder.build(data, cls, "")
    if builder.problems:
        said = place if callable(place) else lambda _: place
        raise ConfigError([f"{said(key)}: {text}" for key, text in builder.problems])
    return typing.cast("T", value)


def key_of(problem: str) -> str:
    """The key that a problem in words begins with: `loads.a` of "loads.a: no such thing"."""
    return re.match(r"[\w.\[\]-]*", problem)[0]  # type: ignore[index]


def to_plain(value: object) -> Any:
    """The value as JSON-ready data, durations as text, so that `decode` reads it back."""
    return msgspec.to_builtins(value, enc_hook=_encode)


def from_plain(data: object, cls: type[V]) -> V:
    """What `to_plain` made, leniently: other keys are passed over. Raises ValueError (msgspec.ValidationError)."""
    return msgspec.convert(data, cls, dec_hook=_decode_leaf)


def _encode(value: object) -> object:
    if isinstance(value, Duration):
        return str(value)
    raise NotImplementedError(type(value))


def _decode_leaf(kind: type, value: object) -> object:
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError(kind)


class _Builder:
    """Goes on after a mistake, so that all are told. `problems`: (key where it is, what is wrong)."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []

    def _wrong(self, key: str, text: str) -> None:
        self.problems.append((key, f"{key}: {text}" if key else text))

    def build(self, data: object, kind: Any, key: str) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return None if data is None else self.build(data, next(a for a in arguments if a is not type(None)), key)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(data, kind, key)
        if origin is dict and isinstance(data, dict):
            return {name: self.build(item, arguments[1], _join(key, name)) for name, item in data.items()}
        if origin in (list, tuple) and isinstance(data, list | tuple):
            if origin is tuple and arguments[-1] is not Ellipsis and len(data) != len(arguments):
                self._wrong(key, f"{len(arguments)} values are needed, not {len(data)}")
                return None
            items = [self.build(item, arguments[0], f"{key}[{i}]") for i, item in enumerate(data)]
            return items if origin is list else tuple(items)
        if origin is typing.Literal and data not in arguments:
            self._wrong(key, f"{data!r} is none of {', '.join(map(str, arguments))}")
            return None
        try:
            return msgspec.convert(data, kind, dec_hook=_decode_leaf)
        except (msgspec.ValidationError, ValueError, OverflowError) as error:
            self._wrong(key, str(error))
            return None

    def _struct(self, data: object, cls: type[msgspec.Struct], key: str) -> Any:
        if not isinstance(data, dict):
            said = "nothing" if data is None else type(data).__name__
            self._wrong(key, f"expected keys and values, got {said}")
            return None
        fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
        hints = typing.get_type_hints(cls, include_extras=True)
        before = len(self.problems)
        for name in data:
            if name not in fields:
                near = difflib.get_close_matches(str(name), fields, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(sorted(fields))})"
                self.problems.append((_join(key, name), f"{_prefix(key)}unknown key {name!r}{hint}"))
        values = {}
        for name, field in fields.items():
            if name in data:
                values[field.name] = self.build(data[name], hints[field.name], _join(key, name))
            elif field.required:
                self._wrong(key, f"key {name!r} is missing")
        if len(self.problems) > before:
            return None
        try:
            return cls(**values)
        except ValueError as error:
            # A line that is indented belongs to the one before it.
            for line in re.split(r"\n(?! )", str(error)):
                self.problems.append((_join(key, key_of(line)), f"{_prefix(key)}{line}"))
            return None


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _prefix(key: str) -> str:
    return f"{key}: " if key else ""
