"""A campaign that is killed at any moment, in any of its parts, goes on and counts everything once."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter

import psutil
import pytest

from fave.campaign.rundir import read_json, read_jsonl
from fave.errors import EXIT_THRESHOLD
from fave.processes import OwnedProcess, wait_until
from fave.settings import ROOT
from fave.wire.records import RequestRow
from tests.conftest import alive, children_with

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EXPERIMENT = """\
description: small, to be killed
expected_duration: 1 minute
seed: 4
regimes: [cold, warm]
primary_outcome: invocation_cold_rate
contrasts: [[cold, warm]]
attempts: 9
gates: {schedule_lag_p99_s: 5, schedule_lag_share_of_median: 100, rate_error: 1, gap_ks: 1, gap_cv_error: 100,
        replica_gap_s: 9, replica_age_p99_s: 9, foreign_cpu_share: 1, gateway_late_share: 1}
loads:
  tiny:
    target: stage-object-detector
    traffic: {model: paced, requests: 4, duration: 1s}
    blocks: %d
"""
KILLS = int(os.environ.get("FAVE_KILLS", "12"))
DRIVER = "the driver"
PARTS = ("locust", "local.gateway", "prometheus", "weed", "local serve")


class Drivers:
    """One campaign, and a driver on it whenever one is asked for; platforms of its own."""

    def __init__(self, folder, blocks):
        self.runs = folder / "runs"
        self.folder = folder
        self._file = folder / "tiny.yml"
        self._file.write_text(EXPERIMENT % blocks, encoding="utf-8")
        self._environment = {**os.environ, "FAVE_STATE": str(folder / "state")}
        self.started = []

    def running(self):
        """The one that is at work, started if need be."""
        if self.started and self.started[-1].running():
            return self.started[-1]
        there = list(self.runs.glob("*/campaign.json"))
        do = ["resume", str(there[0].parent)] if there else ["run", str(self._file), "--runs", str(self.runs)]
        log = self.folder / f"driver-{len(self.started):03d}.log"
        command = [sys.executable, "-m", "experiments", *do]
        driver = OwnedProcess("driver", command, log=log, env=self._environment, cwd=ROOT, stop_grace_s=60)
        self.started.append(driver)
        return driver

    def journal(self):
        paths = self.runs.glob("*/journal.jsonl")
        return [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def campaign(tmp_path):
    """Makes a campaign of so many blocks."""
    made = []

    def make(blocks):
        made.append(Drivers(tmp_path, blocks))
        return made[-1]

    yield make
    for drivers in made:
        for driver in drivers.started:
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
    """Up to a random amount of what a driver writes within some seconds; also while the platform starts."""
    enough = written_bytes(folder) + chance.randrange(1, 60_000)
    wait_until(lambda: written_bytes(folder) > enough or not driver.running(), timeout_s=30)


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


def kill(driver, victim):
    """Whether there was something to kill. Nothing that stood below it survives."""
    targets = family(driver)[:1] if victim == DRIVER else parts(driver, victim)[:1]
    below = [child for target in targets for child in family(target)]
    for target in targets:
        with contextlib.suppress(ProcessLookupError):
            os.kill(target.pid, signal.SIGKILL)
    if victim == DRIVER:
        driver.process.wait()
    assert wait_until(lambda: not any(alive(p) for p in below), timeout_s=30), f"{victim}: processes survived it"
    return bool(targets)


def finish(drivers):
    """The last driver runs to the end."""
    driver = drivers.running()
    assert wait_until(lambda: not driver.running(), timeout_s=400), driver.log_tail()
    if driver.process.poll() != 0:
        # One that had been at work before may have given up after three failures in a row: that is its right.
        driver = drivers.running()
        assert wait_until(lambda: not driver.running(), timeout_s=400), driver.log_tail()
    assert driver.process.poll() == 0, driver.log.read_text(encoding="utf-8")


def check_everything_counts_once(drivers, blocks):
    (folder,) = [path.parent for path in drivers.runs.glob("*/campaign.json")]
    results = read_json(folder / "results.json")
    assert results["validity"]["valid"], results["validity"]
    assert [(cell["regime"], cell["runs"], cell["requests"]) for cell in results["cells"]] == [
        ("cold", blocks, 4 * blocks),
        ("warm", blocks, 4 * blocks),
    ]
    ids = Counter(
        row.request_id
        for path in folder.glob("cells/*/requests.jsonl")
        if (path.parent / "cell.json").exists()
        for row in read_jsonl(path, RequestRow)
    )
    assert set(ids.values()) == {1}
    assert all(re.fullmatch(r"\{.*\}", line) for line in drivers.journal()), "a line of the journal is broken"


@pytest.mark.parametrize(
    ("kills", "blocks"),
    [pytest.param(2, 1, id="two"), pytest.param(KILLS, 8, id="many", marks=pytest.mark.long)],
)
def test_whatever_is_killed_the_campaign_is_finished_and_everything_counts_once(campaign, kills, blocks):
    """Driver, Locust, gateway, Prometheus, object store, supervisor: any of them, at any moment."""
    seed = random.SystemRandom().randrange(10**6)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    drivers = campaign(blocks)
    killed = Counter()
    # Whoever was quick enough to finish in between cannot be killed any more.
    while killed.total() < kills and '"campaign_finished"' not in "".join(drivers.journal()):
        driver = drivers.running()
        wait_for_some_progress(driver, drivers.folder, chance)
        # Of those that are there: one that has to be waited for may be gone again by then.
        victim = chance.choice([DRIVER, *(part for part in PARTS if parts(driver, part))])
        killed[victim] += kill(driver, victim)
    sys.stdout.write(f"killed: {dict(killed)}\n")
    assert killed.total() >= min(kills, 2)
    finish(drivers)
    check_everything_counts_once(drivers, blocks)


@pytest.fixture
def small_disk(tmp_path):
    """The folder `runs/` on a file system of its own, of 3 MB."""
    folder = tmp_path / "runs"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system of one's own can only be mounted by root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.long
def test_a_disk_that_is_full_costs_the_cell_and_nothing_that_was_measured_before(small_disk, campaign):
    drivers = campaign(blocks := 3)
    driver = drivers.running()
    assert wait_until(lambda: len(list(small_disk.glob("*/cells/*/cell.json"))) >= 2, timeout_s=90)
    before = {path: path.read_bytes() for path in small_disk.glob("*/cells/*/requests.jsonl")}
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    assert wait_until(lambda: not driver.running(), timeout_s=120)
    said = driver.log.read_text(encoding="utf-8")
    assert driver.process.returncode not in (0, None), said
    assert "Traceback" not in said
    assert "No space left on device" in said
    filler.unlink()
    finish(drivers)
    check_everything_counts_once(drivers, blocks)
    assert {path: path.read_bytes() for path in before} == before


SEQUENTIAL = """\
description: always cold against never cold, which three blocks decide of five
expected_duration: 1 minute
seed: 4
regimes: [cold, warm]
primary_outcome: invocation_cold_rate
contrasts: [[cold, warm]]
gates: {schedule_lag_p99_s: 5, schedule_lag_share_of_median: 100, rate_error: 1, gap_ks: 1, gap_cv_error: 100,
        replica_gap_s: 9, replica_age_p99_s: 9, foreign_cpu_share: 1, gateway_late_share: 1}
