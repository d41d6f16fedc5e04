"""docs/adding-a-stage.md, done to the letter: the stage of the page is made from the page, deployed and called."""

from __future__ import annotations

import json
import re

import pytest

from fave.gateway_client import FunctionSpec
from fave.settings import ROOT
from fave.workload import GRAPH, TRANSCRIPT, Node, Source
from functions.images.build import stage_context
from orchestrator import workflow
from orchestrator.workflow import complete, runnable

pytestmark = pytest.mark.integration

PAGE = (ROOT / "docs" / "adding-a-stage.md").read_text(encoding="utf-8")
CONFIG, HANDLER, NODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def words(platform, tmp_path):
    """The function, from a copy of the sources with one more folder."""
    context = tmp_path / "context"
    stage_context(context)
    folder = context / "functions" / "stage_words"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "config.py").write_text(CONFIG)
    (folder / "handler.py").write_text(HANDLER)
    platform.gateway.deploy(
        FunctionSpec(
            service="stage-words",
            image="",
            env_process="python -P -m functions.host functions.stage_words.handler",
            env_vars={"PYTHONPATH": str(context), "CONFIG_MIN_LETTERS": "3"},
        )
    )
    yield platform
    platform.gateway.delete("stage-words")


def order(platform, request_id, **config):
    uri = platform.store.uri(f"requests/{request_id}/in/transcript.json")
    platform.store.put(uri, json.dumps({"clip": "clip-000", "text": "so it goes on and on"}).encode())
    body = {
        "request_id": request_id,
        "stage": "stage-words",
        "clip": "clip-000",
        "input_uris": [uri],
        "output_uri": platform.store.uri(f"requests/{request_id}/stage-words/clip-000/"),
        "config": config,
    }
    return platform.gateway.invoke("stage-words", json.dumps(body).encode())


def test_the_stage_of_the_page_works_and_has_all_that_a_stage_has(words):
    reply = order(words, "words-1", min_letters=2)
    assert reply.status_code == 200, reply.text
    (uri,) = reply.json()["outputs"]
    assert json.loads(words.store.get(uri)) == {"clip": "clip-000", "words": 6}
    assert words.store.exists(words.store.uri("requests/words-1/stage-words/clip-000/metadata.1.json"))
    assert reply.json()["telemetry"]["peak_rss_mb"] > 0
    assert reply.json()["telemetry"]["start_peak_rss_mb"] > 0, "what starting took is known apart"
    assert json.loads(words.store.get(order(words, "words-2").json()["outputs"][0]))["words"] == 2, "by environment"
    assert "min_letters" in order(words, "words-3", min_letters=0).json()["error"]["reason"]
    logs = "".join(path.read_text() for path in (words.state / "logs" / "stage-words").glob("*.log"))
    (said,) = [json.loads(line) for line in logs.splitlines() if '"slug"' in line]
    assert (said["request_id"], said["slug"], "min_letters" in said["reason"]) == ("words-3", "bad-request", True)


def test_its_node_runs_once_per_clip_after_its_input(monkeypatch):
    node = eval(NODE, {"Node": Node, "Source": Source, "TRANSCRIPT": TRANSCRIPT})
    graph = (*GRAPH, node)
    monkeypatch.setattr(workflow, "_BY_STAGE", {each.stage: each for each in graph})
    done = {"stage-ffmpeg-1": ("s3://b/clip-000.mp4", "s3://b/clip-001.mp4")}
    assert "stage-words" not in {task.stage for task in runnable(graph, "s3://b/v", done, frozenset())}
    done |= {"stage-deepspeech/clip-001": ("s3://b/transcript.json",)}
    names = [task.name for task in runnable(graph, "s3://b/v", done, frozenset())]
    assert [name for name in names if name.startswith("stage-words")] == ["stage-words/clip-001"]


def test_a_graph_may_end_with_a_stage_per_clip():
    node = eval(NODE, {"Node": Node, "Source": Source, "TRANSCRIPT": TRANSCRIPT})
    done = {each.stage: (f"s3://b/{each.stage}/out",) for each in GRAPH if not each.per_clip}
    done["stage-ffmpeg-1"] = ("s3://b/clip-000.mp4",)
    done |= {f"{each.stage}/clip-000": () for each in GRAPH if each.per_clip}
    assert complete(GRAPH, done)
    assert not complete((*GRAPH, node), done)
    assert complete((*GRAPH, node), done | {"stage-words/clip-000": ()})
