"""A program that is no server: run once for each request, as OpenFaaS' watchdogs do in their forking modes.

`fprocess` is the command; the body is its standard input, its standard output the reply, and the request's method,
path, query and headers are in its environment (`Http_Method`, `Http_Path`, `Http_Query`, `Http_Content_Type`, …).
"""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import Any
from urllib.parse import urlencode

from fave.errors import ConfigError
from functions.host.server import Context, Event

_OWN = ("FAVE_", "PYTHONPATH")
_SAID_BYTES = 2000


def _command() -> list[str]:
    try:
        command = shlex.split(os.environ.get("fprocess", ""))  # noqa: SIM112 - OpenFaaS' style
    except ValueError as error:
        raise ConfigError(f"fprocess: {error}") from error
    if not command:
        raise ConfigError("fprocess is empty", hint="it is the command that each request runs")
    return command


_COMMAND = _command()
_DECLARED = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}


def handle(event: Event, context: Context) -> dict[str, Any]:
    about = {
        "Http_Method": event.method,
        "Http_Path": event.path,
        "Http_Query": urlencode(event.query),
        "Http_ContentLength": str(len(event.body)),
        **{f"Http_{name.title().replace('-', '_')}": value for name, value in event.headers.items()},
    }
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(_COMMAND, env=_DECLARED | about, stdin=pipe, stdout=pipe, stderr=pipe) as child,
        context.work.owns(child),
    ):
        answer, said = child.communicate(event.body)
    context.work.check()
    if said:
        context.log.write(level="info", request_id=context.invocation.request_id, message=_text(said))
    if child.returncode:
        return _reply(500, _text(said) or f"exit status {child.returncode}")
    return _reply(200, answer)


def _reply(status: int, body: str | bytes) -> dict[str, Any]:
    kind = os.environ.get("content_type", "text/plain")  # noqa: SIM112
    return {"statusCode": status, "body": body, "headers": {"Content-Type": kind}}


def _text(said: bytes) -> str:
    return said[-_SAID_BYTES:].decode("utf-8", "replace").strip()