looks: [3, 5]
thresholds: ["tiny/warm: failures == 0", "tiny/cold: runs < 2"]
loads:
  tiny:
    target: stage-object-detector
    traffic: {model: poisson, requests: 8, duration: 4s}
    blocks: 5
    processes: 2
    overrides: {cold: {idle_timeout: 100ms}}
"""


@pytest.mark.long
def test_a_campaign_ends_at_the_look_that_decides_it_and_a_missed_threshold_is_the_exit_code(tmp_path):
    file = tmp_path / "sequential.yml"
    file.write_text(SEQUENTIAL, encoding="utf-8")
    command = [sys.executable, "-m", "experiments", "run", str(file), "--runs", str(tmp_path / "runs")]
    environment = {**os.environ, "FAVE_STATE": str(tmp_path / "state")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    (folder,) = (tmp_path / "runs").iterdir()
    results = read_json(folder / "results.json")
    (cold, _), (contrast,) = results["cells"], results["contrasts"]
    assert results["validity"]["valid"], done.stdout + done.stderr
    blocks = 3 if contrast["decided"] and results["looks"]["ended"] == {"tiny": 3} else 5
    assert (cold["runs"], contrast["blocks"]) == (blocks, blocks), done.stdout
    assert results["looks"]["taken"] == [3, 5][: 1 + (blocks > 3)]
    assert "look after 3 blocks, tiny: " in done.stdout
    assert [each["state"] for each in results["thresholds"]] == ["met", "missed"]
    assert done.returncode == EXIT_THRESHOLD, done.stdout + done.stderr
    assert "wall time" in done.stdout
    assert all(len(list(cell.glob("arrivals-?.jsonl"))) == 2 for cell in folder.glob("cells/*")), "two processes"
