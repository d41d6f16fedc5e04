"""A regime: how functions scale. YAML in, OpenFaaS' own labels, limits and environment out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from fave.errors import ConfigError
from fave.gateway_client import FunctionSpec
from fave.settings import NAME_PATTERN, Duration, load_yaml

FOLDER = Path(__file__).parent
LABEL = "com.openfaas.scale."
# On every function that FAVE deploys. Others are never touched.
MANAGED = "fave.managed"


class Scaling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Settings to lay over others; None leaves what is below."""

    min_replicas: int | None = None
    max_replicas: int | None = None
    idle_timeout: Duration | None = None
    target_in_flight: float | None = None
    max_in_flight: int | None = None
    memory_limit_mb: int | None = None
    exec_timeout: Duration | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One function's settings, complete."""

    min_replicas: int
    max_replicas: int
    idle_timeout: Duration
    target_in_flight: float
    max_in_flight: int
    memory_limit_mb: int
    exec_timeout: Duration

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            problems.append(
                f"min_replicas {self.min_replicas}, max_replicas {self.max_replicas}: need 0 <= min <= max, max >= 1"
            )
        problems += [
            f"{name} {value} must be over 0"
            for name, value in (
                ("idle_timeout", self.idle_timeout),
                ("target_in_flight", self.target_in_flight),
                ("max_in_flight", self.max_in_flight),
                ("memory_limit_mb", self.memory_limit_mb),
                ("exec_timeout", self.exec_timeout),
            )
            if value <= 0
        ]
        if problems:
            raise ValueError("\n".join(problems))


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """How the initial state of a run comes about.

    scale: all replicas to 0, then to their initial count, so that every run begins with new ones.
    wait: where a platform cannot scale to 0 on demand, idle timeouts end what is too much.
    timeout: until the state must stand. rest: quiet time from then until Prometheus must see it, too.
    """

    how: Literal["scale", "wait"] = "scale"
    timeout: Duration = Duration(180)
    rest: Duration = Duration(0)

    def __post_init__(self) -> None:
        if self.timeout <= 0:
            raise ValueError("timeout: must be longer than 0")


class Regime(msgspec.Struct, frozen=True, kw_only=True):
    description: str
    defaults: Scaling = Scaling()
    functions: dict[str, Scaling] = {}


def names(folder: Path = FOLDER) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yml") if path.stem != "base")


def load(name: str, folder: Path = FOLDER) -> Regime:
    """The regime `regimes/{name}.yml`.

    Raises
    ------
    ConfigError
        For an unknown name (with those that there are), and for every mistake in the file.
    """
    if not NAME_PATTERN.fullmatch(name) or name not in names(folder):
        raise ConfigError(f"unknown regime {name!r}", hint=f"there are: {', '.join(names(folder))}")
    return load_yaml(folder / f"{name}.yml", Regime)


def resolve(
    name: str, functions: tuple[str, ...], override: Scaling | None = None, folder: Path = FOLDER
) -> dict[str, Settings]:
    """Complete settings per function: base, then the regime, then their entries for the function, then `override`."""
    base, regime = load_yaml(folder / "base.yml", Regime), load(name, folder)
    problems: list[str] = []
    resolved: dict[str, Settings] = {}
    nothing = Scaling()
    for function in functions:
        layers = (
            base.defaults,
            regime.defaults,
            base.functions.get(function, nothing),
            regime.functions.get(function, nothing),
            override or nothing,
        )
        values = {k: v for layer in layers for k, v in msgspec.structs.asdict(layer).items() if v is not None}
        try:
            resolved[function] = Settings(**values)
        except (ValueError, TypeError) as error:
            problems += [f"regime {name!r}, {function}: {line}" for line in str(error).splitlines()]
    if problems:
        raise ConfigError(problems)
    return resolved


def to_spec(function: str, settings: Settings, *, image: str, regime: str) -> FunctionSpec:
    """As OpenFaaS takes it: labels scale, limits and environment bound one replica."""
    timeout = str(settings.exec_timeout)
    return FunctionSpec(
        service=function,
        image=image,
        labels={
            MANAGED: "true",
            f"{LABEL}min": str(settings.min_replicas),
            f"{LABEL}max": str(settings.max_replicas),
            f"{LABEL}zero": "true",
            f"{LABEL}zero-duration": str(settings.idle_timeout),
            f"{LABEL}type": "capacity",
            f"{LABEL}target": f"{settings.target_in_flight:g}",
            f"{LABEL}target-proportion": "1.0",
        },
        annotations={"fave.regime": regime},
        limits={"memory": f"{settings.memory_limit_mb}Mi"},
        env_vars={
            "max_inflight": str(settings.max_in_flight),
            "FAVE_FUNCTION": function,
            "FAVE_MEMORY_LIMIT_MB": str(settings.memory_limit_mb),
            "exec_timeout": timeout,
            "read_timeout": timeout,
            "write_timeout": timeout,
        },
    )
