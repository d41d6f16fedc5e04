"""FAVE's tab: what it shows, what it lets be done, and by whom."""

from __future__ import annotations

import http.client
import re
import sys

import pytest
import requests

from fave.processes import OwnedProcess, free_port, wait_until
from fave.settings import ROOT

pytestmark = pytest.mark.integration

NAME = "stage-object-detector"
FORM = {"user_count": 1, "spawn_rate": 1, "load": "paced", "rate": 10, "duration": "2s", "target": NAME}


@pytest.fixture
def ui(deploy, child_environment, tmp_path, request):
    """Locust's web UI on a stand-in for the stage; parameter: generator processes, or 0: one, and no function."""
    processes = getattr(request, "param", 1)
    if processes:
        handler = "tests.handlers.slow"
        deploy(NAME, low=1, high=2, handler=handler, SLEEP_S="0", max_inflight="10")
    port = free_port()
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "load.py"), "--target", NAME]
    command += ["--web-host", "127.0.0.1", "--web-port", str(port)]
    if processes > 1:
        command += ["--processes", str(processes)]
    url = f"http://127.0.0.1:{port}"
    with OwnedProcess("locust", command, log=tmp_path / "log", env=child_environment, cwd=ROOT) as locust:
        locust.wait_ready(lambda: _ok(url), timeout_s=30)
        yield url


def _ok(url):
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False


def snapshot(url, since=0):
    return requests.get(f"{url}/fave/snapshot", params={"since": since}, timeout=30).json()


def token_of(url):
    return re.search(r'data-token="([^"]+)"', requests.get(f"{url}/fave", timeout=30).text)[1]


def switch(url, regime, **headers):
    return requests.post(f"{url}/fave/regime", json={"regime": regime}, headers=headers, timeout=30)


def test_replicas_are_shown_before_anything_runs(ui):
    page = requests.get(f"{ui}/fave", timeout=30).text
    assert 'data-regime="cold"' in page
    assert "fave/static/tab.js" in requests.get(ui, timeout=30).text
    for name in ("fave.js", "fave.css", "tab.js", "uPlot.iife.min.js", "uPlot.min.css"):
        assert requests.get(f"{ui}/fave/static/{name}", timeout=30).ok, name

    def ready():
        points = snapshot(ui)["points"]
        return points[-1]["replicas"].get(NAME) if points else None

    assert wait_until(lambda: ready() == [1, 1], timeout_s=30)
    assert not snapshot(ui)["running"]


def locust_state(url):
    return requests.get(f"{url}/stats/requests", timeout=30).json()["state"]


def workers(url):
    return requests.get(f"{url}/worker-count", timeout=30).json()["worker_count"]


@pytest.mark.parametrize("ui", [1, pytest.param(2, marks=pytest.mark.long)], indirect=True)
def test_a_run_from_the_form_is_shown_and_judged(ui, request):
    if request.node.callspec.params["ui"] > 1:
        assert wait_until(lambda: workers(ui) == 2, timeout_s=30)
    assert requests.post(f"{ui}/swarm", data=FORM, timeout=30).json()["success"]
    assert wait_until(lambda: snapshot(ui)["outcome"] is not None, timeout_s=120)
    view = snapshot(ui)
    assert view["counts"]["ok"] == 20
    assert view["outcome"]["fidelity"]["sent"] == 20
    (stage,) = view["stages"]
    assert (stage["name"], stage["invocations"], stage["cold"], stage["failures"]) == (NAME, 20, 0, 0)
    assert stage["p50_s"] > 0
    assert any(point["p95_ms"] for point in view["points"])
    assert any(point["lag_ms"] is not None for point in view["points"])
    last = view["points"][-1]["seq"]
    assert all(point["seq"] > last for point in snapshot(ui, since=last)["points"])
    # A second run, as soon as Locust's form is back, begins anew: none of the first one's rows is in it.
    first_from_s = view["phases"][0]["from_s"]
    assert wait_until(lambda: locust_state(ui) == "stopped", timeout_s=60)
    assert requests.post(f"{ui}/swarm", data=FORM, timeout=30).json()["success"]

    def second():
        now = snapshot(ui)
        return now if now["outcome"] and now["phases"][0]["from_s"] > first_from_s else None

    assert wait_until(second, timeout_s=120)
    assert second()["counts"]["ok"] == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"load": "stedy"}, "unknown load 'stedy'"),
        ({"regime": "lukewarm"}, "unknown regime 'lukewarm'"),
        ({"target": "stage-none"}, "target: 'stage-none' is none of the requests"),
        ({"variables": '{"sauce": 1}'}, "variables: 'sauce' is none of the request's"),
        ({"rate": 0}, "rate 0/s must be over 0"),
        ({"rate": "many"}, "rate"),
        ({"max_in_flight": 0}, "--max-in-flight 0"),
        ({"duration": "soon"}, "'soon' is not a duration"),
        ({"schedule": "/etc/passwd"}, "not from the web: schedule"),
    ],
)
def test_the_start_route_refuses_what_the_form_does_not_offer(ui, change, message):
    reply = requests.post(f"{ui}/swarm", data={**FORM, **change}, timeout=30).json()
    assert not reply["success"]
    assert message in reply["message"]
    assert not snapshot(ui)["running"]


