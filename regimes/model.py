"""A regime: how functions scale. YAML in, a policy for each function out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fave.campaign.experiment import Policy, Scaling
from fave.errors import ConfigError
from fave.settings import NAME_PATTERN
from fave.yaml_file import load_yaml
from workloads.model import Function

FOLDER = Path(__file__).parent


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
    name: str, functions: Mapping[str, Function], override: Scaling | None = None, folder: Path = FOLDER
) -> dict[str, Policy]:
    """Complete policies per function: base, then the regime, then their entries for the function, then `override`."""
    base, regime = load_yaml(folder / "base.yml", Regime), load(name, folder)
    problems: list[str] = []
    resolved: dict[str, Policy] = {}
    nothing = Scaling()
    for function, about in functions.items():
        layers = (
            base.defaults,
            regime.defaults,
            base.functions.get(function, nothing),
            regime.functions.get(function, nothing),
            override or nothing,
        )
        values: dict[str, Any] = {
            "target_in_flight": float(about.max_in_flight),
            "max_in_flight": about.max_in_flight,
            "memory_limit_mb": about.memory_limit_mb,
            "exec_timeout": about.exec_timeout,
        }
        values |= {k: v for layer in layers for k, v in msgspec.structs.asdict(layer).items() if v is not None}
        try:
            resolved[function] = Policy(**values)
        except (ValueError, TypeError) as error:
            problems += [f"regime {name!r}, {function}: {line}" for line in str(error).splitlines()]
    if problems:
        raise ConfigError(problems)
    return resolved
