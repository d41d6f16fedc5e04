"""From a workload's requests to what is sent for arrival k, and whether the answer is right."""

from __future__ import annotations

import mimetypes
import random
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from fave.errors import ConfigError
from workloads.model import Expect, Request, Workload

# What every text of a request may name, beside the request's variables.
OF_ARRIVAL = ("k", "request_id", "seed")
OF_RUN = ("regime", "function", "bucket")
_FIELD = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_JSON, _TEXT = "application/json", "text/plain; charset=utf-8"
_SHOWN = 200


class Sent(NamedTuple):
    """One request, as it leaves. request: its name in the workload."""

    request: str
    function: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Asking:
    """What a target's arrivals ask. The same k asks the same in every regime, for the same seed."""

    def __init__(
        self,
        workload: Workload,
        target: str,
        *,
        seed: int = 0,
        regime: str = "",
        bucket: str = "",
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        """variables: instead of those of the requests.

        Raises
        ------
        ConfigError
            With every request, variable, field or file that is not there.
        """
        asked = workload.asked(target)
        given = dict(variables or {})
        known = {name for request in asked.values() for name in request.variables}
        problems = [
            f"variables: {name!r} is none of the request's ({', '.join(sorted(known)) or 'it has none'})"
            for name in sorted(given.keys() - known)
        ]
        self._seed = seed
        self._names = list(asked)
        self._weights = [request.weight or 1 for request in asked.values()]
        self._prepared: dict[str, _Prepared] = {}
        for name, request in asked.items():
            own = {"regime": regime, "function": request.function, "bucket": bucket}
            mine = {key: value for key, value in given.items() if key in request.variables}
            try:
                self._prepared[name] = _Prepared(workload, request, own, mine)
            except ConfigError as error:
                problems += [f"requests.{name}: {line}" for line in error.problems]
        if problems:
            raise ConfigError(problems)

    def for_arrival(self, k: int, request_id: str) -> Sent:
        chance = random.Random(f"{self._seed}/{k}") if self._drawn else None
        name = self._names[0]
        if chance and self._names[1:]:
            name = chance.choices(self._names, self._weights)[0]
        return self._prepared[name].sent(name, {"k": k, "request_id": request_id, "seed": self._seed}, chance)

    def each(self, request_id: str) -> list[Sent]:
        """Every request once, with the first of its bodies."""
        fields = {"k": 0, "request_id": request_id, "seed": self._seed}
        return [each.sent(name, fields, None) for name, each in self._prepared.items()]

    def wrong(self, request: str, status: int, content: bytes) -> str:
        """What is wrong with an answer, in words; empty where it is right."""
        return self._prepared[request].wrong(status, content)

    @property
    def functions(self) -> tuple[str, ...]:
        """Those that arrivals call."""
        return tuple(dict.fromkeys(each.function for each in self._prepared.values()))

    @property
    def _drawn(self) -> bool:
        return len(self._names) > 1 or any(each.several for each in self._prepared.values())


class _Prepared:
    """A request whose fields of the run are filled in: those of the arrival are left."""

    def __init__(self, workload: Workload, request: Request, own: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self.function = request.function
        self._method = request.method
        fields: dict[str, Any] = {name: _Left(name) for name in OF_ARRIVAL} | dict(own)
        problems: list[str] = []
        for name, value in {**request.variables, **given}.items():
            fields[name] = _filled(value, fields, f"variables.{name}", problems)
        # In an address values are quoted: `a b` and `&` would change what is asked.
        quoted = {
            name: value if isinstance(value, _Left) else quote(_text(value), safe="{}")
            for name, value in fields.items()
        }
        self._path = _filled(request.path, quoted, "path", problems)
        if not re.fullmatch(r"[!-~]*", str(self._path)):
            problems.append(f"path: {str(self._path)!r}: only printable ASCII without blanks; others as %20, %C3%A9")
        self._headers = {
            name: _filled(value, fields, f"headers.{name}", problems) for name, value in request.headers.items()
        }
        self._bodies: list[_Body] = []
        for body in _several(workload, request, problems):
            self._bodies.append(_body_of(workload, body, fields, problems))
        self._wrong = _judge(request.expect)
        if problems:
            raise ConfigError(problems)

    @property
    def several(self) -> bool:
        return len(self._bodies) > 1

    def sent(self, name: str, fields: Mapping[str, Any], chance: random.Random | None) -> Sent:
        body = chance.choice(self._bodies) if chance and self.several else self._bodies[0]
        headers = {"Content-Type": body.kind} if body.kind else {}
        headers |= {key: str(_complete(value, fields)) for key, value in self._headers.items()}
        path = str(_complete(self._path, fields))
        return Sent(name, self.function, self._method, path, headers, body.bytes_for(fields))

    def wrong(self, status: int, content: bytes) -> str:
        return self._wrong(status, content)


class _Left:
    """A field that only an arrival fills."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"{{{self.name}}}"


class _Body(NamedTuple):
    """kind: its content type. fixed: the same for all arrivals."""

    kind: str
    value: Any
    fixed: bytes | None

    def bytes_for(self, fields: Mapping[str, Any]) -> bytes:
        if self.fixed is not None:
            return self.fixed
        filled = _complete(self.value, fields)
        return str(filled).encode() if self.kind == _TEXT else msgspec.json.encode(filled)


def _several(workload: Workload, request: Request, problems: list[str]) -> tuple[Any, ...]:
    """The bodies to draw from. `@FOLDER` stands for its files."""
    if not request.bodies:
        return (request.body,)
    found: list[Any] = []
    for body in request.bodies:
        path = workload.path_of(body[1:]) if isinstance(body, str) and body.startswith("@") else None
        if path is not None and path.is_dir():
            files = sorted(each for each in path.iterdir() if each.is_file())
            if not files:
                problems.append(f"bodies: {path} has no file")
            found += [f"@{each}" for each in files]
        else:
            found.append(body)
    return tuple(found)


def _body_of(workload: Workload, body: Any, fields: Mapping[str, Any], problems: list[str]) -> _Body:
    if isinstance(body, str) and body.startswith("@"):
        path = workload.path_of(body[1:])
        try:
            return _Body(mimetypes.guess_type(path.name)[0] or "application/octet-stream", None, path.read_bytes())
        except OSError as error:
            problems.append(f"body: {path}: {error.strerror}")
            return _Body("", None, b"")
    if body in ("", None):
        return _Body("", None, b"")
    value = _filled(body, fields, "body", problems)
    kind = _TEXT if isinstance(value, str | _Left) else _JSON
    plain = _Body(kind, value, None)
    return plain if _has_left(value) else plain._replace(fixed=plain.bytes_for({}))


def _filled(value: Any, fields: Mapping[str, Any], where: str, problems: list[str]) -> Any:
    """Fields of the run in place of their names. A text that is nothing but one name becomes that field's value."""
    if isinstance(value, dict):
        problems += [f"{where}: {key!r}: a key holds no fields" for key in value if _FIELD.search(str(key))]
        return {key: _filled(item, fields, where, problems) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, fields, where, problems) for item in value]
    if not isinstance(value, str):
        return value
    unknown = [name for name in _FIELD.findall(value) if name not in fields]
    if unknown:
        problems.append(f"{where}: no field is called {unknown[0]!r} (there are: {', '.join(sorted(fields))})")
        return value
    whole = _FIELD.fullmatch(value)
    if whole:
        return fields[whole[1]]
    return _FIELD.sub(lambda match: _text(fields[match[1]]), value)


def _text(value: Any) -> str:
    """Of a value within a text; lists and objects as JSON, with what an arrival fills left in it."""
    if isinstance(value, dict | list | tuple):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return str(value)


def _complete(value: Any, fields: Mapping[str, Any]) -> Any:
    """An arrival's fields in place of what was left of them."""
    if isinstance(value, _Left):
        return fields[value.name]
    if isinstance(value, dict):
        return {key: _complete(item, fields) for key, item in value.items()}
    if isinstance(value, list):
        return [_complete(item, fields) for item in value]
    if isinstance(value, str):
        return _FIELD.sub(lambda match: str(fields[match[1]]) if match[1] in fields else match[0], value)
    return value


def _has_left(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_left, value.values()))
    if isinstance(value, list):
        return any(map(_has_left, value))
    return isinstance(value, _Left) or (isinstance(value, str) and any(n in OF_ARRIVAL for n in _FIELD.findall(value)))


def _judge(expect: Expect) -> Callable[[int, bytes], str]:
    text = re.compile(expect.text) if expect.text else None

    def wrong(status: int, content: bytes) -> str:
        if status != expect.status if expect.status else not 200 <= status < 300:
            return f"{status}: {_shown(content)}"
        if text and not text.search(content.decode(errors="replace")):
            return f"wrong answer: {expect.text!r} is not in it: {_shown(content)}"
        if not expect.json:
            return ""
        try:
            document = msgspec.json.decode(content)
        except msgspec.DecodeError:
            return f"wrong answer: no JSON: {_shown(content)}"
        for pointer, value in expect.json.items():
            found = _at(document, pointer)
            if found != value:
                return f"wrong answer: {pointer} is {_shown(msgspec.json.encode(found))}, expected {value!r}"
        return ""

    return wrong


def _at(document: Any, pointer: str) -> Any:
    """RFC 6901; None where there is nothing."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, list):
            document = document[int(key)] if key.isdigit() and int(key) < len(document) else None
        else:
            document = document.get(key) if isinstance(document, dict) else None
    return document


def _shown(content: bytes) -> str:
    return content[:_SHOWN].decode(errors="replace")
