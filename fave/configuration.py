"""A function's configuration: defaults < environment (`CONFIG_<FIELD>`) < what the request says. Strictly typed."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from fave.errors import StageError

# What functions read from their environment, beside addresses and credentials; the embedded platform passes it on.
FUNCTION_SETTINGS = {
    "AWS_REGION": "region of the object store (us-east-1)",
    "CONFIG_PROFILE": "name of the regime for the record, where a request names none",
    "FAVE_ALLOWED_BUCKETS": "further buckets that inputs may come from, comma-separated",
    "FAVE_DETECTOR_MODEL": "another file for the object detector",
    "FAVE_EMBEDDER_MODEL": "another file for the text embedder",
    "FAVE_EMBEDDER_TOKENIZER": "its tokenizer",
    "FAVE_FFMPEG": "another ffmpeg",
    "FAVE_HOST_QUEUE": "how many calls wait in a full replica, where the platform has no queue (0: they get 429)",
    "FAVE_HOST_QUEUE_WAIT": "how long they wait (exec_timeout)",
    "FAVE_LAZY": "1: models are loaded by the first invocation, not before the replica is ready",
    "FAVE_MAX_INPUT_BYTES": "a larger input is refused (536870912)",
    "FAVE_SHIP_LOGS": "how often logs go to the object store under logs/, e.g. 10s; empty: never",
    "FAVE_UNREADY_WHEN_FULL": "1: a full replica is not ready (`/_/ready`), so that a load balancer sends elsewhere",
    "FAVE_WHISPER_MODEL": "another folder for the speech model",
    "LLM_BASE_URL": "an OpenAI-compatible endpoint for explanations; empty: extract without a model",
    "LLM_MODEL": "which model to ask for",
    "MAX_CONCURRENT_INVOCATIONS": "of one request (8)",
}
T = TypeVar("T", bound=msgspec.Struct)


def variable_of(field: str) -> str:
    """The environment variable that sets a field: `min_score` is `CONFIG_MIN_SCORE`."""
    return f"CONFIG_{field.upper()}"


def configured(cls: type[T], given: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> T:
    """`cls` from its defaults, the environment and `given`.

    Raises
    ------
    StageError
        `bad-request`, naming the key or the variable that cannot be used.
    """
    try:
        return msgspec.convert({**_from_environment(cls, environment), **given}, cls)
    except msgspec.ValidationError as error:
        raise StageError("bad-request", f"config: {error}") from error


def _from_environment(cls: type[T], environment: Mapping[str, str]) -> dict[str, Any]:
    kinds = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for name, kind in kinds.items():
        text = environment.get(variable_of(name), "")
        if not text:
            continue
        try:
            found[name] = _parsed(text, kind)
        except msgspec.MsgspecError as error:
            raise StageError("bad-request", f"environment {variable_of(name)}={text!r}: {error}") from error
    return found


def _parsed(text: str, kind: Any) -> Any:
    """Plain values as they are, a mapping as JSON."""
    if text.startswith("{"):
        return msgspec.json.decode(text, type=kind)
    return msgspec.convert(text, kind, strict=False)
