"""A deployment as OpenFaaS describes it, and the scaling policy that its labels, limits and environment carry."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fave.environment import parse_seconds
from fave.errors import ConfigError
from fave.images import function_of, handler_of
from fave.settings import ROOT, Duration
from fave.wire.openfaas import DIRECTORY, HANDLER, INHERITS, LABEL, READY_PATH, READY_TIMEOUT, cores, memory_mb
from local.gateway.cgroups import Limits

# Neither `inf` nor `nan`, nor what only looks like a digit.
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")
NAME = re.compile(r"[-a-zA-Z_0-9.]+")
NAMESPACE = "openfaas-fn"
# Pro's `cpu`, `queue` and rules of an installation's own need what is not here.
_SCALING_TYPES = ("rps", "capacity")
# How often scaling is looked at where nothing else says when; and so the window of those that have none.
EVALUATED_S = 5.0
_ZERO_AFTER_S = 900.0
HOST_START_TIMEOUT_S = 120.0
_READY_HTTP_PATH = "com.openfaas.ready.http.path"
_NO_LIMIT = 1_000_000
# Of OpenFaaS' watchdogs: of-watchdog's modes, and the image with the classic one.
_FORKING_MODES, _FORKING_IMAGE = ("streaming", "serializing"), "alpine"
_NOT_INHERITED = ("FAVE_", "AWS_", "GATEWAY_")


class Deployment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """OpenFaaS' FunctionDeployment; keys that the embedded platform has no use for are accepted."""

    service: str
    image: str = ""
    namespace: str = NAMESPACE
    env_process: str = msgspec.field(name="envProcess", default="")
    env_vars: dict[str, str] = msgspec.field(name="envVars", default={})
    constraints: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    limits: dict[str, str] | None = None
    requests: dict[str, str] | None = None
    read_only_root_filesystem: bool = msgspec.field(name="readOnlyRootFilesystem", default=False)

    def identity(self) -> dict[str, Any]:
        """Everything but the scaling labels: replicas survive a change of the rest only if this stays the same."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        plain["labels"] = {k: v for k, v in self.labels.items() if not k.startswith(LABEL)}
        return plain


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How a function scales and what one replica may use. Defaults are OpenFaaS Pro's, but for max_in_flight.

    min_replicas: while there is load; from zero it comes back to them. zero_after_s: of no request at all, until there
    is no replica, whatever the minimum; None: never. window_s: a replica goes when so long it was neither used nor
    planned for. exec_timeout_s: 0 is none.
    """

    min_replicas: int = 1
    max_replicas: int = 20
    zero_after_s: float | None = None
    window_s: float = EVALUATED_S
    scaling_type: str = "rps"
    target: float = 50.0
    target_proportion: float = 0.9
    max_in_flight: int = 1
    max_waiting: int = 1000
    limits: Limits = Limits()
    exec_timeout_s: float = 300.0
    write_timeout_s: float = 300.0

    @property
    def load_per_replica(self) -> float:
        """What is planned for one replica: requests in flight (`capacity`) or per second (`rps`)."""
        return self.target * self.target_proportion

    @property
    def floor(self) -> int:
        """So many are there without any request."""
        return self.min_replicas if self.zero_after_s is None else 0


def policy_of(deployment: Deployment) -> Policy:
    """Read labels, limits and environment.

    Raises
    ------
    ConfigError
        With every value that cannot be read.
    """
    reader = _Reader()
    label = {k.removeprefix(LABEL): v for k, v in deployment.labels.items() if k.startswith(LABEL)}
    env = deployment.env_vars
    default = Policy()
    to_zero = reader.truth(label, "zero")
    zero_after_s = reader.duration(label, "zero-duration", _ZERO_AFTER_S)
    policy = Policy(
        # OpenFaaS' lowest: whether there may be none is another label's business.
        min_replicas=max(1, reader.integer(label, "min", default.min_replicas)),
        max_replicas=reader.integer(label, "max", default.max_replicas),
        zero_after_s=zero_after_s if to_zero else None,
        window_s=reader.duration(label, "down.window", 0.0) or default.window_s,
        scaling_type=label.get("type") or default.scaling_type,
        target=reader.number(label, "target", default.target),
        target_proportion=reader.number(label, "target-proportion", default.target_proportion),
        max_in_flight=reader.integer(env, "max_inflight", default.max_in_flight),
        max_waiting=reader.integer(env, "max_waiting", default.max_waiting),
        limits=reader.limits(deployment.limits or {}),
        exec_timeout_s=reader.duration(env, "exec_timeout", default.exec_timeout_s),
        write_timeout_s=reader.duration(env, "write_timeout", default.write_timeout_s),
    )
    if reader.integer(label, "min", 0) < 0 or policy.max_replicas < policy.min_replicas:
        reader.problems.append(f"{LABEL}min={label.get('min', '1')}, max={policy.max_replicas}: need 1 <= min <= max")
    if policy.target <= 0 or policy.target_proportion <= 0:
        reader.problems.append(f"{LABEL}target, target-proportion: must be over 0")
    if policy.scaling_type not in _SCALING_TYPES:
        reader.problems.append(f"{LABEL}type={policy.scaling_type!r}: only {', '.join(_SCALING_TYPES)} here")
    if policy.max_in_flight < 0 or (policy.max_in_flight == 0 and not deployment.env_process):
        reader.problems.append(f"max_inflight={policy.max_in_flight}: must be at least 1, or 0 for none of a command")
    if policy.exec_timeout_s == 0 and not deployment.env_process:
        reader.problems.append("exec_timeout=0: only a command may have none")
    if not NAME.fullmatch(deployment.service) or deployment.service.endswith(f".{NAMESPACE}"):
        what = f"service {deployment.service!r} must match {NAME.pattern}, and not end in .{NAMESPACE}"
        reader.problems.append(what)
    if deployment.namespace not in ("", NAMESPACE):
        reader.problems.append(f"namespace {deployment.namespace!r}: there is only {NAMESPACE}")
    if reader.problems:
        raise ConfigError(reader.problems)
    return msgspec.structs.replace(policy, max_in_flight=policy.max_in_flight or _NO_LIMIT)


