"""A workload: which functions are measured, what they are asked, and which answers are right. YAML in, a value out."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from fave import yaml_file
from fave.environment import without_home
from fave.errors import ConfigError
from fave.images import FUSED, handler_of, image_of, package_of
from fave.settings import NAME_PATTERN, ROOT, Duration, decode, to_plain
from workloads.graph import Graph

FOLDER = Path(__file__).parent
# The one that FAVE ships.
SHIPPED = "videosearcher"
# OpenFaaS' own rule for names of functions.
_FUNCTION = re.compile(r"[-a-zA-Z0-9_.]{1,63}")
_PRIVATE = ("KEY", "SECRET", "PASSWORD", "TOKEN")


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """When a new replica may be sent to: once `path` answers 200; without a path once its port accepts connections."""

    path: str = ""
    timeout: Duration = Duration(120)

    def __post_init__(self) -> None:
        if self.path and not self.path.startswith("/"):
            raise ValueError(f"path: {self.path!r} must begin with /")
        if self.timeout <= 0:
            raise ValueError("timeout: must be longer than 0")


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """One function, and what one replica of it may use. How it scales is a regime's business.

    handler: a module for FAVE's function host. command: any program that serves HTTP, in `directory`; `{port}` is
    filled in, and stands in its environment as `port`. image: what a cluster runs. environment: all that a command
    gets, beside PATH, HOME and where it may write. inherits: variables of whoever starts the embedded platform that it
    gets. secrets: by name; as files in the folder that `secret_mount_path` names.
    """

    handler: str = ""
    command: str = ""
    image: str = ""
    directory: str = "."
    environment: dict[str, str] = {}
    inherits: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    ready: Ready = Ready()
    memory_limit_mb: int = 256
    max_in_flight: int = 1
    exec_timeout: Duration = Duration(300)

    def __post_init__(self) -> None:
        problems = []
        if self.handler and self.command:
            problems.append("command: a function has a handler or a command, not both")
        problems += [
            f"{name}: {value} must be over 0"
            for name, value in (
                ("memory_limit_mb", self.memory_limit_mb),
                ("max_in_flight", self.max_in_flight),
                ("exec_timeout", self.exec_timeout),
            )
            if value <= 0
        ]
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def hosted(self) -> bool:
        """By FAVE's function host, which stamps what it does and may reach the object store."""
        return bool(self.handler)


