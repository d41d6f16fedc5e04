"""A campaign that is killed at any moment, in any of its parts, goes on and counts everything once."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sys
import time
from collections import Counter

import psutil
import pytest

from fave.processes import OwnedProcess, wait_until
from fave.records import RequestRow
from fave.rundir import read_json, read_jsonl
from fave.settings import ROOT
from tests.conftest import alive, children_with

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(560)]

EXPERIMENT = """\
description: small, to be killed
expected_duration: 1 minute
seed: 4
regimes: [cold, warm]
primary_outcome: invocation_cold_rate
contrasts: [[cold, warm]]
attempts: 6
gates: {schedule_lag_p99_s: 5, schedule_lag_share_of_median: 100, rate_error: 1, gap_ks: 1, gap_cv_error: 100}
loads:
  tiny:
    target: stage-object-detector
    traffic: {model: paced, requests: 6, duration: 2s}
    blocks: 3
"""
DRIVER_KILLS = int(os.environ.get("FAVE_KILLS", "3"))


@pytest.fixture
def campaign(tmp_path):
    """The folder, and a way to start a driver on it with a platform of its own."""
    file = tmp_path / "tiny.yml"
    file.write_text(EXPERIMENT, encoding="utf-8")
    runs = tmp_path / "runs"
    started = []
    environment = {**os.environ, "FAVE_STATE": str(tmp_path / "state")}

    def start():
        there = list(runs.glob("*/campaign.json"))
        do = ["resume", str(there[0].parent)] if there else ["run", str(file), "--runs", str(runs)]
        log = tmp_path / f"driver-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "experiments", *do]
        started.append(OwnedProcess("driver", command, log=log, env=environment, cwd=ROOT, stop_grace_s=60))
        return started[-1]

    yield runs, start
    for driver in started:
        driver.stop()


def written_bytes(folder):
    """Progress that needs no clock: what driver, platform and generator have put on disk so far."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # temporary files come and go
                total += os.stat(os.path.join(place, name)).st_size
    return total


def wait_for_some_progress(driver, folder, chance):
    """Up to a random amount of what a driver writes within some seconds."""
    enough = written_bytes(folder) + chance.randrange(1, 60_000)
    wait_until(lambda: written_bytes(folder) > enough or not driver.running(), timeout_s=20)


def family(process):
    try:
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def parts(driver, word):
    """Living processes below the driver whose command holds `word`; none once it has ended."""
    try:
        return children_with(psutil.Process(driver.pid), word)
    except psutil.NoSuchProcess:
        return []


def events(runs):
    return [line for path in runs.glob("*/journal.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]


def kill_at_some_moment(driver, runs, chance):
    """Between its start and some runs later, also while the platform starts; nothing below it survives."""
    begun = len(events(runs))
    more = chance.randrange(0, 5)
    wait_until(lambda: len(events(runs)) >= begun + more or not driver.running(), timeout_s=60)
    wait_for_some_progress(driver, runs.parent, chance)
    processes = family(driver)
    if driver.running():
        os.kill(driver.pid, signal.SIGKILL)
    driver.process.wait()
    assert wait_until(lambda: not any(alive(p) for p in processes), timeout_s=20), "processes survived their driver"


def test_whatever_is_killed_the_campaign_is_finished_and_everything_counts_once(campaign, record_property):
    runs, start = campaign
    seed = random.SystemRandom().randrange(10**6)
    record_property("seed", seed)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    for _ in range(DRIVER_KILLS):
        kill_at_some_moment(start(), runs, chance)
    driver = start()
    # The driver itself brings back what is killed below it.
    for part in chance.sample(["locust", "local.gateway", "prometheus", "weed"], 2):
        assert wait_until(lambda part=part: parts(driver, part) or not driver.running(), timeout_s=60)
        wait_for_some_progress(driver, runs.parent, chance)
        for process in parts(driver, part)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: not driver.running(), timeout_s=300), driver.log_tail()
    assert driver.process.poll() == 0, driver.log.read_text(encoding="utf-8")
    (folder,) = [path.parent for path in runs.glob("*/campaign.json")]
    results = read_json(folder / "results.json")
    assert results["validity"]["valid"], results["validity"]
    assert [(cell["regime"], cell["runs"], cell["requests"]) for cell in results["cells"]] == [
        ("cold", 3, 18),
        ("warm", 3, 18),
    ]
    ids = Counter(
        row.request_id
        for path in folder.glob("cells/*/requests.jsonl")
        if (path.parent / "cell.json").exists()
        for row in read_jsonl(path, RequestRow)
    )
    assert set(ids.values()) == {1}
    assert all(re.fullmatch(r"\{.*\}", line) for line in events(runs)), "a line of the journal is broken"
