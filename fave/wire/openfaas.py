"""OpenFaaS' REST types, names of labels and quantities: what its clients and our gateway agree on."""

from __future__ import annotations

import math
import re

import msgspec

# Scaling labels begin so.
LABEL = "com.openfaas.scale."
# The platform's own label of a function, which nobody needs to give.
NAME_LABEL = "faas_function"
# Annotations that the embedded platform reads: what a replica of it runs, where, with which of the account's variables,
# and when it is ready. On a cluster its image says all that.
HANDLER, DIRECTORY, INHERITS = "fave.handler", "fave.directory", "fave.inherits"
READY_PATH, READY_TIMEOUT = "fave.ready-path", "fave.ready-timeout"


class FunctionSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """OpenFaaS' FunctionDeployment, the part that FAVE sets."""

    service: str
    image: str
    namespace: str = ""
    env_process: str = msgspec.field(name="envProcess", default="")
    env_vars: dict[str, str] = msgspec.field(name="envVars", default={})
    constraints: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    limits: dict[str, str] = {}
    requests: dict[str, str] = {}
    read_only_root_filesystem: bool = msgspec.field(name="readOnlyRootFilesystem", default=False)


class FunctionStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """OpenFaaS' FunctionStatus. A count of 0 is absent in the JSON, hence the defaults.

    draining is the embedded gateway's: replicas that take nothing more but are still there. usage: of all replicas
    together, in bytes and thousandths of a core, where it is known.
    """

    name: str
    image: str = ""
    namespace: str = ""
    created_at: str = msgspec.field(name="createdAt", default="")
    replicas: int = 0
    available_replicas: int = msgspec.field(name="availableReplicas", default=0)
    draining: int = msgspec.field(name="drainingReplicas", default=0)
    invocation_count: float = msgspec.field(name="invocationCount", default=0)
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    env_process: str = msgspec.field(name="envProcess", default="")
    env_vars: dict[str, str] | None = msgspec.field(name="envVars", default=None)
    constraints: tuple[str, ...] | None = None
    secrets: tuple[str, ...] | None = None
    limits: dict[str, str] | None = None
    requests: dict[str, str] | None = None
    read_only_root_filesystem: bool = msgspec.field(name="readOnlyRootFilesystem", default=False)
    usage: dict[str, float] | None = None


# As Kubernetes writes quantities: a decimal number, an exponent or one unit.
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,9})?)(?:[eE]([0-9]{1,2})|(m|[kKMGTPE]|[KMGTPE]i)?)")
_POWERS = {unit: power for power, unit in enumerate("KMGTPE", start=1)}


def memory_mb(text: str) -> int:
    """A quantity like `512Mi`, `0.5Gi` or `1e9` in MB (2^20 bytes), rounded up; 0 for none.

    Raises
    ------
    ValueError
        For what is no quantity, or less than a byte: `500m` is half of one, whatever Docker meant by it.
    """
    if text.endswith("m"):
        raise ValueError(f"{text!r} is in thousandths of a byte: write {text[:-1]}Mi")
    return math.ceil(_quantity(text, "512Mi") / 2**20)


def cores(text: str) -> float:
    """A quantity like `500m` or `1.5`; 0 for none. Raises ValueError for what is none."""
    return _quantity(text, "500m")


def _quantity(text: str, example: str) -> float:
    if not text:
        return 0.0
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a quantity like {example}")
    number, exponent, unit = float(match[1]), int(match[2] or 0), match[3] or ""
    if unit == "m":
        return number / 1000
    base = 1024 if unit.endswith("i") else 1000
    factor: float = base ** _POWERS.get(unit[:1].upper(), 0)
    power: float = 10.0**exponent
    return number * power * factor
