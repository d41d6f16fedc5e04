"""What is sent for arrival k: the function's name and its body."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from fave.envelope import Envelope, PipelineRequest
from fave.errors import ConfigError
from fave.workload import ORCHESTRATOR, PIPELINE, SAMPLE_INPUTS
from locustfiles._options import AS_DEPLOYED, RunOptions


class Target(NamedTuple):
    """The function that arrivals call, and its body for a request id."""

    function: str
    body_for: Callable[[str], bytes]


def target_of(options: RunOptions, bucket: str) -> Target:
    """The pipeline, or a stage on the inputs that are given or shipped for it.

    Raises
    ------
    ConfigError
        For settings that are not a JSON object, and for a stage whose inputs are neither given nor shipped.
    """
    settings = _parse(options.settings)
    given = tuple(uri for uri in options.inputs.split(",") if uri)
    if options.target == PIPELINE:
        video = given[0] if given else f"s3://{bucket}/samples/{options.sample}.mp4"
        profile = "" if options.regime == AS_DEPLOYED else options.regime

        def pipeline_body(request_id: str) -> bytes:
            request = PipelineRequest(
                video_uri=video, query=options.query, request_id=request_id, profile=profile, config=settings
            )
            return msgspec.json.encode(request)

        return Target(ORCHESTRATOR, pipeline_body)
    uris = given or tuple(f"s3://{bucket}/{key}" for key in SAMPLE_INPUTS.get(options.target, ()))
    if not uris:
        raise ConfigError(
            f"{options.target} needs inputs that no sample provides",
            hint=f"give them with --inputs, or target {PIPELINE}, {', '.join(SAMPLE_INPUTS)}",
        )

    def stage_body(request_id: str) -> bytes:
        output = f"s3://{bucket}/requests/{request_id}/{options.target}/"
        return msgspec.json.encode(
            Envelope(request_id=request_id, stage=options.target, input_uris=uris, output_uri=output, config=settings)
        )

    return Target(options.target, stage_body)


def _parse(config: str) -> dict[str, Any]:
    try:
        value = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--settings: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"--settings: {config!r} is not an object")
    return value
