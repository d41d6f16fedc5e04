"""What is sent for arrival k: the function's name and its body."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from fave.envelope import Envelope, PipelineRequest
from fave.errors import ConfigError
from fave.workload import ORCHESTRATOR, PIPELINE, SAMPLE_INPUTS


def body_maker(
    *, target: str, bucket: str, inputs: str, query: str, regime: str, config: str
) -> tuple[str, Callable[[str], bytes]]:
    """The function to call, and the body for a request id.

    Raises
    ------
    ConfigError
        For config that is not a JSON object, and for a stage whose inputs are neither given nor shipped.
    """
    settings = _parse(config)
    given = tuple(uri for uri in inputs.split(",") if uri)
    if target == PIPELINE:
        video = given[0] if given else f"s3://{bucket}/samples/short.mp4"

        def pipeline_body(request_id: str) -> bytes:
            request = PipelineRequest(
                video_uri=video, query=query, request_id=request_id, profile=regime, config=settings
            )
            return msgspec.json.encode(request)

        return ORCHESTRATOR, pipeline_body
    uris = given or tuple(f"s3://{bucket}/{key}" for key in SAMPLE_INPUTS.get(target, ()))
    if not uris:
        raise ConfigError(
            f"{target} needs inputs that no sample provides",
            hint=f"give them with --inputs, or target {PIPELINE}, {', '.join(SAMPLE_INPUTS)}",
        )

    def stage_body(request_id: str) -> bytes:
        output = f"s3://{bucket}/requests/{request_id}/{target}/"
        return msgspec.json.encode(
            Envelope(request_id=request_id, stage=target, input_uris=uris, output_uri=output, config=settings)
        )

    return target, stage_body


def _parse(config: str) -> dict[str, Any]:
    try:
        value = json.loads(config)
    except ValueError as error:
        raise ConfigError(f"--settings: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"--settings: {config!r} is not an object")
    return value