def test_a_target_that_is_not_deployed_is_said_on_the_page(ui):
    assert requests.post(f"{ui}/swarm", data={**FORM, "target": "stage-ffmpeg-0"}, timeout=30).json()["success"]
    assert wait_until(lambda: "not deployed" in "".join(snapshot(ui)["problems"]), timeout_s=30)


@pytest.mark.parametrize("ui", [0], indirect=True, ids=["nothing-deployed"])
def test_the_regime_is_switched_by_hand_during_a_run(ui, platform):
    """On the real stage, which FAVE deploys itself; whether there is a picture to read does not matter here."""
    form = {**FORM, "regime": "warm", "duration": "30s"}
    assert requests.post(f"{ui}/swarm", data=form, timeout=30).json()["success"]
    assert wait_until(lambda: any(snapshot(ui)["counts"].get(end) for end in ("ok", "failed")), timeout_s=60)
    before = {process.pid for process in platform.replica_processes(NAME)}
    token = token_of(ui)
    assert switch(ui, "burst-ready", **{"X-Fave-Token": token}).ok
    view = snapshot(ui)
    assert [(each["regime"], each["by"]) for each in view["changes"]] == [("warm", "start"), ("burst-ready", "hand")]
    assert view["changes"][1]["ready"] == {NAME: 2}
    assert view["phases"][-1]["regime"] == "burst-ready"
    assert platform.counts(NAME) == (2, 2)
    assert before <= {process.pid for process in platform.replica_processes(NAME)}, "a replica was replaced"
    assert requests.post(f"{ui}/stop", timeout=30).ok
    outcome = snapshot(ui)["outcome"]
    assert outcome["stopped_early"]
    assert outcome["fidelity"]["unsent"] > 0
    platform.gateway.delete(NAME)


def test_functions_of_others_are_not_switched(ui, platform):
    reply = switch(ui, "burst-ready", **{"X-Fave-Token": token_of(ui)})
    assert reply.status_code == 502
    assert "FAVE did not deploy" in reply.json()["problem"]
    assert platform.gateway.function(NAME).labels["com.openfaas.scale.min"] == "1"


def test_state_is_changed_from_the_page_itself_only(ui):
    token = token_of(ui)
    assert switch(ui, "cold").status_code == 403
    assert switch(ui, "cold", **{"X-Fave-Token": "wrong"}).status_code == 403
    assert switch(ui, "cold", **{"X-Fave-Token": token, "Origin": "http://evil.example"}).status_code == 403
    assert switch(ui, "lukewarm", **{"X-Fave-Token": token}).status_code == 400
    foreign = {"Origin": "http://evil.example"}
    assert requests.post(f"{ui}/swarm", data=FORM, headers=foreign, timeout=30).status_code == 403
    assert requests.post(f"{ui}/stop", headers=foreign, timeout=30).status_code == 403
    # A foreign page may not read the token either, nor come in by another name for loopback.
    assert "Access-Control-Allow-Origin" not in requests.get(f"{ui}/fave", headers=foreign, timeout=30).headers
    assert requests.get(f"{ui}/fave", headers={"Host": "evil.example"}, timeout=30).status_code == 403


def test_locusts_login_guards_the_tab_too(child_environment, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "tests" / "support" / "login_locustfile.py")]
    command += ["--web-host", "127.0.0.1", "--web-port", str(port), "--web-login"]
    url = f"http://127.0.0.1:{port}"
    with OwnedProcess("locust", command, log=tmp_path / "log", env=child_environment, cwd=ROOT) as locust:
        locust.wait_ready(lambda: _ok(f"{url}/login"), timeout_s=30)
        for path in ("/fave", "/fave/snapshot", "/fave/runs", "/fave/runs/example/report.html"):
            reply = requests.get(url + path, timeout=30, allow_redirects=False)
            assert (reply.status_code, reply.headers["Location"].partition("?")[0]) == (302, "/login"), path
        for path in ("/fave/regime", "/swarm"):
            assert requests.post(url + path, data=FORM, timeout=30, allow_redirects=False).status_code == 302, path


def test_finished_reports_are_listed_and_served_and_nothing_else(ui):
    assert "example" in requests.get(f"{ui}/fave/runs", timeout=30).json()
    assert "FAVE" in requests.get(f"{ui}/fave/runs/example/report.html", timeout=30).text
    assert requests.get(f"{ui}/fave/runs/example/campaign.json", timeout=30).status_code == 404
    host, port = ui.removeprefix("http://").split(":")
    for path in (
        "..%2f.fave/report.html",
        "../figures/../README.md",
        "..%2ffigures/%2e%2e/README.md",
        "example/figures/../campaign.json",
    ):
        # As it stands: an HTTP library would tidy the dots away.
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        connection.request("GET", f"/fave/runs/{path}")
        assert connection.getresponse().status == 404, path
        connection.close()
