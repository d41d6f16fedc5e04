"""`ab`: the shipped experiment about two versions of somebody's functions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from experiments.model import Experiment, load, pinned, wrong_with_others
from fave.errors import ConfigError
from fave.settings import decode, to_plain
from workloads.model import Workload
from workloads.model import load as workload_of

NAME = "ab"
_WORDS = ("image", "handler", "command", "directory", "commit", "memory_limit_mb", "max_in_flight")
_NUMBERS = ("memory_limit_mb", "max_in_flight")


def of(workload: str, *, a: str = "", b: str = "", regime: str = "") -> Experiment:
    """a, b: words like `commit=v1.2 env.CACHE=1`; what one does not say is as the workload says.

    Raises
    ------
    ConfigError
        With all that is wrong.
    """
    work = workload_of(workload)
    variants = {arm: _variant(arm.upper(), text, work) for arm, text in (("a", a), ("b", b)) if text.strip()}
    plain: dict[str, Any] = to_plain(load(NAME)) | {"workload": workload, "variants": variants}
    if regime:
        plain["aliases"] = dict.fromkeys(plain["regimes"], regime)
        if regime != "cold":
            plain["loads"]["steady"]["overrides"] = {}
    experiment = decode(plain, Experiment, NAME)
    problems = wrong_with_others(experiment)
    if not variants:
        problems.append("A, B: what is otherwise? B='commit=HEAD', B='env.CACHE=1', B='image=hello:2' …")
    if problems:
        raise ConfigError(problems)
    return pinned(experiment)


def _variant(name: str, text: str, work: Workload) -> Mapping[str, Mapping[str, Any]]:
    """By function; words before the first `function=` are about the only one, or the one that is named."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{name}={text}: {error}") from error
    said: dict[str, dict[str, Any]] = {}
    function = next(iter(work.functions)) if len(work.functions) == 1 else ""
    for word in words:
        key, mark, value = word.partition("=")
        if not mark or (key not in (*_WORDS, "function") and not key.startswith("env.")):
            known = ", ".join([*_WORDS, "env.NAME", "function"])
            raise ConfigError(f"{name}={text}: {word!r} is none of KEY=VALUE with {known}")
        if key == "function":
            function = value
        elif not function:
            raise ConfigError(f"{name}={text}: of which function? function={next(iter(work.functions))} before it")
        elif key.startswith("env."):
            said.setdefault(function, {}).setdefault("environment", {})[key.removeprefix("env.")] = value
        else:
            said.setdefault(function, {})[key] = _value(name, key, value)
    return said


def _value(name: str, key: str, value: str) -> Any:
    if key not in _NUMBERS:
        return value
    if not value.isdecimal():
        raise ConfigError(f"{name}: {key}={value}: a whole number")
    return int(value)
