"""The same pipeline as fewer functions: the same answers by fewer calls, and a campaign over both."""

import subprocess
import sys

import pytest

from fave.campaign.rundir import read_json
from fave.settings import ROOT
from regimes.apply import apply
from regimes.model import resolve
from tests.e2e.conftest import Pipeline
from tests.support.videosearcher import WORK

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

THREE = {
    "sound": ("stage-ffmpeg-0", "stage-librosa", "stage-ffmpeg-1"),
    "picture": ("stage-ffmpeg-2", "stage-deepspeech", "stage-ffmpeg-3", "stage-object-detector"),
    "answer": ("stage-embedder", "stage-search", "stage-explainer"),
}


@pytest.fixture(scope="module")
def three(platform, child_environment):
    command = [sys.executable, "-m", "assets", "--upload"]
    subprocess.run(command, cwd=ROOT, env=child_environment, check=True, capture_output=True, timeout=600)
    work = WORK.composed(THREE)
    policies = resolve("warm", work.functions)
    apply(platform.here, work, "warm", policies)
    yield Pipeline(platform)
    for function in policies:
        platform.gateway.delete(function)


def test_three_functions_find_what_ten_find(three):
    """As test_pipeline.py has it of ten."""
    status, answer, final = three.ask("find scenes with cars")
    assert (status, answer["status"]) == (200, "COMPLETED")
    assert [clip["clip"] for clip in answer["ranking"]] == ["clip-001", "clip-000"]
    assert "car" in answer["ranking"][0]["labels"]
    assert "cold hearted" in answer["ranking"][1]["text"].lower().replace("-", " ")
    assert answer["explanation"]
    calls = sorted(f"{row['stage']}/{row['clip']}".rstrip("/") for row in final["rows"])
    assert calls == ["answer", "picture/clip-000", "picture/clip-001", "sound"]
    for row in final["rows"]:
        assert row["compute_s"] > 0
        assert row["output_bytes"] > 0
        assert row["storage_read_s"] + row["storage_write_s"] + row["compute_s"] <= row["service_s"] + 0.01


def test_a_stage_that_cannot_do_its_work_is_named_by_the_function_that_runs_it(three):
    asked = three.ask("cars", stage_search={"like": "clip-007/frame-00001000ms.jpg"})
    assert (asked.status, asked.slug, asked.answer["error"]["stage"]) == (422, "bad-request", "answer")
    assert asked.answer["error"]["reason"].startswith("stage-search: ")


EXPERIMENT = """
description: two decompositions, once
expected_duration: a minute
seed: 3
regimes: [three, one]
aliases: {three: cold, one: cold}
decompositions:
  three: {sound: [stage-ffmpeg-0, stage-librosa, stage-ffmpeg-1]}
  one:
    all: [stage-ffmpeg-0, stage-librosa, stage-ffmpeg-1, stage-ffmpeg-2, stage-deepspeech, stage-ffmpeg-3,
          stage-object-detector, stage-embedder, stage-search, stage-explainer]
primary_outcome: mean_latency_s
contrasts: [[one, three]]
attempts: 1
gates: {schedule_lag_p99_s: 5, schedule_lag_floor_s: 5, replica_gap_s: 10, foreign_cpu_share: 1, gateway_late_share: 1}
loads:
  steady:
    target: pipeline
    traffic: {model: paced, requests: 1, duration: 15s}
    blocks: 1
    variables: {config: {stage-ffmpeg-3: {fps: 1}}}
"""


@pytest.mark.long
def test_a_campaign_compares_decompositions_and_its_report_knows_the_graph_of_each(
    platform, child_environment, tmp_path
):
    (tmp_path / "experiment.yml").write_text(EXPERIMENT)
    command = [sys.executable, "-m", "experiments", "run", str(tmp_path / "experiment.yml"), "--runs", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=child_environment, capture_output=True, text=True, timeout=500, check=False
    )
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    found = {cell["regime"]: cell for cell in read_json(folder / "results.json")["cells"]}
    assert {cell["failures"] for cell in found.values()} == {0}, done.stdout + done.stderr
    assert found["one"]["cold_by_stage"].keys() == {"orchestrator", "all"}
    assert len(found["three"]["cold_by_stage"]) == 9
    for cell in found.values():
        assert sum(cell["path"]["parts_s"].values()) == pytest.approx(cell["path"]["response_s"])
    assert (folder / "report.html").exists()