class Expect(msgspec.Struct, frozen=True, kw_only=True):
    """What a right answer is. status: 0 is any of 2xx. json: by JSON pointer, the value. text: a regular
    expression that the body must hold somewhere.
    """

    status: int = 0
    json: dict[str, Any] = {}
    text: str = ""

    def __post_init__(self) -> None:
        problems = [
            f"json: {pointer!r} is no JSON pointer: it begins with /"
            for pointer in self.json
            if pointer[:1] not in ("", "/")
        ]
        if self.status and not 100 <= self.status <= 599:
            problems.append(f"status: {self.status} is no HTTP status")
        try:
            re.compile(self.text)
        except re.error as error:
            problems.append(f"text: {self.text!r} is no regular expression: {error}")
        if problems:
            raise ValueError("\n".join(problems))


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What an arrival asks. Text in path, headers and body may hold `{k}`, `{request_id}`, `{seed}`, `{regime}`,
    `{function}`, `{bucket}` and the names of variables.

    body: text, or keys and values or a list, which are sent as JSON; `@FILE` is sent as it is. bodies: several of them,
    of which the seed draws one for each arrival, the same in all regimes. weight: its share where requests are a
    mix; with 0 it is asked by its name only. variables: a load may set them otherwise.
    """

    function: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "POST"
    path: str = ""
    headers: dict[str, str] = {}
    body: Any = ""
    bodies: tuple[Any, ...] = ()
    variables: dict[str, Any] = {}
    weight: float = 1.0
    expect: Expect = Expect()

    def __post_init__(self) -> None:
        problems = []
        if self.body and self.bodies:
            problems.append("bodies: a request has one body or several to draw from, not both")
        if self.path and not self.path.startswith("/"):
            problems.append(f"path: {self.path!r} must begin with /")
        if self.weight < 0:
            problems.append(f"weight: {self.weight:g} must not be below 0")
        if problems:
            raise ValueError("\n".join(problems))


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """graph: where one of the functions calls the others. assets: FAVE's models and samples must be there. uploads: by
    key in the object store, a file of this machine. deploy: false measures what is deployed already.

    folder: what paths are relative to; the file's own.
    """

    description: str
    functions: dict[str, Function]
    requests: dict[str, Request]
    graph: Graph | None = None
    assets: bool = False
    uploads: dict[str, str] = {}
    deploy: bool = True
    folder: str = ""

    def __post_init__(self) -> None:
        problems = [
            f"functions: {name!r} must match {_FUNCTION.pattern}"
            for name in self.functions
            if not _FUNCTION.fullmatch(name)
        ]
        problems += [
            f"requests: {name!r} must match {NAME_PATTERN.pattern}"
            for name in self.requests
            if not NAME_PATTERN.fullmatch(name)
        ]
        problems += [f"{name}: at least one" for name in ("functions", "requests") if not getattr(self, name)]
        problems += [
            f"requests.{name}.function: {each.function!r} is none of {', '.join(self.functions)}"
            for name, each in self.requests.items()
            if each.function not in self.functions
        ]
        if self.deploy:
            problems += [
                f"functions.{name}: needs a handler, a command or an image; `deploy: false` takes what is deployed"
                for name, each in self.functions.items()
                if not (each.handler or each.command or each.image)
            ]
        if not any(each.weight for each in self.requests.values()):
            problems.append("requests: at least one with a weight over 0")
        for name in (self.graph.director, *self.graph.functions) if self.graph else ():
            if name not in self.functions:
                problems.append(f"graph: {name!r} is none of {', '.join(self.functions)}")
        if problems:
            raise ValueError("\n".join(problems))

    def composed(self, parts: Mapping[str, tuple[str, ...]]) -> Workload:
        """With some stages of the graph as one function each, instead of themselves. What is said of that function is
        left as it is; else it may use what its stages may together.

        Raises
        ------
        ConfigError
            For parts that cannot be.
        """
        if self.graph is None:
            raise ConfigError("the workload has no graph whose stages could run as one function")
        if self.graph.parts:
            raise ConfigError("the workload says itself which stages are one function", hint="leave out its `parts`")
        try:
            graph = self.graph.with_parts(parts)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        problems = [problem for part, stages in parts.items() for problem in self._wrong_part(part, stages)]
        if problems:
            raise ConfigError(problems)
        inside = {stage for stages in parts.values() for stage in stages}
        functions = {name: each for name, each in self.functions.items() if name not in inside}
        made = {name: self.functions.get(name) or self._together(stages) for name, stages in parts.items()}
        requests = {name: each for name, each in self.requests.items() if each.function not in inside}
        return msgspec.structs.replace(self, graph=graph, functions=functions | made, requests=requests)

    def _wrong_part(self, part: str, stages: Iterable[str]) -> Iterable[str]:
        values: dict[str, set[str]] = {}
        for stage in stages:
            if self.functions[stage].handler != handler_of(stage):
                yield f"parts.{part}: {stage!r} is no stage of FAVE's own: only those run in one process"
            for name, value in self.functions[stage].environment.items():
                values.setdefault(name, set()).add(value)
        for name, different in values.items():
            if len(different) > 1:
                yield f"parts.{part}: its stages have different values of {name}, one process has one"

    def _together(self, stages: Iterable[str]) -> Function:
        each = [self.functions[stage] for stage in stages]
        return Function(
            handler=handler_of(FUSED),
            environment={name: value for one in each for name, value in one.environment.items()},
            inherits=tuple(dict.fromkeys(name for one in each for name in one.inherits)),
            secrets=tuple(dict.fromkeys(name for one in each for name in one.secrets)),
            memory_limit_mb=sum(one.memory_limit_mb for one in each),
            max_in_flight=min(one.max_in_flight for one in each),
            exec_timeout=Duration(sum(one.exec_timeout for one in each)),
        )

    def image_of(self, name: str) -> str:
        fused = self.graph is not None and name in self.graph.parts
        return self.functions[name].image or image_of(FUSED if fused else name)

    def asked(self, target: str) -> dict[str, Request]:
        """The requests that a target stands for: the one of that name, or all that have a weight, as a mix.

        Raises
        ------
        ConfigError
            For a name that is none.
        """
        if target and target not in self.requests:
            raise ConfigError(f"target: {target!r} is none of the requests {', '.join(self.requests)}")
        return {name: each for name, each in self.requests.items() if (name == target if target else each.weight)}

    def directs(self, function: str) -> bool:
        return self.graph is not None and function == self.graph.director

    def directed(self, target: str) -> bool:
        """Whether the target's one request is answered by the director of the graph."""
        asked = list(self.asked(target).values())
        return len(asked) == 1 and self.directs(asked[0].function)

    def functions_of(self, target: str) -> dict[str, Function]:
        """What must be deployed for a target: what it asks, and all that a director calls."""
        names: list[str] = []
        for request in self.asked(target).values():
            names.append(request.function)
            if self.graph and self.directs(request.function):
                names += self.graph.functions
        return self.some(dict.fromkeys(names))

    def some(self, names: Iterable[str]) -> dict[str, Function]:
        return {name: self.functions[name] for name in names}

    def path_of(self, name: str) -> Path:
        """A path of the file, wherever that lies."""
        return Path(self.folder) / os.path.expanduser(name)


