"""A real Prometheus behind a password, with two gateway pods: sums, maxima, one series of samples, refusals by name."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from experiments.cell_run import drain
from fave.clock import utc_ns
from fave.errors import PlatformError
from fave.processes import OwnedProcess, free_port, wait_until
from fave.programs import prometheus
from fave.settings import ROOT
from platforms.openfaas import sample_rows
from prom.client import Prometheus
from tests.support.http_server import Heard, serving

pytestmark = pytest.mark.integration
# The password `test`, as Prometheus' own documentation has it.
HASH = "$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay"


class Pod:
    """A gateway pod as Prometheus sees it."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.gone = False

    def answer(self, _: Heard) -> tuple[int, dict[str, str], bytes]:
        if self.gone:
            return 503, {}, b""
        lines = [f"{name} {value}" for name, value in self.values.items()]
        return 200, {"Content-Type": "text/plain; version=0.0.4"}, "\n".join([*lines, ""]).encode()

    def tell(self, function: str, *, desired: int, ready: int, in_flight: int = 0, calls: int = 0) -> None:
        label = f'function_name="{function}.openfaas-fn"'
        self.values |= {
            f"gateway_service_count{{{label}}}": desired,
            f"gateway_service_ready_count{{{label}}}": ready,
            f"gateway_function_invocation_inflight{{{label}}}": in_flight,
            f'gateway_function_invocation_total{{{label},code="200"}}': calls,
            f'gateway_functions_seconds_bucket{{{label},code="200",le="1"}}': calls,
            f'gateway_functions_seconds_sum{{{label},code="200"}}': calls / 2,
        }

    def count(self, function: str, *, started: int = 0, finished: int = 0) -> None:
        """As a gateway without Pro's metrics."""
        label = f'function_name="{function}.openfaas-fn"'
        self.values[f"gateway_service_count{{{label}}}"] = 1
        if started:
            self.values[f"gateway_function_invocation_started{{{label}}}"] = started
        if finished:
            self.values[f'gateway_function_invocation_total{{{label},code="200"}}'] = finished


class Watched:
    """Two pods and the Prometheus that scrapes them."""

    def __init__(self, url: str, pods: tuple[Pod, Pod]) -> None:
        self.url = url
        self.pods = pods
        self.prometheus = Prometheus(self.with_password("test"))

    def with_password(self, password: str) -> str:
        return self.url.replace("//", f"//fave:{password}@")

    def samples(self, function: str, start_ns: int) -> list[tuple[int, int, int]]:
        found = self.prometheus.replica_samples(start_ns, utc_ns())
        return [(each.at_ns, each.desired, each.ready) for each in found if each.function == function]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("prometheus")
    pods = (Pod(), Pod())
    for pod in pods:
        pod.tell("old", desired=1, ready=1)
    with contextlib.ExitStack() as stack:
        targets = [urlsplit(stack.enter_context(serving(pod.answer))).netloc for pod in pods]
        url = f"http://127.0.0.1:{_start(folder, targets, stack)}"
        watched = Watched(url, pods)
        assert wait_until(lambda: requests.get(f"{url}/-/ready", auth=("fave", "test"), timeout=5).ok, timeout_s=30)
        assert wait_until(lambda: len(_instances(url)) == 2, timeout_s=30)
        yield watched


