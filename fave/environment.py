"""The environment as a door: FAVE's variables read strictly, and what FAVE's children are given of the account's."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fave.errors import ConfigError
from fave.programs import cache_dir
from fave.settings import Duration

T = TypeVar("T")
_MOST_S = 7 * 86_400.0
_SHOWN = 80
# What bends an interpreter, Locust, gevent, matplotlib, git or the language of messages, by the account's wish: FAVE's
# own doors are called by FAVE.
_BENDING = ("PYTHON", "LOCUST_", "GEVENT_", "MPL", "MATPLOTLIB", "GIT_", "LC_")
_BENDING_NAMES = ("LANG", "LANGUAGE")
# All that the services and replicas get. What is measured must not depend on the account that measures.
_SHELL = ("LANG", "LC_ALL", "USER", "LOGNAME")
_PLAIN = ("PATH", "HOME", "TZ", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def read(variable: str, default: T, parse: Callable[[str], T], need: str) -> T:
    """`variable` as `parse` reads it; the default where it is unset or empty.

    Raises
    ------
    ConfigError
        With variable, value and what it takes, where `parse` raises ValueError: a value that is not the one that was
        meant must not go unnoticed.
    """
    text = os.environ.get(variable, "")
    if not text:
        return default
    try:
        return parse(text)
    except ValueError:
        hint = f"unset it for the default, {default}" if default or default == 0 else ""
        raise ConfigError(f"environment {variable}={shown(text)[:_SHOWN]!r}: need {need}", hint=hint) from None


def shown(url: str) -> str:
    """An address for people and files: it may carry a password, which is nobody's business."""
    return re.sub(r"//[^/]*@", "//", url)


def without_home(value: Any) -> Any:
    """Plain data with `~` for this account's home folder, which files that are passed on must not name."""
    home = os.path.expanduser("~")
    if isinstance(value, str):
        return re.sub(rf"{re.escape(home)}(?![\w.-])", "~", value) if len(home) > 1 else value
    if isinstance(value, dict):
        return {without_home(name): without_home(each) for name, each in value.items()}
    return [without_home(each) for each in value] if isinstance(value, list | tuple) else value


def address(variable: str, default: str = "") -> str:
    """Of a server: http or https, a host, perhaps a port and a path."""

    def parse(text: str) -> str:
        parts = urlsplit(text)
        # Reading `port` raises for what is none.
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or re.search(r"\s", text):
            raise ValueError(text)
        return text

    return read(variable, default, parse, "an address like http://host:8080")


def count(variable: str, default: int, *, least: int = 0, most: int = 2**53) -> int:
    """A whole number within bounds."""

    def parse(text: str) -> int:
        # As people write it: int() also takes 1_0 and other scripts' digits.
        if not re.fullmatch(r"[0-9]{1,16}", text) or not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return read(variable, default, parse, f"a whole number from {least} to {most}")


def flag(variable: str, *, default: bool = False) -> bool:
    """0 or 1."""
    return count(variable, int(default), most=1) == 1


def seconds(variable: str, default: float) -> float:
    """`2.5`, or a duration (`500ms`, `1h`), as of-watchdog takes it."""
    return read(variable, default, parse_seconds, f"seconds (2.5) or a duration (500ms, 1h), at most {_MOST_S:g} s")


def parse_seconds(text: str) -> float:
    """Raises ValueError for what is neither a number nor a duration, or is longer than any work here."""
    value = float(text) if re.fullmatch(r"[0-9]*\.?[0-9]+|[0-9]+\.", text) else float(Duration.parse(text))
    if value > _MOST_S:
        raise ValueError(f"{text!r} is longer than {_MOST_S:g} s")
    return value


def threads() -> int:
    """Of one replica's numerics."""
    return count("FAVE_THREADS", 1, least=1, most=1024)


def max_input_bytes() -> int:
    """A larger input is refused, by who directs the work and by who does it."""
    return count("FAVE_MAX_INPUT_BYTES", 512 * 2**20, least=1)


def ship_logs_every_s() -> float:
    """0: never."""
    return seconds("FAVE_SHIP_LOGS", 0.0)


def ships_runs() -> bool:
    """Whether run folders go to the object store as they grow."""
    return flag("FAVE_SHIP_RUNS")


def loads_models_lazily() -> bool:
    return flag("FAVE_LAZY")


def chunks_bodies() -> bool:
    """Whether the embedded gateway sends requests' bodies chunked to functions, as OpenFaaS' does."""
    return flag("FAVE_CHUNKED_BODIES")


def ca_file() -> str:
    """Certificates that gateway and Prometheus are checked by, where they are of an authority of one's own."""
    return read("FAVE_CA_FILE", "", _file, "a file with certificates (PEM)")


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError(text)
    return text


def platform(known: Collection[str]) -> str:
    """Which kind of platform is meant; empty: whichever answers."""

    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(text)
        return text

    return read("PLATFORM", "", parse, f"one of {', '.join(known)}")


def idler() -> str:
    """`on`, `dry` (it only says what it would do) or empty: whether FAVE scales its own idle functions to zero."""
    return read("IDLER", "", _idler, "on, dry or off")


def _idler(text: str) -> str:
    if text not in ("on", "dry", "off"):
        raise ValueError(text)
    return text.removeprefix("off")


def uses_control_groups() -> bool:
    """Whether the kernel bounds the embedded platform's replicas, where it can."""
    return flag("FAVE_CONTROL_GROUPS", default=True)


def check_function_settings() -> None:
    """What every replica would stumble over, before any is started. Raises ConfigError."""
    max_input_bytes()
    ship_logs_every_s()
    loads_models_lazily()


def for_doors(**own: str) -> dict[str, str]:
    """For FAVE's own doors and the load generator as children: the account's environment, but for what bends tools."""
    bending = {*_BENDING_NAMES, *(name for name in os.environ if name.startswith(_BENDING))}
    kept = {name: value for name, value in os.environ.items() if name not in bending}
    return kept | _as_everywhere() | own


def for_measured(**own: str) -> dict[str, str]:
    """For the services and replicas: nothing of the account's that is not named here."""
    kept = {name: os.environ[name] for name in _PLAIN if name in os.environ}
    kept["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return kept | _as_everywhere() | own


def for_foreign() -> dict[str, str]:
    """For a program of somebody else's that is measured: what a shell needs, and nothing of FAVE's."""
    return {name: os.environ[name] for name in (*_SHELL, *_PLAIN) if name in os.environ}


def _as_everywhere() -> dict[str, str]:
    # Named, for a child whose HOME is another one.
    return {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", "XDG_CACHE_HOME": str(cache_dir().parent)}