class Program(NamedTuple):
    """What a replica runs.

    hosted: by FAVE's function host, which stamps what it does; else anybody's server. trusted: code of this checkout,
    which gets the object store's address and keys. ready_path: where a server says that it is ready; empty: when its
    port accepts connections.
    """

    command: list[str]
    hosted: bool
    folder: Path
    ready_path: str
    ready_timeout_s: float
    inherits: tuple[str, ...] = ()
    trusted: bool = False

    def on(self, port: int) -> list[str]:
        return self.command if self.hosted else [word.replace("{port}", str(port)) for word in self.command]


def program_of(deployment: Deployment, root: Path = ROOT) -> Program:
    """`envProcess` where it is given, else the function host with a handler: the one that is named, or the image's.

    An image `[registry/]NAME[:tag]` stands for the handler of the same name in this checkout
    (`stage-x` → `functions/stage_x/handler.py`). A command is a server, unless it is to be run for each request: in a
    forking `mode` of OpenFaaS' watchdog, or with the image whose watchdog knows no other.

    Raises
    ------
    ConfigError
        For an image that this checkout has no handler for, and for what cannot be run.
    """
    say, noted = deployment.service, deployment.annotations
    inherits = tuple(filter(None, noted.get(INHERITS, "").split(",")))
    wrong = [name for name in inherits if name.startswith(_NOT_INHERITED)]
    if wrong:
        raise ConfigError(f"{say}: {INHERITS} {wrong[0]}: the platform's own variables are no function's business")
    command = _words(deployment, "envProcess", deployment.env_process or deployment.env_vars.get("fprocess", ""))
    if not command:
        module = noted.get(HANDLER) or _handler_of(deployment, root)
        return Program(_host(module), True, root, "", HOST_START_TIMEOUT_S, inherits, trusted=True)
    folder = Path(noted.get(DIRECTORY, "/"))
    if not folder.is_dir():
        raise ConfigError(f"{say}: {DIRECTORY} {folder}: there is no such folder")
    if deployment.env_vars.get("mode") in _FORKING_MODES or function_of(deployment.image) == _FORKING_IMAGE:
        return Program(_host("functions.host.forking"), True, folder, "", HOST_START_TIMEOUT_S, inherits)
    ready = noted.get(READY_PATH) or noted.get(_READY_HTTP_PATH, "tcp")
    try:
        timeout_s = parse_seconds(noted.get(READY_TIMEOUT, "120"))
    except ValueError as error:
        raise ConfigError(f"{say}: {READY_TIMEOUT}: {error}") from error
    return Program(command, False, folder, "" if ready == "tcp" else ready, timeout_s, inherits)


def _host(module: str) -> list[str]:
    return [sys.executable, "-m", "functions.host", module]


def _words(deployment: Deployment, name: str, text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{deployment.service}: {name}: {error}") from error
    if text and not words:
        raise ConfigError(f"{deployment.service}: {name} {text!r} is no command")
    return words


def _handler_of(deployment: Deployment, root: Path) -> str:
    module = handler_of(function_of(deployment.image))
    if not re.fullmatch(r"[\w.]+", module) or not (root / f"{module.replace('.', '/')}.py").exists():
        raise ConfigError(
            f"{deployment.service}: no handler here for image {deployment.image!r}",
            hint="name an image after a folder of functions/, or set envProcess to a command",
        )
    return module


class _Reader:
    def __init__(self) -> None:
        self.problems: list[str] = []

    def integer(self, source: dict[str, str], key: str, default: int) -> int:
        value = self.number(source, key, default)
        if value != int(value):
            self.problems.append(f"{key}={source[key]!r} is not a whole number")
        return int(value)

    def number(self, source: dict[str, str], key: str, default: float) -> float:
        text = source.get(key, "")
        if _NUMBER.fullmatch(text):
            return float(text)
        if text:
            self.problems.append(f"{key}={text!r} is not a number")
        return default

    def truth(self, source: dict[str, str], key: str) -> bool:
        text = source.get(key, "").lower()
        if text not in ("", "true", "false", "1", "0"):
            self.problems.append(f"{key}={text!r} is neither true nor false")
        return text in ("true", "1")

    def duration(self, source: dict[str, str], key: str, default: float) -> float:
        text = source.get(key, "")
        if text.startswith("-"):
            self.problems.append(f"{key}={text!r} must not be below 0")
            return default
        if _NUMBER.fullmatch(text):  # of-watchdog accepts plain seconds
            return float(text)
        try:
            return float(Duration.parse(text)) if text else default
        except ValueError as error:
            self.problems.append(f"{key}: {error}")
            return default

    def limits(self, given: dict[str, str]) -> Limits:
        return Limits(
            memory_mb=int(self._quantity("memory", memory_mb, given)), cpu_cores=self._quantity("cpu", cores, given)
        )

    def _quantity(self, name: str, read: Callable[[str], float], given: dict[str, str]) -> float:
        try:
            return read(given.get(name, ""))
        except ValueError as error:
            self.problems.append(f"limits.{name}={error}")
            return 0
