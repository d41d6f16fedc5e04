"""The Locust side: open-loop sending, rows for every arrival, one or many processes, a verdict, tidy ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from fave.campaign.rundir import read_json, read_jsonl
from fave.endpoints import Endpoints
from fave.processes import OwnedProcess, free_port, wait_until
from fave.settings import ROOT, Duration
from fave.traffic.arrivals import generate, sha256, write_csv
from fave.traffic.loads import traffic_of
from fave.wire.records import ArrivalRow
from platforms.session import at
from tests.benchmarks.load import fast_server

pytestmark = pytest.mark.integration

NAME = "stage-object-detector"
NONE = '{"inputs": ["s3://{bucket}/none.jpg"]}'


def locust(*arguments, file="steady"):
    return [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / f"{file}.py"), *map(str, arguments)]


def headless(out, *arguments, file="steady"):
    quiet = ("--only-summary", "--loglevel", "WARNING", "--exit-code-on-error", 0)
    return locust("--headless", "-u", 1, *quiet, "--target", NAME, "--out", out, *arguments, file=file)


def run(command, environment):
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=False)


def rows(out):
    found = [row for path in out.glob("arrivals-*.jsonl") for row in read_jsonl(path, ArrivalRow)]
    return sorted(found, key=lambda row: (row.k, row.attempt))


@pytest.fixture
def slow_function(deploy):
    """A stand-in by the stage's name that takes as long as the test wants: what is tested here is the sender."""

    def deploy_slow(sleep_s, low=1, high=1, in_flight="50", **env):
        handler = "tests.handlers.slow"
        return deploy(NAME, low=low, high=high, max_inflight=in_flight, handler=handler, SLEEP_S=str(sleep_s), **env)

    return deploy_slow


