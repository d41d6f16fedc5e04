"""The one reader of YAML files: UTF-8, YAML 1.2's scalars, every key once, and the line of each for messages.

PyYAML alone reads YAML 1.1 (`on` is true, `010` is 8, `1:30` is 90) and lets the last of two equal keys win. Here it
only makes the tree of nodes. Merge keys (`<<: *name`), which YAML 1.2 lacks, stay: faas-cli's files have them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from fave.errors import ConfigError
from fave.settings import ROOT, T, decode

_LONGEST_BYTES = 2**20
# Aliases can make a small file as large as one likes ("billion laughs"): values are counted as they are written out.
_MOST_VALUES = 100_000
_DEEPEST = 100
_OTHER_ENCODINGS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_TAG = "tag:yaml.org,2002:"
_STR, _MERGE = f"{_TAG}str", f"{_TAG}merge"
# The core schema of YAML 1.2 (10.3.2), in its order.
_CORE = (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?(?:\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
)
_LAST_PART = re.compile(r"(?:\[\d+\]|\.?[^.\[\]]+|.)\Z", re.DOTALL)


class _Loader(yaml.SafeLoader):
    """PyYAML's, with the core schema in place of YAML 1.1's."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}


for _name, _form, _first in _CORE:
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"(?:{_form})\Z"), _first)


class Document(msgspec.Struct, frozen=True):
    """What a file says: `data`, and the line of each key as messages write it (`loads.steady`, `regimes[0]`)."""

    where: str
    data: dict[str, Any]
    lines: Mapping[str, int]

    def place(self, key: str) -> str:
        """`file.yml:12`: where `key` stands, or the nearest key above it; the file alone for what it does not say."""
        while key and key not in self.lines:
            key = _LAST_PART.sub("", key)
        return f"{self.where}:{self.lines[key]}" if key else self.where


def load_yaml(path: Path, cls: type[T]) -> T:
    """Read `path` into `cls`.

    Raises
    ------
    ConfigError
        With every problem found, each with file, line and key.
    """
    document = read(path)
    return decode(document.data, cls, document.place)


def read(path: Path) -> Document:
    """A YAML file of keys and values.

    Raises
    ------
    ConfigError
        When it cannot be read, is no text in UTF-8 or no YAML, and with every key and value that is not allowed.
    """
    return parse(text_of(path), shown(path))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def text_of(path: Path) -> str:
    where = shown(path)
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    for mark, encoding in _OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise ConfigError(f"{where}: is {encoding}", hint="save it as UTF-8")
    if 0 in content:
        line = content[: content.index(0)].count(b"\n") + 1
        raise ConfigError(f"{where}:{line}: holds a NUL byte, so it is no text in UTF-8", hint="save it as UTF-8")
    if len(content) > _LONGEST_BYTES:
        raise ConfigError(f"{where}: is longer than {_LONGEST_BYTES} bytes, and so no configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{where}:{line}: byte 0x{content[error.start]:02x} is not UTF-8 (is it Latin-1?)", hint="save it as UTF-8"
        ) from error


