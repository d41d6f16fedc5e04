"""A tiny campaign through everything: plan, platform, regimes, Locust, rows, report."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from analysis.rows.folder import load
from fave.campaign.rundir import read_json
from fave.errors import EXIT_INVALID_RUN
from fave.processes import OwnedProcess, wait_until
from fave.settings import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TINY = ROOT / "tests" / "data" / "tiny.yml"


FAILING = """
description: a stage that is asked for what is not there
expected_duration: seconds
seed: 1
regimes: [warm]
primary_outcome: invocation_cold_rate
contrasts: []
gates: {schedule_lag_p99_s: 5, schedule_lag_floor_s: 5, replica_gap_s: 10, generator_cpu_share: 1, foreign_cpu_share: 1,
  gateway_late_share: 1}
loads:
  absent:
    target: stage-object-detector
    variables: {inputs: ["s3://fave/nothing/here.jpg"]}
    traffic: {model: paced, requests: 2, duration: 2s}
    blocks: 1
"""


def command(runs: Path, experiment: Path = TINY) -> list[str]:
    return [sys.executable, "-m", "experiments", "run", str(experiment), "--runs", str(runs)]


@pytest.fixture(scope="module")
def campaign(platform, child_environment, tmp_path_factory):
    """(finished process, run folder)"""
    runs = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        command(runs), cwd=ROOT, env=child_environment, capture_output=True, text=True, timeout=300, check=False
    )
    (folder,) = runs.iterdir()
    return done, folder


def test_it_ends_well_and_says_what_it_found(campaign):
    done, _ = campaign
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[  4/4]" in done.stdout
    assert "cold - warm" in done.stdout
    assert "report: " in done.stdout
    assert done.stderr == ""


def test_the_positive_control_is_exact(campaign):
    """Paced arrivals with a period over the idle timeout: 100 % cold with min 0, 0 % with min 1."""
    _, folder = campaign
    results = json.loads((folder / "results.json").read_text())
    rates = {cell["regime"]: cell["cold_rate"]["estimate"] for cell in results["cells"]}
    assert rates == {"cold": 1.0, "warm": 0.0}
    (contrast,) = results["contrasts"]
    assert (contrast["difference"], contrast["verdict"], contrast["blocks"]) == (1.0, "degenerate", 2)
    assert contrast["exploratory"]
    assert results["validity"]["valid"]


def test_the_run_folder_holds_everything_that_was_promised(campaign):
    _, folder = campaign
    assert {"campaign.json", "journal.jsonl", "results.json", "report.html", "report.md", "figures"} <= {
        path.name for path in folder.iterdir()
    }
    cells = sorted(path.name for path in (folder / "cells").iterdir())
    assert cells == ["00_paced_cold_1", "00_paced_warm_1", "01_paced_cold_1", "01_paced_warm_1"]
    for cell in (folder / "cells").iterdir():
        schedule = (cell / "schedule.csv").read_text()
        assert schedule.count("\n") == 3
        for name in ("arrivals-0", "requests", "stages"):
            assert (cell / f"{name}.jsonl").read_text().count("\n") == 2
        assert json.loads((cell / "verdict.json").read_text())["verdict"]["valid"]
    journal = [json.loads(line)["event"] for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert journal[0] == "campaign_started"
    assert journal[-1] == "campaign_finished"
    assert journal.count("cell_finished") == 4


def test_the_lag_of_all_runs_is_judged_by_one_latency_that_cold_starts_do_not_raise(campaign):
    _, folder = campaign
    observed = {path.parent.name: read_json(path)["observed"] for path in folder.glob("cells/*/verdict.json")}
    (reference_s,) = {each["reference_latency_s"] for each in observed.values()}
    assert reference_s == observed["00_paced_warm_1"]["median_latency_s"]
    assert load(folder).reference_latency_s("paced") == reference_s
    assert not json.loads((folder / "results.json").read_text())["validity"]["notes"][1:], "the report agrees"


def test_no_secret_is_in_the_run_folder(campaign, platform):
    _, folder = campaign
    secrets = (platform.endpoints.gateway_password, platform.endpoints.secret_key)
    for path in folder.rglob("*"):
        if path.is_file():
            assert not any(secret in path.read_text(errors="replace") for secret in secrets), path


def test_it_can_be_analysed_again_byte_for_byte_from_its_folder_alone(campaign, tmp_path):
    _, folder = campaign
    copy = tmp_path / folder.name
    subprocess.run(["cp", "-r", str(folder), str(copy)], check=True)
    for name in ("results.json", "report.html", "report.md"):
        (copy / name).unlink()
    subprocess.run([sys.executable, "-m", "analysis", "report", str(copy)], cwd=ROOT, check=True, capture_output=True)
    for name in ("results.json", "report.html", "report.md"):
        assert (copy / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_what_was_started_and_keeps_what_was_measured(tmp_path, how):
    """Without a platform of its own: the campaign brings one up, and takes it down again."""
    environment = {**os.environ, "FAVE_STATE": str(tmp_path / "state")}
    runs, log = tmp_path / "runs", tmp_path / "log"
    with OwnedProcess("bench", command(runs), log=log, env=environment, cwd=ROOT, stop_grace_s=60) as bench:
        assert wait_until(lambda: "[  1/4]" in log.read_text(), timeout_s=120), log.read_text()
        family = psutil.Process(bench.pid).children(recursive=True)
        assert any("local.gateway" in " ".join(process.cmdline()) for process in family)
        os.kill(bench.pid, how)
        assert wait_until(lambda: not bench.running(), timeout_s=60)
        assert bench.process.returncode == 130
    assert wait_until(lambda: not any(process.is_running() for process in family), timeout_s=30)
    (folder,) = runs.iterdir()
    assert (folder / "cells" / "00_paced_cold_1" / "requests.jsonl").exists() or (
        folder / "cells" / "00_paced_warm_1" / "requests.jsonl"
    ).exists()
    assert (folder / "report.html").exists()
    assert "interrupted" in (folder / "journal.jsonl").read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.long
def test_a_run_beside_a_busy_neighbour_is_invalid_though_it_only_takes_what_is_idle(
    platform, child_environment, tmp_path
):
    """The neighbour has the lowest priority there is; every other gate is wide."""
    text = FAILING.replace("{model: paced, requests: 2", "{model: paced, requests: 3")
    (tmp_path / "disturbed.yml").write_text(text.replace("foreign_cpu_share: 1", "foreign_cpu_share: 0.05"))
    spin = "import os; os.nice(19)\nwhile True: pass"
    with contextlib.ExitStack() as neighbours:
        for core in range(os.cpu_count() or 1):
            log = tmp_path / f"neighbour-{core}.log"
            neighbours.enter_context(OwnedProcess("neighbour", [sys.executable, "-c", spin], log=log))
        done = subprocess.run(
            command(tmp_path / "runs", tmp_path / "disturbed.yml"),
            cwd=ROOT,
            env=child_environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    (folder,) = (tmp_path / "runs").iterdir()
    found = json.loads((folder / "cells" / "00_absent_warm_1" / "verdict.json").read_text())
    failed = [finding["gate"] for finding in found["verdict"]["findings"] if not finding["ok"]]
    assert failed == ["foreign_cpu_share"], done.stdout + done.stderr
    assert 0.2 < found["observed"]["foreign_cpu_share"] <= 1
    assert found["observed"]["cpu_steal_share"] <= found["observed"]["foreign_cpu_share"]
    assert done.returncode == EXIT_INVALID_RUN


@pytest.mark.long
def test_failed_requests_are_anomalies_with_what_the_function_wrote(platform, child_environment, tmp_path):
    (tmp_path / "failing.yml").write_text(FAILING)
    done = subprocess.run(
        command(tmp_path / "runs", tmp_path / "failing.yml"),
        cwd=ROOT,
        env=child_environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    (folder,) = (tmp_path / "runs").iterdir()
    results = json.loads((folder / "results.json").read_text())
    (anomaly,) = results["anomalies"]
    assert anomaly["what"] == "requests failed (100.0% of 2)", done.stdout + done.stderr
    assert "absent, warm: none of 2 requests was answered" in results["validity"]["findings"]
    (detail,) = anomaly["detail"]
    assert detail.startswith("2 x 403"), "both ended alike"
    assert '"level": "' in detail.partition("\n")[2], "what the function logged of the first"
    assert (folder / "cells" / "00_absent_warm_1" / "logs" / "functions.jsonl.gz").exists()
