"""Each image's requirement set is enough for its handlers, and for nothing of this checkout: without an engine."""

from __future__ import annotations

import os
import subprocess
import venv

import msgspec
import pytest

from fave.images import FUSED
from fave.settings import ROOT
from functions.images.build import FOLDER, GROUPS, handler_of, stage_context
from tests.support.videosearcher import FUNCTIONS, WORK
from workloads.graph import GRAPH

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def test_every_function_has_one_image():
    listed = [function for name, group in GROUPS.items() if name != FUSED for function in group.functions]
    assert sorted(listed) == sorted(FUNCTIONS)
    assert set(GROUPS[FUSED].models) == {model for group in GROUPS.values() for model in group.models}


@pytest.mark.parametrize("group", GROUPS)
def test_the_versions_are_those_that_were_tested(group):
    pins = set(_pins(ROOT / "requirements.txt"))
    assert [pin for pin in _pins(FOLDER / group / "requirements.txt") if pin not in pins] == []


def _pins(path):
    return [line.split()[0] for line in path.read_text().splitlines() if "==" in line and not line.startswith("#")]


@pytest.mark.long
@pytest.mark.parametrize("group", GROUPS)
def test_a_clean_environment_with_only_its_requirements_imports_the_handlers(group, tmp_path):
    """From a copy that holds what the image holds, not from this checkout."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    context = tmp_path / "context"
    stage_context(context)
    subprocess.run(
        [python, "-m", "pip", "install", "-qq", "-r", FOLDER / group / "requirements.txt"], check=True, timeout=600
    )
    for function in GROUPS[group].functions:
        done = subprocess.run(
            [python, "-c", f"import functions.host.__main__, {handler_of(function)} as h; assert callable(h.handle)"],
            cwd=context,
            env=_bare_environment(context),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{function}: {done.stderr[-2000:]}"


def _bare_environment(context):
    """No path of this checkout; any program stands for the image's ffmpeg; a graph as deploying gives one, in which a
    function runs all stages.
    """
    keep = {name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME", "PATH", "LANG") if name in os.environ}
    graph = msgspec.json.encode(WORK.graph.with_parts({"all": WORK.graph.stages})).decode()
    return {
        **keep,
        "FAVE_FUNCTION": "all",
        "PYTHONPATH": str(context),
        "FAVE_FFMPEG": "/bin/true",
        "FAVE_THREADS": "1",
        GRAPH: graph,
    }
