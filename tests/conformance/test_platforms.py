"""What FAVE relies on of any platform: the embedded one, and OpenFaaS on Kubernetes as it was seen (a double).

With PLATFORM (kubernetes, openfaas, plain) the one that the environment names is tried instead (GATEWAY_URL,
PROMETHEUS_URL, KUBECONFIG, …), with PLATFORM_WORKLOAD: `PLATFORM=kubernetes PLATFORM_WORKLOAD=my.yml pytest -m
platform`. It deploys one function of its own name, and removes it.
"""

from __future__ import annotations

import os

import msgspec
import pytest

from fave.calling import Caller
from fave.clock import utc_ns
from fave.endpoints import Endpoints, find
from fave.errors import PlatformError
from fave.images import image_of
from fave.processes import wait_until
from platforms import session
from regimes.apply import apply, switch
from regimes.model import resolve
from tests.conftest import ECHO
from tests.support.cluster import cluster_double, kubeconfig
from workloads.model import Function, Request, Workload
from workloads.model import load as workload_of

pytestmark = [pytest.mark.integration, pytest.mark.platform]

NAME = "fave-contract"
ELSEWHERE = os.environ.get("PLATFORM", "")
WAIT_S = 60


def work_with(function):
    return Workload(description="c", functions={NAME: function}, requests={"ask": Request(function=NAME)})


@pytest.fixture(params=["here"] if ELSEWHERE else ["embedded", "kubernetes", "plain"])
def tried(request, tmp_path, monkeypatch):
    """(platform, workload of one function)"""
    if request.param == "embedded":
        platform = request.getfixturevalue("platform").here
        yield platform, work_with(Function(handler=ECHO, memory_limit_mb=128))
        platform.remove(NAME)
    elif request.param != "here":
        monkeypatch.setenv("PLATFORM", request.param)
        with cluster_double() as (_, url):
            (tmp_path / "config").write_text(kubeconfig(url), encoding="utf-8")
            monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
            named = dict.fromkeys(("gateway_user", "gateway_password", "access_key", "secret_key"), "")
            yield (
                session.at(Endpoints(gateway_url=url, prometheus_url=url, s3_endpoint_url="", **named)),
                work_with(Function(image="f:1", memory_limit_mb=128)),
            )
    else:
        name, about = next(iter(workload_of(os.environ["PLATFORM_WORKLOAD"]).functions.items()))
        platform = session.at(find())
        yield platform, work_with(msgspec.structs.replace(about, image=about.image or image_of(name)))
        platform.remove(NAME)


def bring(platform, work, regime="warm", **options):
    return apply(platform, work, regime, resolve(regime, work.functions), lambda _: None, **options)


def there(platform):
    return platform.counts()[NAME][:2]


def test_what_is_deployed_is_counted_by_the_platform_and_by_its_witness(tried):
    platform, work = tried
    assert bring(platform, work).initial_ready == {NAME: 1}
    assert there(platform) == (1, 1)
    asked_ns = utc_ns()
    platform.scale(NAME, 2)
    assert wait_until(lambda: there(platform) == (2, 2), timeout_s=WAIT_S)
    assert wait_until(lambda: platform.ready_since(asked_ns).get(NAME) == 2, timeout_s=WAIT_S)
    assert wait_until(lambda: platform.witnessed()[NAME] == (2, 2), timeout_s=WAIT_S)


def test_a_policy_stands_in_the_platforms_words_and_is_exchanged_under_traffic(tried):
    platform, work = tried
    bring(platform, work)
    before = platform.standing([NAME])[NAME]
    assert before["com.openfaas.scale.min"] == "1"
    found = switch(platform, work, "burst-ready", resolve("burst-ready", work.functions), lambda _: None)
    after = platform.standing([NAME])[NAME]
    assert after != before
    assert found.ready[NAME] >= int(after["com.openfaas.scale.min"])


def test_a_function_at_zero_is_woken_by_a_call(tried):
    platform, work = tried
    bring(platform, work, "cold")
    assert there(platform) == (0, 0)
    assert Caller(platform.endpoints.gateway_url).invoke(NAME, b"{}").status_code < 500
    assert there(platform)[1] >= 1


def test_starts_and_ends_of_a_run_are_told_in_order_of_time(tried):
    platform, work = tried
    if not platform.capabilities().replica_events:
        pytest.skip("this platform tells of no replica")
    with platform.observe([NAME]) as watch:
        bring(platform, work, "cold")
        began_ns = watch.begin()
        platform.scale(NAME, 1)
        happened = lambda: [row.event for row in watch.end().rows if row.event in ("start", "ready", "stop")]  # noqa: E731
        # It is counted as soon as it is ready; who may be sent to is told a moment later.
        assert wait_until(lambda: happened()[-1:] == ["ready"], timeout_s=WAIT_S)
        assert wait_until(lambda: there(platform) == (1, 1), timeout_s=WAIT_S)
        platform.scale(NAME, 0)
        assert wait_until(lambda: happened()[-1:] == ["stop"], timeout_s=WAIT_S)
        seen = watch.end()
    assert happened() == ["start", "ready", "stop"]
    times = [row.at_ns for row in seen.rows]
    assert times == sorted(times)
    assert began_ns <= times[0] <= times[-1] <= seen.until_ns
    (replica,) = {row.replica_id for row in seen.rows if row.replica_id}
    assert replica in seen.routable_at_ns or replica in seen.pods_routable_at_ns


def test_counts_are_seen_through_a_whole_run(tried):
    platform, work = tried
    with platform.observe([NAME]) as watch:
        bring(platform, work)
        watch.begin()
        enough = lambda: sum(row.ready is not None for row in watch.end().rows) >= 3  # noqa: E731
        assert wait_until(enough, timeout_s=WAIT_S)
        counted = [row for row in watch.end().rows if row.ready is not None]
    assert {(row.desired, row.ready) for row in counted} == {(1, 1)}
    assert all(row.function == NAME for row in counted)


def test_somebody_elses_function_is_refused_and_ones_own_is_known(tried):
    platform, work = tried
    bring(platform, work)
    assert NAME in platform.changeable(work, [NAME])
    borrowing = msgspec.structs.replace(work, deploy=False)
    limited = {NAME: msgspec.structs.replace(work.functions[NAME], memory_limit_mb=333)}
    with pytest.raises(PlatformError, match=r"memory_limit_mb: 333|the workload says `deploy: false`"):
        platform.changeable(msgspec.structs.replace(borrowing, functions=limited), [NAME])


def test_a_platform_says_what_it_is_without_addresses_or_secrets(tried):
    platform, _ = tried
    facts = msgspec.json.encode(platform.facts()).decode()
    assert platform.endpoints.gateway_url not in facts
    assert "password" not in facts.lower()
    assert platform.failed_starts(utc_ns()) == []
    assert platform.logs(NAME, utc_ns(), 5) == []


def test_what_is_removed_is_gone(tried):
    platform, work = tried
    bring(platform, work)
    platform.remove(NAME)
    assert wait_until(lambda: NAME not in platform.counts(), timeout_s=WAIT_S)
    platform.remove(NAME)  # which is no error
