"""Strict configuration: YAML into frozen msgspec structs, all errors at once, with suggestions.

regimes/burst-ready.yml: functions.orchestrator: unknown key 'max_replica' (did you mean 'max_replicas'?)
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fave.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)

ROOT = Path(__file__).resolve().parents[1]
NAME_PATTERN = re.compile(r"[a-z0-9-]{1,32}")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(float):
    """Seconds; written in YAML with a unit (`500ms`, `4s`, `15m`, `1h30m`)."""

    @classmethod
    def parse(cls, text: object) -> Duration:
        if isinstance(text, Duration):
            return text
        if not isinstance(text, str) or not re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
            raise ValueError(f"{text!r} is not a duration (write 500ms, 4s, 15m or 1h)")
        return cls(sum(float(value) * _UNIT_S[unit] for value, unit in _DURATION.findall(text)))

    def __str__(self) -> str:
        """Go's way of writing it, which OpenFaaS' labels and time-outs use: `4s`, `500ms`, `1.5s`."""
        return f"{round(self * 1000)}ms" if self < 1 else f"{float(self):g}s"


def load_yaml(path: Path, cls: type[T]) -> T:
    """Read `path` into `cls`.

    Raises
    ------
    ConfigError
        With every problem found, each with file and key.
    """
    import yaml  # 30 ms that no cold start needs: functions import this module for its durations

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    return decode(data, cls, str(_relative(path)))


def decode(data: object, cls: type[T], where: str) -> T:
    """Build `cls` from plain data; `where` names the source in messages."""
    problems: list[str] = []
    value = _build(data, cls, where, "", problems)
    if problems:
        raise ConfigError(problems)
    return typing.cast("T", value)


def to_plain(value: object) -> Any:
    """The value as JSON-ready data, durations as text, so that `decode` reads it back."""
    return msgspec.to_builtins(value, enc_hook=_encode)


def _relative(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _encode(value: object) -> object:
    if isinstance(value, Duration):
        return str(value)
    raise NotImplementedError(type(value))


def _decode_leaf(kind: type, value: object) -> object:
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError(kind)


def _build(data: object, kind: Any, where: str, key: str, problems: list[str]) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None
        kind = next(a for a in arguments if a is not type(None))
        return _build(data, kind, where, key, problems)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _build_struct(data, kind, where, key, problems)
    if origin is dict and isinstance(data, dict):
        return {name: _build(item, arguments[1], where, _join(key, name), problems) for name, item in data.items()}
    if origin in (list, tuple) and isinstance(data, list | tuple):
        items = [_build(item, arguments[0], where, f"{key}[{i}]", problems) for i, item in enumerate(data)]
        return items if origin is list else tuple(items)
    if origin is typing.Literal and data not in arguments:
        problems.append(f"{where}: {key}: {data!r} is none of {', '.join(map(str, arguments))}")
        return None
    try:
        return msgspec.convert(data, kind, dec_hook=_decode_leaf)
    except (msgspec.ValidationError, ValueError) as error:
        problems.append(f"{where}: {key}: {error}")
        return None


def _build_struct(data: object, cls: type[msgspec.Struct], where: str, key: str, problems: list[str]) -> Any:
    if not isinstance(data, dict):
        problems.append(f"{where}: {key or 'the file'}: expected keys and values, got {type(data).__name__}")
        return None
    fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
    hints = typing.get_type_hints(cls, include_extras=True)
    before = len(problems)
    for name in data:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(sorted(fields))})"
            problems.append(f"{where}: {_prefix(key)}unknown key {name!r}{hint}")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[field.name] = _build(data[name], hints[field.name], where, _join(key, name), problems)
        elif field.required:
            problems.append(f"{where}: {_prefix(key)}key {name!r} is missing")
    if len(problems) > before:
        return None
    try:
        return cls(**values)
    except ValueError as error:
        problems.extend(f"{where}: {_prefix(key)}{line}" for line in str(error).splitlines())
        return None


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _prefix(key: str) -> str:
    return f"{key}: " if key else ""
