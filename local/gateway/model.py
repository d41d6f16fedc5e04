"""A deployment as OpenFaaS describes it, and the scaling policy that its labels, limits and environment carry."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec

from fave.errors import ConfigError
from fave.settings import ROOT, Duration

NAME = re.compile(r"[-a-zA-Z_0-9.]+")
NAMESPACE = "openfaas-fn"
LABEL = "com.openfaas.scale."
# rps is OpenFaaS' default and stands for: start what waiting requests need, nothing planned ahead.
_SCALING_TYPES = ("rps", "capacity")


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
    """How a function scales and what one replica may use. Defaults are OpenFaaS Pro's, but for max_in_flight."""

    min_replicas: int = 1
    max_replicas: int = 20
    scale_to_zero: bool = True
    idle_timeout_s: float = 900.0
    scaling_type: str = "rps"
    target_in_flight: float = 50.0
    target_proportion: float = 0.9
    max_in_flight: int = 1
    max_waiting: int = 1000
    memory_limit_mb: int = 0
    exec_timeout_s: float = 300.0
    write_timeout_s: float = 300.0

    @property
    def planned_per_replica(self) -> float:
        """Load that OpenFaaS' `capacity` plans for one replica; 0 where nothing is planned ahead."""
        return self.target_in_flight * self.target_proportion if self.scaling_type == "capacity" else 0.0

    @property
    def keep_alive_floor(self) -> int:
        """The number of replicas that idle timeouts leave alone."""
        return self.min_replicas if self.scale_to_zero else max(1, self.min_replicas)


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
    policy = Policy(
        min_replicas=reader.integer(label, "min", default.min_replicas),
        max_replicas=reader.integer(label, "max", default.max_replicas),
        scale_to_zero=label.get("zero", "true").lower() != "false",
        idle_timeout_s=reader.duration(label, "zero-duration", default.idle_timeout_s),
        scaling_type=label.get("type", default.scaling_type),
        target_in_flight=reader.number(label, "target", default.target_in_flight),
        target_proportion=reader.number(label, "target-proportion", default.target_proportion),
        max_in_flight=reader.integer(env, "max_inflight", default.max_in_flight),
        max_waiting=reader.integer(env, "max_waiting", default.max_waiting),
        memory_limit_mb=reader.memory_mb((deployment.limits or {}).get("memory", "")),
        exec_timeout_s=reader.duration(env, "exec_timeout", default.exec_timeout_s),
        write_timeout_s=reader.duration(env, "write_timeout", default.write_timeout_s),
    )
    if policy.max_replicas < max(1, policy.min_replicas) or policy.min_replicas < 0:
        reader.problems.append(
            f"{LABEL}min={policy.min_replicas}, max={policy.max_replicas}: need 0 <= min <= max, max >= 1"
        )
    if policy.target_in_flight <= 0 or policy.target_proportion <= 0:
        reader.problems.append(f"{LABEL}target, target-proportion: must be over 0")
    if policy.scaling_type not in _SCALING_TYPES:
        reader.problems.append(f"{LABEL}type={policy.scaling_type!r}: only {', '.join(_SCALING_TYPES)} here")
    if policy.max_in_flight < 1:
        reader.problems.append(f"max_inflight={policy.max_in_flight}: must be at least 1")
    if not NAME.fullmatch(deployment.service):
        reader.problems.append(f"service {deployment.service!r} must match {NAME.pattern}")
    if reader.problems:
        raise ConfigError(reader.problems)
    return policy


def command_of(deployment: Deployment, root: Path = ROOT) -> list[str]:
    """What a replica runs: `envProcess` where it is given, else the function host with the image's handler.

    An image `[registry/]NAME[:tag]` stands for the handler of the same name in this checkout
    (`stage-librosa` → `functions/stage_librosa/handler.py`).

    Raises
    ------
    ConfigError
        For an image that this checkout has no handler for.
    """
    if deployment.env_process:
        command = shlex.split(deployment.env_process)
        return [sys.executable, *command[1:]] if command[0] in ("python", "python3") else command
    name = deployment.image.rsplit("/", 1)[-1].split(":")[0].split("@")[0].removeprefix("fave-")
    folder = name.replace("-", "_")
    module = "orchestrator.handler" if folder == "orchestrator" else f"functions.{folder}.handler"
    if not re.fullmatch(r"\w+", folder) or not (root / f"{module.replace('.', '/')}.py").exists():
        raise ConfigError(
            f"{deployment.service}: no handler here for image {deployment.image!r}",
            hint="name an image after a folder of functions/, or set envProcess to a command",
        )
    return [sys.executable, "-m", "functions.host", module]


class _Reader:
    def __init__(self) -> None:
        self.problems: list[str] = []

    def integer(self, source: dict[str, str], key: str, default: int) -> int:
        return int(self.number(source, key, default))

    def number(self, source: dict[str, str], key: str, default: float) -> float:
        text = source.get(key, "")
        try:
            return float(text) if text else default
        except ValueError:
            self.problems.append(f"{key}={text!r} is not a number")
            return default

    def duration(self, source: dict[str, str], key: str, default: float) -> float:
        text = source.get(key, "")
        if text.isdigit():  # of-watchdog accepts plain seconds
            return float(text)
        try:
            return float(Duration.parse(text)) if text else default
        except ValueError as error:
            self.problems.append(f"{key}: {error}")
            return default

    def memory_mb(self, text: str) -> int:
        units = {
            "": 1 / 2**20,
            "k": 1e3 / 2**20,
            "Ki": 1 / 1024,
            "M": 1e6 / 2**20,
            "Mi": 1,
            "m": 1,
            "G": 1e9 / 2**20,
            "Gi": 1024,
        }
        match = re.fullmatch(r"(\d+)([kKMGmi]{0,2})", text)
        if not text:
            return 0
        if not match or match[2] not in units:
            self.problems.append(f"limits.memory={text!r} is not a quantity like 512Mi")
            return 0
        return round(int(match[1]) * units[match[2]])