def names() -> list[str]:
    """Of the workloads that are shipped."""
    return sorted(path.stem for path in FOLDER.glob("*.yml"))


def load(name: str) -> Workload:
    """`workloads/{name}.yml`, or the file itself when `name` ends in .yml or .yaml; a folder's workload.yml.

    Raises
    ------
    ConfigError
        With every mistake in it; for an unknown name with those that there are.
    """
    is_file = name.endswith((".yml", ".yaml"))
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        is_file, path = True, path / "workload.yml"
    elif not is_file:
        path = FOLDER / f"{name}.yml"
    if not path.is_file():
        what = f"{name}: there is no such file" if is_file else f"unknown workload {name!r}"
        raise ConfigError(what, hint=f"there are: {', '.join(names())}; or give a .yml file")
    return _loaded(path.resolve(), path.stat().st_mtime_ns)


class Parts(msgspec.Struct, frozen=True):
    """Of a graph; taken apart from it, because they say which functions a workload has."""

    parts: dict[str, tuple[str, ...]]


@functools.lru_cache(maxsize=32)
def _loaded(path: Path, _changed_ns: int) -> Workload:
    document = yaml_file.read(path)
    data = _with_stages(document.data)
    graph = data["graph"] if isinstance(data.get("graph"), dict) else {}
    parts = graph.get("parts")
    if parts is not None:
        data |= {"graph": {name: each for name, each in graph.items() if name != "parts"}}
    work = decode({**data, "folder": str(path.parent)}, Workload, document.place)
    return work.composed(decode({"parts": parts}, Parts, document.place).parts) if parts is not None else work


