"""One request through the pipeline, watched."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from experiments.collect import Document, read_document
from fave.calling import Caller, Cancellation
from fave.clock import utc_ns
from fave.endpoints import STATE, Endpoints
from fave.errors import ConfigError, GatewayError, StageError, StorageError
from fave.processes import need_door
from fave.programs import cache_dir
from fave.storage import Store
from fave.wire import keys
from fave.wire.envelope import PipelineRequest
from fave.wire.final import Final
from fave.wire.invocation import Invocation
from fave.wire.records import StageRow
from platforms.model import Platform
from platforms.session import opened, running
from regimes.apply import apply
from regimes.model import resolve
from workloads.model import shipped

Say = Callable[[str], None]
SAMPLES = ("short", "long")
_DIRECTOR = "orchestrator"
_POLL_S = 0.2
_PATIENCE_S = 300.0
_ABORT_PATIENCE_S = 5.0


class Session:
    """A platform with the pipeline on it."""

    def __init__(self, platform: Platform) -> None:
        self.endpoints: Endpoints = platform.endpoints
        self.caller = Caller(platform.endpoints.gateway_url)
        self.store = Store.at(platform.endpoints)


@contextlib.contextmanager
def session(regime: str, say: Say, *, stays: bool = False) -> Iterator[Session]:
    """The platform that is there, or one of its own, which `stays` up afterwards if asked to.

    Functions that are deployed stay as they are; where one is missing, `regime` is applied.
    """
    work = shipped()
    policies = resolve(regime, work.functions)
    if stays and running() is None:
        need_door("local", "up", "--state", str(STATE), shown=True)
        say("the platform stays up: `make down` stops it")
    with opened(say) as platform:
        if not platform.counts().keys() >= policies.keys():
            say(f"deploying the pipeline (regime {regime}) ...")
            apply(platform, work, regime, policies, say)
        yield Session(platform)


def video_address(video: str, request_id: str, here: Session, say: Say) -> str:
    """An s3:// address as it is; a sample or a file of this machine after its upload."""
    if video.startswith("s3://"):
        return video
    path = video_file(video)
    uri = here.store.uri(keys.video(request_id, path.name))
    say(f"uploading {path.name} ({path.stat().st_size / 1e6:.1f} MB) ...")
    here.store.put(uri, path.read_bytes(), content_type="video/mp4")
    return uri


def video_file(video: str) -> Path:
    """A sample, which is fetched if need be, or a file of this machine.

    Raises
    ------
    ConfigError
        When there is no such file.
    """
    path = cache_dir() / "samples" / f"{video}.mp4" if video in SAMPLES else Path(os.path.expanduser(video))
    if video in SAMPLES and not path.exists():
        need_door("assets", video, shown=True)
    if not os.path.isfile(path):
        hint = f"a file, an s3:// address, or a sample: {', '.join(SAMPLES)}"
        raise ConfigError(f"VIDEO={video}: there is no such file", hint=hint)
    return path


def new_id(kind: str) -> str:
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:6]}"


def perform(here: Session, request: PipelineRequest, say: Say, *, asynchronous: bool = False) -> Final:
    """Send the request, tell how it goes, return `final.json`. Ctrl-C aborts it, and the work below.

    Raises
    ------
    StageError
        When it fails: slug, stage and reason are the pipeline's.
    """
    call = Invocation(request_id=request.request_id, invocation_id=uuid4().hex, sent_at_ns=utc_ns())
    body, headers = msgspec.json.encode(request), call.headers() | {"Content-Type": "application/json"}
    with ThreadPoolExecutor(1) as threads:
        answer: Future[Any] | None = None
        patience = Cancellation()
        if asynchronous:
            say(f"queued as call {here.caller.invoke_async(_DIRECTOR, body, headers)}")
        else:
            answer = threads.submit(
                here.caller.invoke, _DIRECTOR, body, headers, timeout_s=_PATIENCE_S, cancellation=patience
            )
        try:
            _watch(here, request.request_id, answer, say)
        except KeyboardInterrupt:
            say("aborting the request ...")
            with contextlib.suppress(GatewayError):
                _abort(here, request.request_id)
            patience.cancel()
            raise
    return _final(here, request.request_id, answer)