def test_slow_replies_do_not_slow_the_arrivals(slow_function, child_environment, tmp_path):
    """Closed-loop, the second would wait for the first one's reply. Here all five have left before it comes."""
    slow_function(4)
    # Far enough apart that a busy machine's lateness is little beside it.
    write_csv(tmp_path / "s.csv", tuple(range(0, 2_000_000, 400_000)))
    done = run(headless(tmp_path, "--schedule", tmp_path / "s.csv", "--id-prefix", "t1"), child_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAVE verdict on the load: VALID" in done.stdout
    sent = rows(tmp_path)
    assert [row.status for row in sent] == ["ok"] * 5
    assert [row.request_id for row in sent] == [f"t1-k{k:06d}" for k in range(5)]
    assert sent[-1].sent_at_ns < sent[0].done_at_ns
    for row in sent:
        assert row.scheduled_at_ns <= row.fired_at_ns <= row.sent_at_ns < row.first_byte_at_ns <= row.done_at_ns
        assert row.reply_headers["X-Fave-Replica-Id"].startswith(NAME)
    generator = read_json(tmp_path / "generator.json")
    assert generator["scheduled"] == 5
    assert generator["outcome"]["fidelity"]["sent"] == 5


def test_locusts_own_figures_count_from_the_schedule_to_the_millisecond(slow_function, child_environment, tmp_path):
    """Two replies of 0.6 s one after the other: the second arrival waited for the first, and Locust says so."""
    slow_function(0.6, in_flight="1")
    write_csv(tmp_path / "s.csv", (0, 1000))
    command = headless(tmp_path, "--schedule", tmp_path / "s.csv", "--json-file", tmp_path / "locust")
    run(command, child_environment)
    (entry,) = read_json(tmp_path / "locust.json")
    recorded = sorted((row.done_at_ns - row.scheduled_at_ns) / 1e6 for row in rows(tmp_path))
    assert recorded[1] > 1200
    assert sorted(map(int, entry["response_times"])) == [round(ms) for ms in recorded]


def test_above_the_cap_arrivals_are_dropped_and_counted(slow_function, child_environment, tmp_path):
    slow_function(4)
    write_csv(tmp_path / "s.csv", (0, 400_000, 800_000, 1_200_000))
    done = run(headless(tmp_path, "--schedule", tmp_path / "s.csv", "--max-in-flight", 2), child_environment)
    assert [row.status for row in rows(tmp_path)] == ["ok", "ok", "dropped", "dropped"]
    assert done.returncode == 0  # an outcome of the system, not the generator's fault
    assert read_json(tmp_path / "generator.json")["outcome"]["fidelity"]["dropped"] == 2


def test_a_reply_that_does_not_come_is_a_time_out_row(slow_function, child_environment, tmp_path):
    slow_function(5)
    write_csv(tmp_path / "s.csv", (0,))
    run(headless(tmp_path, "--schedule", tmp_path / "s.csv", "--request-timeout", "500ms"), child_environment)
    (row,) = rows(tmp_path)
    assert row.status == "timeout"
    assert row.done_at_ns > row.sent_at_ns


@pytest.mark.parametrize(("retries", "statuses"), [(0, ["failed"]), (2, ["failed", "failed", "ok"])])
def test_retries_are_off_by_default_and_each_is_a_row(slow_function, child_environment, tmp_path, retries, statuses):
    slow_function(0, REFUSED="2")
    write_csv(tmp_path / "s.csv", (0,))
    run(headless(tmp_path, "--schedule", tmp_path / "s.csv", "--retries", retries), child_environment)
    attempts = rows(tmp_path)
    assert [row.status for row in attempts] == statuses
    assert [row.attempt for row in attempts] == list(range(1, len(statuses) + 1))
    assert len({row.invocation_id for row in attempts}) == len(attempts)
    assert len({row.scheduled_at_ns for row in attempts}) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_an_interrupted_run_has_a_whole_row_for_every_arrival(
    platform, slow_function, child_environment, tmp_path, how
):
    slow_function(4)
    write_csv(tmp_path / "s.csv", (0, 60_000_000))
    command = headless(tmp_path, "--schedule", tmp_path / "s.csv")
    with OwnedProcess("locust", command, log=tmp_path / "log", env=child_environment, cwd=ROOT) as process:
        assert wait_until(lambda: (tmp_path / "arrivals-0.jsonl").exists(), timeout_s=30)
        assert wait_until(lambda: platform.in_flight(NAME) == 1, timeout_s=30)
        os.kill(process.pid, how)
        assert wait_until(lambda: not process.running(), timeout_s=30)
        assert process.process.poll() == 5
    assert [row.status for row in rows(tmp_path)] == ["lost", "unsent"]
    outcome = read_json(tmp_path / "generator.json")["outcome"]
    assert outcome["stopped_early"]
    assert not outcome["verdict"]["valid"]


def test_a_generator_that_cannot_keep_up_is_invalid_and_says_so(slow_function, child_environment, tmp_path):
    """Its process stands still for a second in the middle of the run: arrivals left late."""
    slow_function(0)
    write_csv(tmp_path / "s.csv", tuple(range(0, 4_000_000, 50_000)))
    command = headless(tmp_path, "--schedule", tmp_path / "s.csv")
    with OwnedProcess("locust", command, log=tmp_path / "log", env=child_environment, cwd=ROOT) as process:
        file = tmp_path / "arrivals-0.jsonl"
        assert wait_until(lambda: file.exists() and file.stat().st_size > 0, timeout_s=30)
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: False, timeout_s=1.0)
        os.kill(process.pid, signal.SIGCONT)
        assert wait_until(lambda: not process.running(), timeout_s=30)
        assert process.process.poll() == 5
    said = (tmp_path / "log").read_text(encoding="utf-8")
    assert "FAVE verdict on the load: INVALID" in said
    assert "invalid: schedule_lag_p99_s" in said


@pytest.mark.long
def test_a_full_disk_is_said_and_the_load_goes_on(slow_function, child_environment, tmp_path):
    """A limit on file size stands in for the disk: to a writer both are a write that fails."""
    slow_function(0)
    write_csv(tmp_path / "s.csv", tuple(range(0, 2_000_000, 20_000)))
    command = headless(tmp_path, "--schedule", tmp_path / "s.csv")
    done = run(["bash", "-c", 'ulimit -f 8; exec "$@"', "limited", *command], child_environment)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "rows of this run are missing: File too large" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert read_json(tmp_path / "generator.json")["outcome"]["fidelity"]["sent"] == 100
    assert 0 < len(rows(tmp_path)) < 100


