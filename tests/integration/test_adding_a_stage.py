"""docs/adding-a-stage.md, done to the letter on a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from msgspec import structs

from fave import yaml_file
from fave.settings import ROOT, decode
from tests.support.videosearcher import GRAPH
from workloads.graph import Node
from workloads.workflow import complete, runnable

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PAGE = (ROOT / "docs" / "adding-a-stage.md").read_text(encoding="utf-8")
CONFIG, HANDLER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(LINE,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
BEFORE = "    - {function: stage-explainer,"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The sources, one more folder, one more line."""
    tree = tmp_path_factory.mktemp("tree") / "fave"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
    folder = tree / "functions" / "stage_words"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "config.py").write_text(CONFIG)
    (folder / "handler.py").write_text(HANDLER)
    graph = tree / "workloads" / "videosearcher.yml"
    text = graph.read_text()
    assert LINE.count("\n") == 1
    assert text.count(BEFORE) == 1
    graph.write_text(text.replace(BEFORE, LINE + BEFORE))
    return tree


def within(tree, *command):
    """As in a checkout of its own: a platform of its own, packages of this environment."""
    environment = {k: v for k, v in os.environ.items() if k not in ("FAVE_STATE", "GATEWAY_URL")}
    return subprocess.run(
        [sys.executable, *command], cwd=tree, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def test_it_is_rendered_for_a_cluster_and_has_an_image(tree):
    rendered = within(tree, "-m", "regimes", "stack", "cold")
    assert "\n  stage-words:\n    image: stage-words:latest\n" in rendered.stdout, rendered.stderr
    asked = "from functions.images.build import GROUPS; print('stage-words' in GROUPS['light'].functions)"
    assert within(tree, "-c", asked).stdout == "True\n"


@pytest.mark.long
def test_what_protects_a_change_asks_for_nothing_but_its_settings_in_the_reference(tree):
    tests = ("tests/unit", "tests/integration/test_requirement_sets.py", "-m", "not long")
    found = within(tree, "-m", "pytest", "-q", *tests)
    failed = re.findall(r"^FAILED (\S+)", found.stdout, re.MULTILINE)
    assert {name.partition("::")[0] for name in failed} <= {"tests/unit/test_docs.py"}, found.stdout[-3000:]
    assert within(tree, "-m", "tests.reference").returncode == 0
    again = within(tree, "-m", "pytest", "-q", "tests/unit/test_docs.py")
    assert again.returncode == 0, again.stdout[-3000:]


@pytest.mark.long
def test_a_video_is_searched_with_it_and_its_settings_are_checked(tree):
    found = within(tree, "-m", "search", "invoke", "short", "cars", "--config", '{"stage-words": {"min_letters": 2}}')
    assert found.returncode == 0, found.stdout + found.stderr
    assert "stage-words" in found.stdout
    refused = within(tree, "-m", "search", "invoke", "short", "cars", "--config", '{"stage-words": {"min_letters": 0}}')
    assert refused.returncode != 0
    assert "min_letters" in refused.stdout + refused.stderr


def with_words():
    node = decode(yaml_file.parse(f"nodes:\n{LINE}", "the page").data["nodes"][0], Node, "the page")
    return structs.replace(GRAPH, nodes=(*GRAPH.nodes, node))


def test_its_node_runs_once_per_clip_after_its_input():
    graph = with_words()
    done = {"stage-ffmpeg-1": ("s3://b/clip-000.mp4", "s3://b/clip-001.mp4")}
    assert "stage-words" not in {task.stage for task in runnable(graph, "s3://b/v", done, frozenset())}
    done |= {"stage-deepspeech/clip-001": ("s3://b/transcript.json",)}
    names = [task.name for task in runnable(graph, "s3://b/v", done, frozenset())]
    assert [name for name in names if name.startswith("stage-words")] == ["stage-words/clip-001"]


def test_a_graph_may_end_with_a_stage_per_clip():
    done = {each.function: (f"s3://b/{each.function}/out",) for each in GRAPH.nodes if not each.per_item}
    done["stage-ffmpeg-1"] = ("s3://b/clip-000.mp4",)
    done |= {f"{each.function}/clip-000": () for each in GRAPH.nodes if each.per_item}
    assert complete(GRAPH, done)
    assert not complete(with_words(), done)
    assert complete(with_words(), done | {"stage-words/clip-000": ()})
