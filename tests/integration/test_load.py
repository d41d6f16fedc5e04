"""The Locust side: open-loop sending, rows for every arrival, tidy ends, the panel in the web UI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import requests

from fave.arrivals import write_csv
from fave.processes import OwnedProcess, free_port, wait_until
from fave.records import ArrivalRow
from fave.rundir import read_json, read_jsonl
from fave.settings import ROOT

pytestmark = pytest.mark.integration

NAME = "stage-object-detector"


def locust(*arguments):
    return [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "steady.py"), *map(str, arguments)]


def headless(out, *arguments):
    return locust("--headless", "-u", 1, "--only-summary", "--loglevel", "WARNING", "--out", out, *arguments)


def rows(out):
    return sorted(read_jsonl(out / "arrivals-0.jsonl", ArrivalRow), key=lambda row: row.k)


@pytest.fixture
def slow_function(deploy):
    """A stand-in by the stage's name that takes as long as the test wants: what is tested here is the sender."""

    def deploy_slow(sleep_s):
        process = "python -m functions.host tests.handlers.slow"
        return deploy(NAME, low=1, high=1, max_inflight="50", process=process, SLEEP_S=str(sleep_s))

    return deploy_slow


def test_slow_replies_do_not_slow_the_arrivals(slow_function, child_environment, tmp_path):
    """Closed-loop, ten arrivals at 0.5 s each would take 5 s. Here all leave on time."""
    slow_function(0.5)
    write_csv(tmp_path / "s.csv", tuple(range(0, 1_000_000, 100_000)))
    command = headless(tmp_path, "--schedule", tmp_path / "s.csv", "--id-prefix", "t1")
    done = subprocess.run(
        command, cwd=ROOT, env=child_environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sent = rows(tmp_path)
    assert [row.status for row in sent] == ["ok"] * 10
    assert [row.request_id for row in sent] == [f"t1-k{k:06d}" for k in range(10)]
    span_s = (sent[-1].sent_at_ns - sent[0].sent_at_ns) / 1e9
    assert 0.85 < span_s < 2.5
    for row in sent:
        assert row.scheduled_at_ns <= row.fired_at_ns <= row.sent_at_ns < row.first_byte_at_ns <= row.done_at_ns
        assert row.reply_headers["X-Fave-Replica-Id"].startswith(NAME)
    assert read_json(tmp_path / "generator-0.json")["scheduled"] == 10


def test_above_the_cap_arrivals_are_dropped_and_counted(slow_function, child_environment, tmp_path):
    slow_function(1.0)
    write_csv(tmp_path / "s.csv", (0, 10_000, 20_000, 30_000))
    command = headless(tmp_path, "--schedule", tmp_path / "s.csv", "--max-in-flight", 2)
    subprocess.run(command, cwd=ROOT, env=child_environment, capture_output=True, timeout=60, check=False)
    assert [row.status for row in rows(tmp_path)] == ["ok", "ok", "dropped", "dropped"]


def test_a_reply_that_does_not_come_is_a_time_out_row(slow_function, child_environment, tmp_path):
    slow_function(5)
    write_csv(tmp_path / "s.csv", (0,))
    command = headless(tmp_path, "--schedule", tmp_path / "s.csv", "--request-timeout", "500ms")
    subprocess.run(command, cwd=ROOT, env=child_environment, capture_output=True, timeout=60, check=False)
    (row,) = rows(tmp_path)
    assert row.status == "timeout"
    assert row.done_at_ns > row.sent_at_ns


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_has_a_whole_row_for_every_arrival(
    platform, slow_function, child_environment, tmp_path, how
):
    slow_function(4)
    write_csv(tmp_path / "s.csv", (0, 60_000_000))
    with OwnedProcess(
        "locust",
        headless(tmp_path, "--schedule", tmp_path / "s.csv"),
        log=tmp_path / "log",
        env=child_environment,
        cwd=ROOT,
    ) as process:
        assert wait_until(lambda: (tmp_path / "arrivals-0.jsonl").exists(), timeout_s=30)
        assert wait_until(lambda: platform.in_flight(NAME) == 1, timeout_s=30)
        os.kill(process.pid, how)
        assert wait_until(lambda: not process.running(), timeout_s=30)
    assert [row.status for row in rows(tmp_path)] == ["lost", "unsent"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--requests", "0"], "requests: 0 must be at least 1"),
        (["--duration", "soon"], "'soon' is not a duration"),
        (["--max-in-flight", "0"], "--max-in-flight 0"),
        (["--target", "stage-search"], "stage-search needs inputs"),
        (["--settings", "{"], "--settings: not JSON"),
        (["--schedule", "/nowhere.csv"], "/nowhere.csv: cannot be read"),
        (["--processes", "2"], "each send the whole schedule"),
    ],
)
def test_what_cannot_work_is_one_message_and_an_exit_code(child_environment, tmp_path, arguments, message):
    command = headless(tmp_path, *arguments)
    done = subprocess.run(
        command, cwd=ROOT, env=child_environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"error: {message}" in done.stdout or message in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_web_ui_has_fave_panel_with_live_replicas(slow_function, child_environment, tmp_path):
    slow_function(0)
    port = free_port()
    command = locust("--web-host", "127.0.0.1", "--web-port", port)
    url = f"http://127.0.0.1:{port}"
    with OwnedProcess("locust", command, log=tmp_path / "log", env=child_environment, cwd=ROOT) as process:
        process.wait_ready(lambda: _ok(url), timeout_s=30)
        assert "FAVE: replicas and cold starts" in requests.get(url, timeout=5).text
        assert "Replicas and cold starts" in requests.get(f"{url}/fave", timeout=5).text
        assert wait_until(lambda: _snapshot(url)["functions"].get(NAME, {}).get("ready") == 1, timeout_s=10)
        form = {"user_count": 1, "spawn_rate": 1, "requests": 5, "duration": "1s", "target": NAME}
        assert requests.post(f"{url}/swarm", data=form, timeout=5).json()["success"]
        assert wait_until(lambda: _snapshot(url).get("load", {}).get("answered") == 5, timeout_s=20)
        assert _snapshot(url)["load"]["cold_share"] == 0
        assert requests.post(f"{url}/swarm", data={**form, "requests": 0}, timeout=5).ok
        assert wait_until(lambda: "requests: 0" in _snapshot(url)["problem"], timeout_s=20)


def _ok(url):
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False


def _snapshot(url):
    return requests.get(f"{url}/fave/snapshot", timeout=5).json()