@pytest.mark.long
def test_without_prometheus_a_load_runs_and_a_regime_does_not(slow_function, platform, tmp_path):
    slow_function(0)
    environment = {**os.environ, **platform.endpoints.environment(), "PROMETHEUS_URL": "http://127.0.0.1:1"}
    load = ("--rate", 5, "--duration", "1s")
    run(headless(tmp_path / "as-deployed", *load), environment)
    assert [row.status for row in rows(tmp_path / "as-deployed")] == ["ok"] * 5
    platform.gateway.delete(NAME)
    done = run(headless(tmp_path / "cold", *load, "--regime", "cold"), environment)
    platform.gateway.delete(NAME)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Prometheus at http://127.0.0.1:1 does not answer" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_two_processes_send_each_arrival_exactly_once(slow_function, child_environment, tmp_path):
    slow_function(0)
    load = ("--rate", 40, "--duration", "3s", "--seed", 7)
    done = run(headless(tmp_path, "--processes", 2, *load, file="moderate"), child_environment)
    assert "FAVE verdict on the load" in done.stdout, done.stdout + done.stderr
    traffic = traffic_of("moderate", rate_per_s=40, duration=Duration(3))
    schedule = generate(traffic, 7)
    generator = read_json(tmp_path / "generator.json")
    assert generator["schedule_sha256"] == sha256(schedule)
    assert [row.k for row in rows(tmp_path)] == list(range(len(schedule)))
    offsets_us = [(row.scheduled_at_ns - generator["started_at_ns"]) // 1000 for row in rows(tmp_path)]
    assert offsets_us == list(schedule)
    shares = [len(list(read_jsonl(path, ArrivalRow))) for path in sorted(tmp_path.glob("arrivals-*.jsonl"))]
    assert shares == [(len(schedule) + 1) // 2, len(schedule) // 2]


@pytest.mark.long
def test_an_interrupt_of_several_processes_is_told_by_all_of_them(slow_function, child_environment, tmp_path):
    """Ctrl-C reaches the whole process group; what each had sent counts, the rest is unsent."""
    slow_function(0)
    write_csv(tmp_path / "s.csv", tuple(range(0, 60_000_000, 100_000)))
    command = headless(tmp_path, "--processes", 2, "--schedule", tmp_path / "s.csv")
    with OwnedProcess("locust", command, log=tmp_path / "log", env=child_environment, cwd=ROOT) as process:
        assert wait_until(lambda: len(rows(tmp_path)) >= 20, timeout_s=30)
        os.killpg(os.getpgid(process.pid), signal.SIGINT)
        assert wait_until(lambda: not process.running(), timeout_s=30)
        assert process.process.poll() == 5
    assert [row.k for row in rows(tmp_path)] == list(range(600))
    generator = read_json(tmp_path / "generator.json")
    assert not any(each["lost"] for each in generator["processes"])
    # One may have been on its way when the interrupt came: sent, and lost.
    assert generator["outcome"]["fidelity"]["sent"] == sum(row.status in ("ok", "lost") for row in rows(tmp_path))


@pytest.fixture
def distributed(child_environment, tmp_path):
    """A master and two workers, as on three machines; both workers write into the same folder."""
    started = []

    def start(*arguments):
        port = free_port()
        command = headless(tmp_path, *arguments)
        master = [*command, "--master", "--expect-workers", "2", "--master-bind-host", "127.0.0.1"]
        master += ["--master-bind-port", str(port)]
        worker = locust("--worker", "--master-host", "127.0.0.1", "--master-port", port, "--loglevel", "WARNING")
        for name, each in (("master", master), ("worker-0", worker), ("worker-1", worker)):
            log = tmp_path / f"{name}.log"
            started.append(OwnedProcess(name, each, log=log, env=child_environment, cwd=ROOT))
        return started

    yield start
    for process in started:
        process.stop()


@pytest.mark.long
def test_a_master_and_two_workers_send_each_arrival_exactly_once(slow_function, distributed, tmp_path):
    slow_function(0)
    write_csv(tmp_path / "s.csv", tuple(range(0, 2_000_000, 20_000)))
    master, *workers = distributed("--schedule", tmp_path / "s.csv")
    assert wait_until(lambda: not master.running(), timeout_s=60)
    assert wait_until(lambda: not any(worker.running() for worker in workers), timeout_s=30)
    assert Counter(row.k for row in rows(tmp_path)) == Counter(range(100))
    assert {row.status for row in rows(tmp_path)} == {"ok"}


@pytest.mark.long
def test_what_a_lost_worker_did_not_tell_of_counts_as_unsent(slow_function, distributed, tmp_path):
    """It is killed; the other goes on with its own share, and the run is not believed."""
    slow_function(0)
    write_csv(tmp_path / "s.csv", tuple(range(0, 12_000_000, 100_000)))
    master, worker, _ = distributed("--schedule", tmp_path / "s.csv")
    assert wait_until(lambda: len(rows(tmp_path)) >= 10, timeout_s=60)
    os.kill(worker.pid, signal.SIGKILL)
    assert wait_until(lambda: not master.running(), timeout_s=60)
    assert master.process.poll() == 5, master.log_tail()
    generator = read_json(tmp_path / "generator.json")
    lost = [process for process in generator["processes"] if process["lost"]]
    assert len(lost) == 1
    assert generator["outcome"]["fidelity"]["unsent"] == 60
    other = 1 - lost[0]["slot"]
    assert [row.k for row in rows(tmp_path) if row.k % 2 == other] == list(range(other, 120, 2))


@pytest.fixture
def own_function(platform):
    """The real stage, deployed by FAVE itself: regimes are applied to nobody else's functions."""
    yield
    platform.gateway.delete(NAME)


@pytest.mark.long
@pytest.mark.usefixtures("own_function")
def test_a_master_without_any_worker_left_ends(slow_function, distributed, tmp_path):
    slow_function(0)
    write_csv(tmp_path / "s.csv", tuple(range(0, 60_000_000, 100_000)))
    master, *workers = distributed("--schedule", tmp_path / "s.csv")
    assert wait_until(lambda: len(rows(tmp_path)) >= 10, timeout_s=60)
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
    assert wait_until(lambda: not master.running(), timeout_s=60)
    assert master.process.poll() == 5, master.log_tail()
    assert read_json(tmp_path / "generator.json")["outcome"]["fidelity"]["unsent"] == 600


def test_two_runs_do_not_share_a_folder(slow_function, child_environment, tmp_path):
    slow_function(0)
    load = ("--rate", 5, "--duration", "1s")
    run(headless(tmp_path, *load), child_environment)
    done = run(headless(tmp_path, *load), child_environment)
    assert done.returncode == 2
    assert "has rows of another run" in done.stdout
    assert len(rows(tmp_path)) == 5


def test_a_user_class_that_is_wrong_is_one_message(child_environment, slow_function, tmp_path):
    slow_function(0)
    path = tmp_path / "own.py"
    path.write_text(
        "from generator.users import OpenLoopUser\n\n\n"
        "class OwnUser(OpenLoopUser):\n"
        "    @classmethod\n"
        "    def arrivals(cls, options):\n"
        "        return iter([0.5, 1.5])\n",
        encoding="utf-8",
    )
    command = [part if not part.endswith("steady.py") else str(path) for part in headless(tmp_path / "out")]
    done = run(command, child_environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "arrival 0: 0.5 is not a whole microsecond" in done.stdout


@pytest.mark.long
@pytest.mark.usefixtures("own_function")
def test_a_regime_that_does_not_come_about_makes_the_run_invalid(platform, child_environment, tmp_path):
    """The function is deleted while the first phase is on."""
    command = headless(tmp_path, "--timeline", "cold/paced@5:4s, warm/paced@5:2s", "--variables", NONE)
    with OwnedProcess("locust", command, log=tmp_path / "log", env=child_environment, cwd=ROOT) as process:
        assert wait_until(lambda: len(rows(tmp_path)) >= 3, timeout_s=60)
        platform.gateway.delete(NAME)
        assert wait_until(lambda: not process.running(), timeout_s=60)
        assert process.process.poll() == 5
    assert "invalid: regime warm (timeline): not deployed" in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_timeline_switches_the_regime_under_traffic(platform, child_environment, tmp_path):
    """Requests carry the regime of the phase they were scheduled in; each switch has its two times."""
    phases = "cold/paced@5:3s, warm/paced@5:3s, cold/paced@5:2s"
    done = run(headless(tmp_path, "--timeline", phases, "--variables", NONE), child_environment)
    assert "FAVE verdict on the load" in done.stdout, done.stdout + done.stderr
    tags = Counter((row.phase, row.regime) for row in rows(tmp_path))
    assert tags == {("1 cold/paced", "cold"): 15, ("2 warm/paced", "warm"): 15, ("3 cold/paced", "cold"): 10}
    first, second, third = read_json(tmp_path / "generator.json")["regime_switches"]
    assert [(each["regime"], each["by"]) for each in (first, second, third)] == [
        ("cold", "start"),
        ("warm", "timeline"),
        ("cold", "timeline"),
    ]
    assert first["ready"] == {NAME: 0}
    assert second["ready"][NAME] >= 1
    for change in (second, third):
        assert change["effective_at_ns"] > change["requested_at_ns"] > 0
    assert platform.gateway.function(NAME).labels["com.openfaas.scale.zero"] == "true"


def test_closed_loop_users_wait_for_replies_and_have_rows_too(slow_function, child_environment, tmp_path):
    slow_function(0.3)
    command = headless(tmp_path, "--think-time", "200ms", "-t", "8s", file="closed_steady")
    done = run(command, child_environment)
    assert "closed-loop users" in done.stdout
    finished = [row for row in rows(tmp_path) if row.status == "ok"]
    assert 2 <= len(finished) <= 8 / 0.5
    for before, after in pairwise(finished):
        assert after.sent_at_ns - before.done_at_ns > 0.15e9
    assert read_json(tmp_path / "generator.json")["outcome"]["verdict"] is None


@pytest.mark.long
def test_closed_loop_bursts_leave_silence_between_them(slow_function, child_environment, tmp_path):
    slow_function(0.02)
    run(headless(tmp_path, "--burst-period", "2s", "-t", "5s", file="closed_bursty"), child_environment)
    within = [row.sent_at_ns / 1e9 % 2 for row in rows(tmp_path) if row.status == "ok"][1:]
    assert len(within) > 10
    assert all(at_s < 1.5 for at_s in within)


@pytest.mark.parametrize(
    ("file", "load"),
    [
        ("steady", "steady"),
        pytest.param("moderate", "moderate", marks=pytest.mark.long),
        pytest.param("bursty", "bursty", marks=pytest.mark.long),
        pytest.param("heavy_tail", "heavy-tail", marks=pytest.mark.long),
        ("load", "paced"),
        pytest.param("load", "on-off", marks=pytest.mark.long),
    ],
)
def test_every_open_loop_class_sends_its_own_traffic(slow_function, child_environment, tmp_path, file, load):
    slow_function(0)
    more = ("--load", load) if file == "load" else ()
    done = run(headless(tmp_path, "--rate", 10, "--duration", "2s", *more, file=file), child_environment)
    assert "FAVE verdict on the load" in done.stdout, done.stdout + done.stderr
    schedule = generate(traffic_of(load, rate_per_s=10, duration=Duration(2)), 1)
    assert read_json(tmp_path / "generator.json")["schedule_sha256"] == sha256(schedule)
    assert [row.k for row in rows(tmp_path)] == list(range(len(schedule)))


def test_a_trace_is_replayed_at_its_own_times(slow_function, child_environment, tmp_path):
    slow_function(0)
    lines = ["\ufefftimestamp_ms;what", *(f"{1000 * k},0;x" for k in range(30))]
    (tmp_path / "trace.csv").write_text("\r\n".join(lines), encoding="utf-8")
    more = ("--trace", tmp_path / "trace.csv", "--trace-speed", 10, "--duration", "2s")
    done = run(headless(tmp_path, *more, file="replay"), child_environment)
    read_as = (
        "trace: timestamps, column 'timestamp_ms' in milliseconds, cells between semicolons, byte-order mark, "
        "decimal commas"
    )
    assert f"making the schedule from the {read_as} ..." in done.stdout
    assert read_json(tmp_path / "generator.json")["read_as"] == read_as
    scheduled = [row.scheduled_at_ns for row in rows(tmp_path)]
    assert len(scheduled) == 20
    assert {round((b - a) / 1e6) for a, b in pairwise(scheduled)} == {100}


def test_a_schedule_from_a_spreadsheet_is_sent_and_how_it_was_read_is_told(slow_function, child_environment, tmp_path):
    slow_function(0)
    (tmp_path / "s.csv").write_bytes(b"k;at_us\r\n0;0\r\n1;200000\r\n2;400000\r\n")
    done = run(headless(tmp_path, "--schedule", tmp_path / "s.csv"), child_environment)
    assert "making the schedule from the file of arrivals: cells between semicolons ..." in done.stdout
    assert read_json(tmp_path / "generator.json")["read_as"] == "file of arrivals: cells between semicolons"
    scheduled = [row.scheduled_at_ns for row in rows(tmp_path)]
    assert {round((b - a) / 1e6) for a, b in pairwise(scheduled)} == {200}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--rate", "0"], 2, "rate 0/s must be over 0"),
        (["--rate", "10000", "--duration", "1h"], 2, "36,000,000 arrivals; a run may have 10,000,000"),
        (["--target", "stage-search"], 2, "target: 'stage-search' is none of the requests pipeline, stage-ffmpeg-0"),
        (["--schedule", "/nowhere.csv"], 2, "/nowhere.csv: cannot be read"),
        (["--regime", "lukewarm"], 2, "invalid choice: 'lukewarm'"),
        (["--target", "stage-ffmpeg-0"], 4, "not deployed at http"),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                (["--rate", "inf"], 2, "over 10^18 arrivals; a run may have 10,000,000"),
                (["--timeline", "cold/steady@2000:1h,warm/steady@2000:1h"], 2, "14,400,000 arrivals; a run may have"),
                (["--duration", "soon"], 2, "'soon' is not a duration"),
                (["--max-in-flight", "0"], 2, "--max-in-flight 0"),
                (["--cv", "3"], 2, "cv 3: only for the loads"),
                (["--variables", "{"], 2, "--variables: not JSON"),
                (["--timeline", "cold/steady@2:5s,lukewarm/steady@2:5s"], 2, "unknown regime 'lukewarm'"),
                (["--modulation", "wave"], 2, "--modulation 'wave' is neither"),
                (["--processes", "2", "--max-in-flight", "1"], 2, "at least one for each of 2 processes"),
                (["--rate", "0.001"], 2, "less than one arrival"),
                (["--timeline", "cold/steady@2:5s", "--cv", "2"], 2, "--timeline has its own loads"),
            )
        ),
    ],
)
def test_what_cannot_work_is_one_message_and_an_exit_code(child_environment, tmp_path, arguments, code, message):
    done = run(headless(tmp_path, *arguments), child_environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_gateway_that_is_away_is_named(child_environment, tmp_path):
    elsewhere = {"GATEWAY_URL": f"http://127.0.0.1:{free_port()}", "PROMETHEUS_URL": "http://127.0.0.1:1"}
    done = run(headless(tmp_path), {**child_environment, **elsewhere, "S3_ENDPOINT_URL": "http://127.0.0.1:1"})
    assert done.returncode == 4, done.stdout + done.stderr
    assert elsewhere["GATEWAY_URL"] in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_gateway_that_dies_during_the_run_leaves_whole_rows(child_environment, slow_function, platform, tmp_path):
    """Stopped, not killed: the platform is shared. To the sender both are a peer that does not answer."""
    slow_function(0)
    write_csv(tmp_path / "s.csv", tuple(range(0, 3_000_000, 100_000)))
    command = headless(tmp_path, "--schedule", tmp_path / "s.csv", "--request-timeout", "1s")
    gateway = platform.service("local.gateway")
    with OwnedProcess("locust", command, log=tmp_path / "log", env=child_environment, cwd=ROOT) as process:
        assert wait_until(lambda: len(rows(tmp_path)) >= 5, timeout_s=30)
        gateway.suspend()
        try:
            assert wait_until(lambda: not process.running(), timeout_s=30)
        finally:
            gateway.resume()
    found = rows(tmp_path)
    assert [row.k for row in found] == list(range(30))
    assert {row.status for row in found} == {"ok", "timeout"}


def test_the_benchmarks_server_passes_for_a_platform(tmp_path):
    with fast_server(tmp_path) as url:
        credentials = dict.fromkeys(("gateway_user", "gateway_password", "access_key", "secret_key"), "")
        here = at(Endpoints(gateway_url=url, prometheus_url=url, s3_endpoint_url=url, **credentials))
        assert set(here.counts()) == {"stage-object-detector"}
        assert len(here.witnessed()) == 11
