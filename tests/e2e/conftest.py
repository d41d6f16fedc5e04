"""The pipeline on the platform under test, and how to ask it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import count
from typing import Any, NamedTuple

import msgspec
import pytest

from fave.clock import utc_ns
from fave.settings import ROOT
from fave.wire.invocation import Invocation
from fave.wire.records import StageRow
from orchestrator.state import State
from regimes.apply import apply
from regimes.model import resolve
from tests.support.videosearcher import FUNCTIONS, WORK

_ids = count()
FPS = {"stage-ffmpeg-3": {"fps": 1}}


class Asked(NamedTuple):
    """status: HTTP. final: `final.json`, None where there is none."""

    status: int
    answer: dict[str, Any]
    final: dict[str, Any] | None

    @property
    def rows(self) -> list[StageRow]:
        return [msgspec.convert(row, StageRow) for row in self.final["rows"]]

    @property
    def slug(self) -> str:
        return self.answer["error"]["slug"]


class Pipeline:
    """The whole pipeline in the warm regime, with the samples in the store."""

    def __init__(self, platform: Any) -> None:
        self.platform = platform
        self.store = platform.store
        self.gateway = platform.gateway
        self.caller = platform.caller

    def new_id(self, kind: str = "e2e") -> str:
        return f"{kind}-{next(_ids)}"

    def body(self, query: str, *, video: str = "", request_id: str = "", **config: Any) -> bytes:
        video = video or self.store.uri("samples/short.mp4")
        named = {name.replace("_", "-"): value for name, value in config.items()}
        request = {"video_uri": video, "query": query, "request_id": request_id, "config": {**FPS, **named}}
        return json.dumps(request).encode()

    def ask(self, query: str = "cars", *, video: str = "", request_id: str = "", timeout_s=120, **config: Any) -> Asked:
        request_id = request_id or self.new_id()
        call = Invocation(request_id=request_id, invocation_id=f"i-{request_id}", sent_at_ns=utc_ns())
        body = self.body(query, video=video, request_id=request_id, **config)
        reply = self.caller.invoke("orchestrator", body, call.headers(), timeout_s=timeout_s)
        return self.read(reply)

    def order(self, request_id: str, action: str) -> Asked:
        return self.read(self.caller.invoke(f"orchestrator/{request_id}/{action}", b"", timeout_s=120))

    def read(self, reply: Any) -> Asked:
        try:
            answer = reply.json()
        except ValueError as error:
            raise ValueError(f"{reply.status_code} and no JSON: {reply.text}") from error
        final = json.loads(self.store.get(answer["final_uri"])) if answer.get("final_uri") else None
        return Asked(reply.status_code, answer, final)

    def state(self, request_id: str) -> State:
        uri = self.store.uri(f"requests/{request_id}/metadata/state.json")
        return msgspec.json.decode(self.store.get(uri), type=State)

    def executions(self, request_id: str) -> Counter[str]:
        """How often each task was executed to a good end, by what the stages wrote themselves."""
        found: Counter[str] = Counter()
        for key in self.store.keys(f"requests/{request_id}/stage-"):
            if "/metadata." in key:
                row = msgspec.json.decode(self.store.get(self.store.uri(key)), type=StageRow)
                found[f"{row.stage}/{row.clip}".rstrip("/")] += row.status == "ok"
        return found

    def replicas(self, function: str) -> set[int]:
        return {process.pid for process in self.platform.replica_processes(function)}


@pytest.fixture(scope="module")
def pipeline(platform, child_environment):
    """For one file: a campaign in between removes what it does not need."""
    command = [sys.executable, "-m", "assets", "--upload"]
    subprocess.run(command, cwd=ROOT, env=child_environment, check=True, capture_output=True, timeout=600)
    settings = resolve("warm", FUNCTIONS)
    apply(platform.here, WORK, "warm", settings)
    yield Pipeline(platform)
    for function in settings:
        platform.gateway.delete(function)