def _with_stages(data: dict[str, Any]) -> dict[str, Any]:
    """A node's function that is not described, or not how it runs, is the stage of FAVE's own of that name."""
    functions, graph = data.get("functions"), data.get("graph")
    nodes = graph.get("nodes") if isinstance(graph, dict) else None
    if not isinstance(functions, dict) or not isinstance(nodes, list):
        return data
    names = [node.get("function") for node in nodes if isinstance(node, dict)]
    parts = data["graph"].get("parts")
    stages: dict[str, Any] = {}
    for name in parts if isinstance(parts, dict) else ():
        if isinstance(functions.get(name), dict):
            stages[name] = {"handler": handler_of(FUSED), **functions[name]}
    for name in dict.fromkeys(name for name in names if isinstance(name, str)):
        said = functions.get(name, {})
        known = not isinstance(said, dict) or {"handler", "command", "image"} & said.keys()
        if not known and (ROOT / package_of(name) / "handler.py").is_file():
            stages[name] = {"handler": handler_of(name), **said}
    others = {name: said for name, said in functions.items() if name not in stages}
    return {**data, "functions": others | stages}


def shipped() -> Workload:
    return load(SHIPPED)


class Asked(msgspec.Struct, frozen=True):
    """Which function a request calls, its share of a mix, and what it asks for."""

    function: str
    weight: float = 1.0
    variables: dict[str, Any] = {}


class Recorded(msgspec.Struct, frozen=True):
    """A workload that was measured, as far as a report is about it."""

    requests: dict[str, Asked]
    graph: Graph | None = None

    def entries_of(self, target: str) -> tuple[str, ...]:
        """The functions that a target's arrivals call. Campaigns of earlier versions name the function itself."""
        if target and target not in self.requests:
            return (target,)
        asked = [target] if target else [name for name, each in self.requests.items() if each.weight]
        return tuple(dict.fromkeys(self.requests[name].function for name in asked))


def recorded(plain: dict[str, Any]) -> Recorded:
    """From campaign.json. Campaigns of before had none: they are all about the shipped one. Raises ValueError."""
    return msgspec.convert(plain or of_record(shipped()), Recorded)


def of_record(workload: Workload) -> dict[str, Any]:
    """As campaigns keep it: what was asked by its digest, no folder of this machine, no value of a private variable.

    Of files it is their content's: another one is another workload.
    """
    plain: dict[str, Any] = to_plain(workload)
    del plain["folder"]
    plain["uploads"] = {key: _digest_of(workload, f"@{name}") for key, name in workload.uploads.items()}
    for request in plain["requests"].values():
        said = " ".join([*request["headers"].values(), request["path"]])
        request["body"] = _digest_of(workload, request["body"])
        request["bodies"] = [_digest_of(workload, body) for body in request["bodies"]]
        request["headers"] = {name: _digest(value) for name, value in request["headers"].items()}
        path, mark, query = request["path"].partition("?")
        request["path"] = path + mark + _digest(query)
        for name, value in request["variables"].items():
            if is_private(name) or f"{{{name}}}" in said:
                request["variables"][name] = _digest(value)
    for function in plain["functions"].values():
        for name, value in function["environment"].items():
            if is_private(name):
                function["environment"][name] = _digest(value)
    if plain["graph"] and not plain["graph"]["parts"]:
        # As campaigns of before have it, so that they can be gone on with.
        del plain["graph"]["parts"]
        sources = [source for node in plain["graph"]["nodes"] for source in node["inputs"]]
        for source in [*sources, *filter(None, [plain["graph"]["items"]])]:
            del source["stage"]
    # As it is read back: lists, no tuples.
    return dict(msgspec.json.decode(msgspec.json.encode(without_home(plain))))


def is_private(name: str) -> bool:
    """Whether a variable's name says that its value is nobody's business."""
    return any(word in name.upper() for word in _PRIVATE)


def _digest_of(workload: Workload, body: object) -> str:
    """Of a body as it would be sent; of a folder of bodies of all its files."""
    if not (isinstance(body, str) and body.startswith("@")):
        return _digest(body)
    path = workload.path_of(body[1:])
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    try:
        return _digest([hashlib.sha256(each.read_bytes()).hexdigest() for each in files])
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _digest(value: object) -> str:
    return f"sha256:{hashlib.sha256(msgspec.json.encode(value, order='deterministic')).hexdigest()}" if value else ""
