"""Anybody's function, end to end: a program that knows nothing of FAVE, outside the checkout, to a report."""

import json
import shutil
import signal
import subprocess
import sys

import pytest

from analysis.rows.folder import load, used_runs
from fave.campaign.rundir import read_json
from fave.processes import OwnedProcess, wait_until
from fave.settings import ROOT
from fave.wire.openfaas import NAME_LABEL, FunctionSpec

pytestmark = pytest.mark.e2e

SECRET = "sesame-0b5c"
EXPERIMENT = """
description: somebody's server, twice
expected_duration: seconds
seed: 3
workload: {workload}
regimes: [cold, warm]
primary_outcome: invocation_cold_rate
contrasts: [[cold, warm]]
attempts: 3
gates: {{schedule_lag_p99_s: 5, schedule_lag_floor_s: 5, replica_gap_s: 10, foreign_cpu_share: 1,
  gateway_late_share: 1}}
loads:
  bursty:
    traffic: {{model: bursts, requests: 12, duration: 6s, bursts: 2, burst_length: 500ms}}
    blocks: 2
    overrides: {{cold: {{idle_timeout: 500ms}}}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The example, with a secret of its own, where no checkout is."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(ROOT / "examples" / "hello" / "server.py", folder)
    text = (ROOT / "examples" / "hello" / "workload.yml").read_text()
    text = text.replace("    memory_limit_mb: 128\n", "    memory_limit_mb: 128\n    inherits: [THEIR_TOKEN]\n")
    text = text.replace("    body:", f"    headers: {{Authorization: Bearer {SECRET}}}\n    body:")
    (folder / "my.yml").write_text(text)
    (folder / "experiment.yml").write_text(EXPERIMENT.format(workload=folder / "my.yml"))
    return folder


def bench(place, child_environment, experiment="experiment.yml"):
    command = [sys.executable, "-m", "experiments", "run", str(place / experiment), "--runs", str(place / "runs")]
    env = child_environment | {"THEIR_TOKEN": SECRET}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def campaign(platform, place, child_environment):
    done = bench(place, child_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (place / "runs").iterdir()
    return folder


@pytest.mark.timeout(300)
def test_every_invocation_has_a_label_by_the_platform_and_costs_what_its_limit_says(campaign):
    whole = load(campaign)
    # A block that a busy neighbour made invalid was run again.
    runs = used_runs(whole.runs, whole.experiment)
    stages = [row for run in runs for row in whole.rows(run).stages.iter_rows(named=True)]
    assert len(stages) == 2 * 2 * 12
    assert {row["evidence"] for row in stages} <= {"platform", "undecided"}
    for row in stages:
        assert row["cost_gb_s"] == pytest.approx(row["service_s"] * 128 / 1024)
        assert 0 < row["service_s"] < 1


def test_scaling_to_zero_is_cold_and_a_kept_replica_is_not(campaign):
    cells = {cell["regime"]: cell for cell in read_json(campaign / "results.json")["cells"]}
    assert cells["cold"]["cold_rate"]["cold"] >= 4, "the first of each burst at least"
    assert cells["warm"]["cold_rate"]["cold"] <= 4
    assert cells["cold"]["cost_gb_s"]["provisioned"] < cells["warm"]["cost_gb_s"]["provisioned"]
    assert cells["cold"]["failures"] == cells["warm"]["failures"] == 0


def test_a_planted_secret_appears_in_no_file_of_the_run(campaign):
    assert read_json(campaign / "campaign.json")["workload"]["functions"]["hello"]["inherits"] == ["THEIR_TOKEN"]
    assert [path for path in campaign.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []


def test_a_wrong_answer_is_said_before_the_first_run(platform, place, child_environment, campaign):
    (place / "my.yml").write_text((place / "my.yml").read_text().replace("hello, caller", "good morning"))
    done = bench(place, child_environment)
    assert done.returncode == 4, done.stdout
    assert "requests.greet: asked once, before the first run: wrong answer: 'good morning' is not in it" in done.stderr
    assert json.loads(next(iter(sorted((place / "runs").iterdir()))).joinpath("campaign.json").read_text())
    assert len(list((place / "runs").iterdir())) == 1, "what never began leaves nothing"


@pytest.mark.timeout(300)
def test_what_was_deployed_by_plain_rest_is_measured_and_put_back_after_an_interrupt(
    platform, place, child_environment, tmp_path
):
    """Its environment, command and labels are somebody else's; nothing but its scaling is touched."""
    theirs = FunctionSpec(
        service="theirs",
        image="",
        env_process=f"{sys.executable} {place / 'server.py'} {{port}}",
        labels={"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "4", "team": "theirs"},
        limits={"memory": "128Mi"},
    )
    platform.gateway.deploy(theirs)
    assert wait_until(lambda: platform.counts("theirs") == (1, 1), timeout_s=30)
    (tmp_path / "theirs.yml").write_text(
        "description: theirs\ndeploy: false\nfunctions: {theirs: {memory_limit_mb: 128}}\n"
        'requests: {r: {function: theirs, body: {name: "caller {k}"}, expect: {text: hello}}}\n'
    )
    (tmp_path / "experiment.yml").write_text(EXPERIMENT.format(workload=tmp_path / "theirs.yml"))
    try:
        done = bench(tmp_path, child_environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "put back as they were: theirs" in done.stdout
        (folder,) = (tmp_path / "runs").iterdir()
        assert {cell["failures"] for cell in read_json(folder / "results.json")["cells"]} == {0}
        there = platform.gateway.function("theirs")
        as_before = theirs.labels | {NAME_LABEL: "theirs"}
        assert (there.labels, there.env_process) == (as_before, theirs.env_process)
        command = [sys.executable, "-m", "experiments", "run", str(tmp_path / "experiment.yml")]
        command += ["--runs", str(tmp_path / "again")]
        with OwnedProcess("bench", command, log=tmp_path / "log", env=child_environment, cwd=ROOT) as process:
            assert wait_until(lambda: platform.gateway.function("theirs").labels != as_before, timeout_s=60)
            process.process.send_signal(signal.SIGINT)
            assert wait_until(lambda: not process.running(), timeout_s=60)
        assert platform.gateway.function("theirs").labels == as_before
        assert not (platform.state / "borrowed.json").exists()
    finally:
        platform.gateway.delete("theirs")


@pytest.mark.timeout(300)
def test_a_version_with_a_slower_start_is_found_by_its_start_in_the_same_blocks(
    platform, place, child_environment, tmp_path
):
    """The variant's variable reaches its replicas and nobody else's, and conditions are about what they differ by."""
    server = (place / "server.py").read_text(encoding="utf-8")
    slow = server.replace("time.sleep(0.5)", 'time.sleep(float(__import__("os").environ.get("IMPORT_S", "0")))')
    (tmp_path / "server.py").write_text(slow, encoding="utf-8")
    shutil.copy(ROOT / "examples" / "hello" / "workload.yml", tmp_path / "my.yml")
    arms = """aliases: {a: cold, b: cold}
variants: {b: {hello: {environment: {IMPORT_S: "1"}}}}
thresholds: ["b vs a: start.ratio.low > 1.2", "b vs a: start.ratio.high < 1.2"]
"""
    text = EXPERIMENT.format(workload=tmp_path / "my.yml").replace("overrides: {cold: {", "overrides: {b: {")
    text = text.replace("[[cold, warm]]", "[[b, a]]").replace("[cold, warm]", "[a, b]") + arms
    (tmp_path / "experiment.yml").write_text(text, encoding="utf-8")
    done = bench(tmp_path, child_environment)
    (folder,) = (tmp_path / "runs").iterdir()
    found = read_json(folder / "results.json")
    (start,) = [each["ratio"] for each in found["ratios"] if each["figure"] == "start"]
    assert start["estimate"] > 1.5
    assert [each["regime"] for each in found["thresholds"]] == ["b vs a", "b vs a"]
    assert done.returncode in (7, 8), done.stdout + done.stderr


AHEAD = (
    EXPERIMENT.replace("regimes: [cold, warm]", "regimes: [cold, ahead]")
    .replace("contrasts: [[cold, warm]]", "contrasts: [[cold, ahead]]\nsecondary_outcomes: [held_gb, start_s]")
    .replace("attempts: 3", "attempts: 3\nprewarming: {{ahead: {{before_bursts: 2s, regime: warm, otherwise: cold}}}}")
    .replace("requests: 12, duration: 6s, bursts: 2", "requests: 12, duration: 10s, bursts: 2")
    .replace("{{cold: {{idle_timeout: 500ms}}}}", "{{cold: {{idle_timeout: 500ms}}, ahead: {{idle_timeout: 500ms}}}}")
)


@pytest.mark.timeout(300)
def test_a_replica_ahead_of_each_burst_is_an_arm_whose_switches_are_told(platform, place, child_environment, tmp_path):
    shutil.copy(ROOT / "examples" / "hello" / "workload.yml", tmp_path / "my.yml")
    shutil.copy(ROOT / "examples" / "hello" / "server.py", tmp_path)
    (tmp_path / "experiment.yml").write_text(AHEAD.format(workload=tmp_path / "my.yml"))
    done = bench(tmp_path, child_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    whole, found = load(folder), read_json(folder / "results.json")
    switched = [run for run in used_runs(whole.runs, whole.experiment) if run.regime == "ahead"]
    # Each run begins with a burst, for which the replica stands already.
    assert [[change.regime for change in run.switches] for run in switched] == [["cold", "warm", "cold"]] * 2
    assert {(each["switch"], each["switches"]) for each in found["switches"]} == {
        ("warm to cold", 4),
        ("cold to warm", 2),
    }
    cells = {cell["regime"]: cell for cell in found["cells"]}
    assert cells["ahead"]["cold_rate"]["cold"] < cells["cold"]["cold_rate"]["cold"]
    assert cells["ahead"]["runs"] == 2, "a run is valid though its policy changed"