def parse(text: str, where: str) -> Document:
    """The document in `text`; `where` names it in messages."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if mark else where
        raise ConfigError(f"{place}: not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigError(f"{where}:{line}: not YAML: {error.reason} (U+{error.character:04X})") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: is nested too deeply") from error
    if not isinstance(root, yaml.MappingNode):
        said = "is empty" if root is None else f"is {_kind(root)}"
        raise ConfigError(f"{where}: {said}; it should have keys and values (`key: value`)")
    converter = _Converter(where)
    data = converter.mapping(root, "")
    if converter.problems:
        raise ConfigError(converter.problems)
    return Document(where, data, converter.lines)


class _Stop(Exception):  # noqa: N818 - ends the conversion; what is wrong stands among the problems
    """Nothing more is worth saying."""


class _Converter:
    """From nodes to plain data. Goes on after a mistake, so that all of them are told."""

    def __init__(self, where: str) -> None:
        self.problems: list[str] = []
        self.lines: dict[str, int] = {}
        self._where = where
        self._values = 0
        self._open: list[yaml.Node] = []

    def mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Any]:
        try:
            found = self._value(node, key)
        except _Stop:
            return {}
        assert isinstance(found, dict)
        return found

    def _wrong(self, node: yaml.Node, key: str, text: str) -> None:
        head = f"{key}: " if key else ""
        problem = f"{self._where}:{node.start_mark.line + 1}: {head}{text}"
        # What stands behind an anchor is met wherever it is used.
        if problem not in self.problems:
            self.problems.append(problem)

    def _count(self, node: yaml.Node) -> None:
        self._values += 1
        if self._values > _MOST_VALUES:
            self._wrong(node, "", f"aliases make more than {_MOST_VALUES:,} values of this file")
            raise _Stop

    def _value(self, node: yaml.Node, key: str) -> Any:
        self._count(node)
        if node in self._open or len(self._open) == _DEEPEST:
            said = "holds itself" if node in self._open else f"is nested more than {_DEEPEST} deep"
            self._wrong(node, key, said)
            return None
        self._open.append(node)
        try:
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, key)
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
                return [self._item(each, f"{key}[{i}]") for i, each in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
                return self._pairs(node, key)
        finally:
            self._open.pop()
        self._wrong(node, key, f"{_kind(node)} with the tag {_tag(node)}, which is not supported")
        return None

    def _item(self, node: yaml.Node, key: str) -> Any:
        self.lines.setdefault(key, node.start_mark.line + 1)
        return self._value(node, key)

    def _pairs(self, node: yaml.MappingNode, key: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        first: dict[str, int] = {}
        merged: list[tuple[yaml.Node, yaml.Node]] = []
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            name = self._name(name_node, key)
            if name is None:
                continue
            inner = f"{key}.{name}" if key else name
            if name in first:
                self._wrong(name_node, inner, f"stands twice, first on line {first[name]}; keep one")
                continue
            first[name] = line
            if name_node.tag == _MERGE:
                merged = list(self._merged(value_node, inner))
                continue
            self.lines[inner] = line
            found[name] = self._value(value_node, inner)
        # Own keys come before merged ones, and of those the first.
        for name_node, value_node in merged:
            name = self._name(name_node, key)
            if name is not None and name not in found and name_node.tag != _MERGE:
                inner = f"{key}.{name}" if key else name
                self.lines[inner] = name_node.start_mark.line + 1
                found[name] = self._value(value_node, inner)
        return found

    def _merged(self, node: yaml.Node, key: str, depth: int = 0) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """The pairs that `<<` brings, those of inner merges after a mapping's own."""
        self._count(node)
        if depth > _DEEPEST:
            self._wrong(node, key, "merges itself")
        elif isinstance(node, yaml.MappingNode):
            yield from node.value
            for name_node, value_node in node.value:
                if name_node.tag == _MERGE:
                    yield from self._merged(value_node, key, depth + 1)
        elif isinstance(node, yaml.SequenceNode) and all(isinstance(each, yaml.MappingNode) for each in node.value):
            for each in node.value:
                yield from self._merged(each, key, depth + 1)
        else:
            self._wrong(node, key, "merges what has no keys")

    def _name(self, node: yaml.Node, key: str) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag in (_STR, _MERGE):
            return str(node.value)
        said = f"{node.value!r} is read as {_kind(node)}" if isinstance(node, yaml.ScalarNode) else _kind(node)
        self._wrong(node, key, f"a key must be text, {said}; write it in quotes")
        return None

    def _scalar(self, node: yaml.ScalarNode, key: str) -> Any:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        if node.tag == _STR or kind == "merge":
            return text
        # A tag that is written out (`!!int x`) has not been compared with the text.
        form = next((form for name, form, _ in _CORE if name == kind), None)
        if form is None or not re.fullmatch(form, text):
            self._wrong(node, key, f"{text!r} with the tag {_tag(node)}, which is not supported")
            return None
        if kind in ("null", "bool"):
            return None if kind == "null" else text.lower() == "true"
        if kind == "int" and re.match(r"[-+]?0[0-9]", text):
            decimal = text.lstrip("-+0") or "0"
            self._wrong(node, key, f"{text} begins with 0: write {decimal}, 0o… for octal, or '{text}' for text")
            return None
        try:
            value = int(text, 0) if kind == "int" else float(text)
        except ValueError:  # `.inf`, `.nan`; or more digits than Python turns into an integer
            value = math.inf
        if abs(value) > 1e300:
            self._wrong(node, key, f"{text[:40]} is no number that could be meant")
            return None
        return value


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        names = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false", "null": "nothing"}
        return names.get(node.tag.removeprefix(_TAG), "a value")
    return "a list" if isinstance(node, yaml.SequenceNode) else "keys and values"


def _tag(node: yaml.Node) -> str:
    return str(node.tag).replace(_TAG, "!!")