def _abort(here: Session, request_id: str) -> None:
    """Also of a request that is about to begin: it is not there yet, and must not come after all."""
    deadline_s = time.monotonic() + _ABORT_PATIENCE_S
    while time.monotonic() < deadline_s:
        if here.caller.invoke(f"{_DIRECTOR}/{request_id}/abort", b"", timeout_s=30).status_code != 404:
            return
        time.sleep(_POLL_S)


def _watch(here: Session, request_id: str, answer: Future[Any] | None, say: Say) -> None:
    """A line per invocation that ended, until the request is over."""
    key = keys.state(request_id)
    began_s = time.monotonic()
    told: set[str] = set()
    while True:
        over = answer is not None and answer.done()
        state = read_document(here.store, [key], Document)
        for row in state.rows if state else ():
            if row.invocation_id not in told:
                told.add(row.invocation_id)
                say(_line(row))
        waiting = [name for name, task in (state.tasks if state else {}).items() if task.status == "RUNNING"]
        _passing(f"  {time.monotonic() - began_s:5.1f} s  {', '.join(waiting) or 'starting'} ...")
        if over or (answer is None and state is not None and state.over):
            _passing("")
            return
        if time.monotonic() - began_s > _PATIENCE_S:
            what = f"is still {state.status}" if state else "was not begun"
            raise StageError("timeout", f"the request {what} after {_PATIENCE_S:g} s", retryable=True)
        time.sleep(_POLL_S)


def _line(row: StageRow) -> str:
    took_s = (row.returned_at_ns - row.sent_at_ns) / 1e9 if row.returned_at_ns else 0.0
    cold = f"  cold, waited {row.cold_wait_s:.2f} s" if row.cold else ""
    again = f"  attempt {row.attempt}" if row.attempt > 1 else ""
    bad = f"  {row.status}: {row.error}" if row.status != "ok" else ""
    return f"  {took_s:6.2f} s  {row.stage:22}{row.clip:10}{row.peak_rss_mb:5.0f} MB{cold}{again}{bad}"


def _passing(text: str) -> None:
    """A line that the next one replaces; on terminals only."""
    if sys.stdout.isatty():
        sys.stdout.write(f"\r{text[:118]:118}\r")
        sys.stdout.flush()


def _final(here: Session, request_id: str, answer: Future[Any] | None) -> Final:
    reply = _json_of(answer.result()) if answer is not None else None
    if reply is not None and "final_uri" not in reply:
        raise _as_error(reply.get("error") or {})
    uri = here.store.uri(keys.final(request_id))
    final = msgspec.json.decode(_patiently(here.store, uri), type=Final)
    if final.error:
        raise _as_error(msgspec.to_builtins(final.error))
    return final


def _json_of(response: Any) -> dict[str, Any]:
    try:
        return dict(response.json())
    except ValueError as error:
        said = response.text.strip()[:300] or "nothing"
        raise GatewayError(
            f"the orchestrator's call was answered {response.status_code}: {said}", status=response.status_code
        ) from error


def _patiently(store: Store, uri: str) -> bytes:
    """`final.json` is written just after the state says that the request is over."""
    deadline_s = time.monotonic() + 10
    while True:
        try:
            return store.get(uri)
        except StorageError as error:
            if error.slug != "not-found" or time.monotonic() > deadline_s:
                raise
            time.sleep(_POLL_S)


def _as_error(error: dict[str, Any]) -> StageError:
    slug, again = error.get("slug", "internal"), error.get("retryable", False)
    reason = f"{error.get('reason', 'no reason given')} [{slug}]"
    return StageError(slug, reason, stage=error.get("stage", ""), retryable=again)
