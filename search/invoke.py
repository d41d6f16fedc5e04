"""`make invoke`: one request, its progress, its ranked clips, and a page to look at."""

from __future__ import annotations

import json
import webbrowser
from typing import Any

from experiments.progress import say
from fave.endpoints import STATE
from fave.errors import ConfigError, StageError
from fave.wire.envelope import PipelineRequest, check_request_id
from search.show import text_of, write_page
from search.single import new_id, perform, session, video_address, video_file


def run(
    *,
    video: str,
    query: str,
    regime: str,
    config: str,
    like: str,
    opens: bool,
    asynchronous: bool,
    request_id: str = "",
) -> int:
    """Print the result; 0.

    Raises
    ------
    ConfigError
        For a query, a file or settings that cannot be used, before anything is started.
    StageError
        When the request fails; with how to go on, where that may help.
    """
    settings = _settings(config, like)
    if not query.strip():
        raise ConfigError("QUERY is empty", hint='say what to look for: make invoke QUERY="find scenes with cars"')
    request_id = _checked(request_id) if request_id else new_id("invoke")
    if not video.startswith("s3://"):
        video_file(video)
    with session(regime, say, stays=opens) as here:
        uri = video_address(video, request_id, here, say)
        request = PipelineRequest(video_uri=uri, query=query, request_id=request_id, config=settings)
        say(f"request {request_id}")
        try:
            final = perform(here, request, say, asynchronous=asynchronous)
        except StageError as error:
            if error.retryable:
                error.hint = (
                    f"INVOKE_OPTIONS='--request-id {request_id}' goes on from what is done, while the platform is up"
                )
            raise
        say(text_of(final))
        if opens:
            page = STATE / "pages" / f"{request_id}.html"
            write_page(final, here.store, page)
            say(f"\npage: {page}")
            webbrowser.open(page.as_uri())
    return 0


def _checked(request_id: str) -> str:
    try:
        return check_request_id(request_id)
    except StageError as error:
        raise ConfigError(f"--request-id: {error}") from error


def _settings(config: str, like: str) -> dict[str, Any]:
    """The short clips of the samples want more pictures than the original's one in five seconds."""
    try:
        given = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--config: not JSON: {error}") from error
    if not isinstance(given, dict) or not all(isinstance(value, dict) for value in given.values()):
        raise ConfigError(f"--config {config!r}: need an object of objects, settings by function")
    if like:
        given["stage-search"] = {**given.get("stage-search", {}), "like": like}
    return given | {"stage-ffmpeg-3": {"fps": 1, **given.get("stage-ffmpeg-3", {})}}