def _start(folder: Path, targets: list[str], stack: contextlib.ExitStack) -> int:
    port = free_port()
    shutil.copy(ROOT / "prom" / "prometheus.yml", folder / "prometheus.yml")
    (folder / "targets.json").write_text(json.dumps([{"targets": targets, "labels": {}}]), encoding="utf-8")
    (folder / "web.yml").write_text(f'basic_auth_users: {{fave: "{HASH}"}}', encoding="utf-8")
    command = [
        prometheus(),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.config.file={folder / 'web.yml'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = OwnedProcess("prometheus", command, log=folder / "log", cwd=folder)
    stack.callback(process.stop)
    process.wait_ready(lambda: _listens(port), timeout_s=30)
    return port


def _listens(port: int) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"http://127.0.0.1:{port}/", timeout=5).status_code == 401
    return False


def _instances(url: str) -> set[str]:
    answer = requests.get(f"{url}/api/v1/query", params={"query": "up == 1"}, auth=("fave", "test"), timeout=5)
    return {item["metric"]["instance"] for item in answer.json()["data"]["result"]}


def test_counters_are_summed_over_pods_and_replicas_are_not(watched):
    one, two = watched.pods
    one.tell("sums", desired=3, ready=2, in_flight=4, calls=10)
    two.tell("sums", desired=3, ready=3, in_flight=1, calls=7)
    assert wait_until(lambda: watched.prometheus.replicas().get("sums") == (3, 3), timeout_s=10)

    def seen():
        return {name: value for name, value in watched.prometheus.gateway().items() if "{sums" in name}

    wanted = {
        "gateway_function_invocation_inflight{sums}": 5.0,
        "gateway_function_invocation_total{sums,200}": 17.0,
        "gateway_functions_seconds_sum{sums,200}": 8.5,
        "gateway_service_count{sums}": 3.0,
        "gateway_service_ready_count{sums}": 3.0,
    }
    assert wait_until(lambda: seen() == wanted, timeout_s=10), seen()


def test_samples_of_two_pods_are_one_series_with_honest_gaps(watched):
    """The pods look at different moments and tell different counts: in turn they would flap, with half the gaps."""
    one, two = watched.pods
    one.tell("series", desired=2, ready=2)
    two.tell("series", desired=1, ready=0)
    start_ns = utc_ns()
    assert wait_until(lambda: len(watched.samples("series", start_ns)) >= 6, timeout_s=20)
    samples = watched.samples("series", start_ns)
    times = [at_ns for at_ns, _, _ in samples]
    assert times == sorted(set(times))
    assert 0.45 < statistics.median((b - a) / 1e9 for a, b in pairwise(times)) < 0.55
    assert len({(desired, ready) for _, desired, ready in samples}) == 1
    rows = list(sample_rows(watched.prometheus, ("series",), start_ns, utc_ns()))
    assert all(0 < row.age_s < 1.25 for row in rows)


def test_nothing_is_drained_before_every_pod_has_said_so(watched):
    one, two = watched.pods
    one.tell("drains", desired=1, ready=1, in_flight=0)
    two.tell("drains", desired=1, ready=1, in_flight=1)
    start_ns = utc_ns()
    seen = set()

    def both_told():
        in_flight = watched.prometheus.in_flight_since(start_ns).get("drains")
        seen.add(in_flight)
        return in_flight is not None

    assert wait_until(both_told, timeout_s=10, interval_s=0.005)
    assert seen - {None} == {1}, "one pod's word was taken for both"
    two.tell("drains", desired=1, ready=1, in_flight=0)
    assert drain(watched.prometheus, ("drains",))


def test_where_nobody_tells_of_calls_in_flight_they_are_those_started_and_not_finished(watched):
    """As the community edition's gateway: who was never called has nothing in flight."""
    one, two = watched.pods
    one.count("counted", started=5, finished=3)
    two.count("counted", started=2, finished=2)
    one.count("first", started=1)
    two.count("never")
    asked = lambda: watched.prometheus.in_flight_since(0)  # noqa: E731
    assert wait_until(lambda: {"counted": 2, "first": 1, "never": 0}.items() <= asked().items(), timeout_s=10), asked()


def test_ready_replicas_are_those_of_scrapes_from_after_the_moment(watched):
    one, two = watched.pods
    one.tell("fresh", desired=1, ready=1)
    two.tell("fresh", desired=1, ready=1)
    assert wait_until(lambda: watched.prometheus.ready_since(0).get("fresh") == 1, timeout_s=10)
    assert "fresh" not in watched.prometheus.ready_since(utc_ns() + 10**12)


def test_a_pod_that_is_gone_holds_nothing_up(watched):
    one, two = watched.pods
    one.tell("goes", desired=1, ready=1, in_flight=0)
    two.tell("goes", desired=1, ready=1, in_flight=3)
    assert wait_until(lambda: watched.prometheus.in_flight_since(0).get("goes") == 3, timeout_s=10)
    two.gone = True
    try:
        start_ns = utc_ns()
        assert wait_until(lambda: watched.prometheus.in_flight_since(start_ns).get("goes") == 0, timeout_s=10)
    finally:
        two.gone = False


@pytest.mark.long
@pytest.mark.timeout(180)
def test_what_was_heard_before_prometheus_was_restarted_holds_nothing_up(tmp_path):
    """Another function, another port of the gateway: their last samples count as present for five minutes."""
    pod = Pod()
    pod.tell("earlier", desired=1, ready=1, in_flight=2)
    _watch(tmp_path, pod, "earlier")
    pod.values = {}
    pod.tell("now", desired=1, ready=1)
    with contextlib.ExitStack() as stack:
        again = _watch(tmp_path, pod, "now", stack)
        # As a run asks: again and again for what was scraped since it ended.
        since_ns = utc_ns()
        assert wait_until(lambda: again.in_flight_since(since_ns) == {"now": 0}, timeout_s=60)


def _watch(folder: Path, pod: Pod, function: str, stack: contextlib.ExitStack | None = None) -> Prometheus:
    """Until the function was seen, or as long as the stack lasts."""
    with contextlib.ExitStack() as own:
        kept = stack or own
        port = _start(folder, [urlsplit(kept.enter_context(serving(pod.answer))).netloc], kept)
        seen = Prometheus(f"http://fave:test@127.0.0.1:{port}")
        assert wait_until(lambda: seen.ready_since(0).get(function) == 1, timeout_s=30)
        return seen


def test_a_wrong_password_is_named_with_status_and_remedy_and_without_the_password(watched):
    for url in (watched.url, watched.with_password("wrong-secret"), watched.with_password("wro%40ng@secret")):
        with pytest.raises(PlatformError) as caught:
            Prometheus(url).replicas()
        text = str(caught.value)
        assert f"Prometheus at {watched.url} answers 401" in text
        assert "user and password stand in PROMETHEUS_URL" in text
        assert "secret" not in text


def test_a_question_that_is_refused_is_named_with_its_reason(watched):
    with pytest.raises(PlatformError, match=r"(?s)answers 404 to .*hint: PROMETHEUS_URL is the address below which"):
        Prometheus(watched.with_password("test") + "/nowhere").replicas()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, b"forbidden", r"answers 403 to .*: forbidden\n  hint: the user in PROMETHEUS_URL may not ask"),
        (404, b"no such page", r"answers 404 .*hint: PROMETHEUS_URL is the address below which /api/v1/query is"),
        (400, b'{"error": "parse error"}', r"answers 400 .*parse error"),
        (503, b"query timed out", r"answers 503 .*query timed out"),
        (500, b"x" * 5000, r"answers 500 .*xxx"),
        (200, b"<html>Please log in</html>", "as no Prometheus does"),
        (200, b"{}", "as no Prometheus does"),
        (200, b'{"data": null}', "as no Prometheus does"),
        (200, b"[]", "as no Prometheus does"),
    ],
)
def test_an_answer_that_is_none_is_named_by_its_status(status, body, said):
    with (
        serving(lambda _: (status, {}, body)) as url,
        pytest.raises(PlatformError, match=rf"(?s)Prometheus at .*{said}"),
    ):
        Prometheus(url).replicas()


def test_a_prometheus_that_is_not_there_is_named_without_its_password():
    with pytest.raises(PlatformError, match="does not answer") as caught:
        Prometheus(f"http://u:se@cret@127.0.0.1:{free_port()}").replicas()
    assert "cret" not in str(caught.value)
