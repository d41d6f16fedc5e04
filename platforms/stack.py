"""`functions/stack.yml` with a regime in it: what `faas-cli` deploys, and what FAVE deploys on a real OpenFaaS."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fave import yaml_file
from fave.campaign.experiment import Policy
from fave.errors import ConfigError
from fave.settings import ROOT
from fave.wire.openfaas import FunctionSpec
from platforms.specs import to_spec
from workloads.model import Workload

# A key that faas-cli passes over, as all that begin so.
_EVERY = "x-function"
STACK = ROOT / "functions" / "stack.yml"
# ${NAME} or ${NAME:-default}, as faas-cli substitutes.
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def load(path: Path = STACK, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The stack file as plain data, its variables filled in.

    Raises
    ------
    ConfigError
        When it cannot be read, or is no stack file: with all that is wrong in it.
    """
    text = _VARIABLE.sub(lambda m: environment.get(m[1]) or m[2] or "", yaml_file.text_of(path))
    document = yaml_file.parse(text, yaml_file.shown(path))
    functions = document.data.get("functions")
    if not isinstance(functions, dict):
        raise ConfigError(f"{document.place('functions')}: a stack file has `functions`, each with its settings")
    problems = [problem for name, entry in functions.items() for problem in _wrong(f"functions.{name}", entry)]
    problems += _wrong(_EVERY, document.data.get(_EVERY, {}))
    if problems:
        raise ConfigError([f"{document.place(key)}: {key}: {text}" for key, text in problems])
    return document.data


def _wrong(key: str, entry: object) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) of a function's entry, as far as FAVE reads it; the rest is faas-cli's."""
    if not isinstance(entry, dict):
        yield key, "expected keys and values"
        return
    if not isinstance(entry.get("image", ""), str):
        yield f"{key}.image", "must be the address of an image"
    if not isinstance(entry.get("readonly_root_filesystem", False), bool):
        yield f"{key}.readonly_root_filesystem", "must be true or false"
    if not isinstance(entry.get("secrets", []), list):
        yield f"{key}.secrets", "expected a list"
    for part in ("environment", "annotations"):
        values = entry.get(part, {})
        if not isinstance(values, dict):
            yield f"{key}.{part}", "expected keys and values"
            continue
        # What has lost its form in reading (1.10 is 1.1) would not be what was written.
        yield from (
            (f"{key}.{part}.{name}", f"{value!r} must be text; write it in quotes")
            for name, value in values.items()
            if isinstance(value, float | list | dict) or (part == "annotations" and not isinstance(value, str))
        )


def entry_of(workload: Workload, function: str, stack: dict[str, Any]) -> dict[str, Any]:
    """What holds for every function, and what is otherwise for this one."""
    return {"image": workload.image_of(function), **stack.get(_EVERY, {}), **stack["functions"].get(function, {})}


def spec(workload: Workload, function: str, policy: Policy, regime: str, stack: dict[str, Any]) -> FunctionSpec:
    """What the gateway is told: the regime's labels, limits and timeouts over the stack's addresses and secrets."""
    entry = entry_of(workload, function, stack)
    own = to_spec(workload, function, policy, image=entry["image"], regime=regime)
    environment = {
        name: _text(value) for name, value in entry.get("environment", {}).items() if value not in (None, "")
    }
    return FunctionSpec(
        service=function,
        image=entry["image"],
        env_vars=environment | own.env_vars,
        secrets=tuple(entry.get("secrets", ())),
        labels=own.labels,
        annotations=entry.get("annotations", {}) | own.annotations,
        limits=own.limits,
        requests=own.limits,
        read_only_root_filesystem=bool(entry.get("readonly_root_filesystem")),
    )


def _text(value: object) -> str:
    """YAML's `true` is `true` in an environment too."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def render(workload: Workload, policies: Mapping[str, Policy], regime: str, stack: dict[str, Any]) -> str:
    """The stack file with the regime in it, as YAML that stands for itself."""
    functions = {}
    for name, each in policies.items():
        made = spec(workload, name, each, regime, stack)
        functions[name] = {
            **entry_of(workload, name, stack),
            "environment": dict(made.env_vars),
            "secrets": list(made.secrets),
            "labels": dict(made.labels),
            "annotations": dict(made.annotations),
            "limits": dict(made.limits),
            "requests": dict(made.requests),
        }
    head = f"# Regime {regime}, rendered by `make stack REGIME={regime}`. Deploy it with faas-cli deploy -f FILE.\n"
    whole = {name: value for name, value in stack.items() if name != _EVERY} | {"functions": functions}
    return head + yaml.dump(whole, Dumper=_NoAliases, sort_keys=False, width=110)


class _NoAliases(yaml.SafeDumper):
    """Every function written out: a person may change one without changing the others."""

    def ignore_aliases(self, data: object) -> bool:
        return True
