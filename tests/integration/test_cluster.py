"""OpenFaaS on Kubernetes: FAVE's own clients against a gateway and a cluster that behave as real ones were seen to."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import msgspec
import pytest

from experiments.collect import Sources, _grade
from fave.calling import Caller
from fave.campaign.experiment import Settle
from fave.campaign.validity import Gates
from fave.clock import utc_ns
from fave.endpoints import Endpoints
from fave.errors import PlatformError
from fave.processes import free_port, wait_until
from fave.settings import Duration
from fave.wire.records import StageRow
from platforms import session
from platforms.idler import run as idling
from platforms.kubernetes_api import Cluster
from platforms.openfaas_kubernetes import OpenFaasOnKubernetes
from platforms.probe import probe, refused, unmeasurable
from regimes.apply import apply, switch
from regimes.model import resolve
from tests.support.cluster import Ways, cluster_double, kubeconfig, node
from workloads.model import Function, Request, Workload

pytestmark = pytest.mark.integration

S = 1_000_000_000
T0 = 1_800_000_000
WORK = Workload(
    description="d",
    functions={"f": Function(image="f:1", memory_limit_mb=128)},
    requests={"ask": Request(function="f")},
)


def at(s: int) -> str:
    return datetime.fromtimestamp(T0 + s, tz=UTC).isoformat().replace("+00:00", "Z")


def pod(name, *, created, ready=None, evicted=False):
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": at(ready)}] if ready else []
    container = {"name": "f", "image": "f:1", "imageID": "registry/f@sha256:abc", "ready": True, "restartCount": 0}
    meta = {"name": name, "labels": {"faas_function": "stage-search"}, "creationTimestamp": at(created)}
    status = {"conditions": conditions, "reason": "Evicted" if evicted else None}
    status["containerStatuses"] = [container | {"state": {"running": {}}, "lastState": {}}]
    return {"metadata": meta, "spec": {"containers": [{"name": "f", "image": "f:1"}]}, "status": status}


@pytest.fixture
def ways():
    return Ways()


@pytest.fixture
def double(ways, tmp_path, monkeypatch):
    with cluster_double(ways) as (double, url):
        (tmp_path / "config").write_text(kubeconfig(url), encoding="utf-8")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        double.url = url
        yield double


@pytest.fixture
def platform(double):
    named = dict.fromkeys(("gateway_user", "gateway_password", "access_key", "secret_key", "s3_endpoint_url"), "")
    platform = session.at(Endpoints(gateway_url=double.url, prometheus_url=double.url, **named))
    assert isinstance(platform, OpenFaasOnKubernetes)
    return platform


def bring(platform, regime="cold", cold_idle="4s"):
    policies = resolve(regime, WORK.functions)
    if regime == "cold":
        idle = Duration.parse(cold_idle)
        policies = {name: msgspec.structs.replace(each, idle_timeout=idle) for name, each in policies.items()}
    rule = Settle(timeout=Duration.parse("10s"))
    return apply(platform, WORK, regime, policies, lambda _: None, settle=rule)


def told(seen):
    return [row.event for row in seen.rows if row.event]


def test_a_regime_stands_as_it_was_asked_for_whatever_gets_in_the_way(platform, double):
    double.ways.conflicts, double.ways.lost = 3, 1
    with platform.observe(["f"]):
        assert bring(platform).initial_ready == {"f": 0}
    assert double.functions["f"]["labels"]["com.openfaas.scale.zero"] == "true"


def test_a_change_that_is_lost_again_and_again_is_an_error_that_says_what_stands(platform, double, monkeypatch):
    monkeypatch.setattr("platforms.deployed._READ_WITHIN_S", 0.2)
    with platform.observe(["f"]):
        bring(platform, "warm")
        double.ways.lost = 99
        with pytest.raises(PlatformError, match=r"(?s)f: the gateway took the deployment.*scale.min is '1', .* '2'"):
            bring(platform, "burst-ready")


def test_starts_and_ends_are_told_as_they_happen_with_the_pods_that_are_gone(platform, double):
    with platform.observe(["f"]) as watch:
        bring(platform)
        watch.begin()
        caller = Caller(double.url)
        assert caller.invoke("f", b"").status_code == 200
        (pod,) = double.pods_of("f")
        platform.scale("f", 0)
        assert wait_until(lambda: told(watch.end())[-1:] == ["stop"], timeout_s=10)
        seen = watch.end()
    assert told(seen) == ["start", "started", "ready", "stop"]
    assert seen.pods_routable_at_ns.keys() >= {pod["metadata"]["name"]}
    counts = [(row.desired, row.ready) for row in seen.rows if row.ready is not None]
    assert counts[0] == counts[-1] == (0, 0)
    assert all(row.age_s < 5 for row in seen.rows)


def test_a_cold_wait_is_what_the_caller_waited_behind_a_slow_probe(platform, double):
    double.ways.probe_s = 1.5
    rows = []
    with platform.observe(["f"]) as watch:
        bring(platform)
        watch.begin()
        for _ in range(2):
            sent_ns = utc_ns()
            reply = Caller(double.url).invoke("f", b"")
            stamp = lambda name, headers=reply.headers: int(headers[f"X-Fave-{name}"])  # noqa: E731
            row = StageRow(request_id="r", invocation_id="i", stage="f", sent_at_ns=sent_ns, returned_at_ns=utc_ns())
            row.replica_id, row.invocations_before = reply.headers["X-Fave-Replica-Id"], stamp("Invocations-Before")
            row.received_at_ns = row.started_at_ns = stamp("Received-At")
            row.ready_at_ns = stamp("Ready-At")
            rows.append(row)
        seen = watch.end()
    _grade(rows, Sources(None, WORK, seen, {"f": 0}))
    waited_s = (rows[0].received_at_ns - rows[0].sent_at_ns) / 1e9
    assert waited_s > 1.5
    assert [(row.cold, row.evidence) for row in rows] == [(True, "routed"), (False, "routed")]
    assert abs(rows[0].cold_wait_s - waited_s) < 0.1
    assert (rows[0].ready_at_ns - rows[0].sent_at_ns) / 1e9 < waited_s - 1.4, "what the process says is less"


def test_a_stream_that_breaks_off_goes_on_and_says_how_long_nobody_listened(platform, double):
    with platform.observe(["f"]) as watch:
        bring(platform)
        watch.begin()
        double.ways.gone = True
        assert wait_until(lambda: not double.ways.gone, timeout_s=10)
        double.scale("f", 1)
        assert wait_until(lambda: "ready" in told(watch.end()), timeout_s=10)
        missed_s = watch.end().missed_s
        double.ways.away = True
        double.scale("f", 0)
        time.sleep(2)
        double.ways.away = False
        assert wait_until(lambda: told(watch.end())[-1:] == ["stop"], timeout_s=10)
        assert watch.end().missed_s > missed_s + 1.5


@pytest.mark.parametrize("replaces", [True, False])
def test_a_switch_waits_for_the_pods_that_a_platform_replaces_and_names_their_functions(platform, double, replaces):
    double.ways.replaces = replaces
    with platform.observe(["f"]):
        bring(platform, "warm")
        before = double.ready_of("f")
        double.ways.probe_s = 1.0
        done = switch(platform, WORK, "burst-ready", resolve("burst-ready", WORK.functions), lambda _: None)
    assert done.replaced == ["f"] * replaces
    assert bool(set(before) & set(double.ready_of("f"))) is not replaces
    assert (done.effective_at_ns - done.requested_at_ns) / 1e9 > 1.0


def test_an_image_that_cannot_be_pulled_ends_the_wait_with_its_name_for_it(platform, double):
    double.ways.pulls = False
    began_s = time.monotonic()
    with platform.observe(["f"]), pytest.raises(PlatformError, match=r"(?s)f cannot start.*ErrImagePull"):
        bring(platform, "warm")
    assert time.monotonic() - began_s < 8


def test_the_same_is_said_where_nobody_watches(platform, double):
    double.ways.pulls = False
    with pytest.raises(PlatformError, match=r"(?s)f cannot start.*ErrImagePull"):
        bring(platform, "warm")


def test_a_function_that_is_still_being_deleted_is_waited_for(platform, double):
    double.ways.deleting = 3
    assert bring(platform, "warm").initial_ready == {"f": 1}


def test_what_pods_wrote_is_kept_when_they_are_gone(platform, double):
    with platform.observe(["f"]):
        bring(platform, "warm")
        assert wait_until(lambda: platform.logs("f", 0, 10), timeout_s=10)
        platform.scale("f", 0)
        assert [line["text"] for line in platform.logs("f", 0, 10)] == ["hello from the pod"]
    assert platform.logs("nobody", 0, 10) == []


def test_without_the_right_to_watch_endpoints_pods_have_to_do(platform, double):
    double.ways.forbidden = {"endpointslices"}
    with platform.observe(["f"]) as watch:
        bring(platform, "warm")
        assert "f" in {row.function for row in watch.end().rows}


def tried(platform, **options):
    return probe(platform, WORK, say=lambda _: None, **options)


def test_a_probe_tells_what_the_platform_does_not_what_it_is_called(platform, double):
    # Long enough for calls that are made at once to meet.
    double.ways.work_s = 0.3
    found = tried(platform)
    told = {each.what: each.answer for each in found.found}
    assert told | {"provider": "faas-netes", "zero on demand": "yes", "wakes from zero": "yes", "queue": "none"} == told
    assert told | {"a policy replaces replicas": "yes", "asynchronous calls": "no", "ready metric": "no"} == told
    assert told | {"zero when idle": "no", "replica events": "yes", "deploys": "yes"} == told
    assert float(told["gateway counts"].split()[0]) < 1
    assert all(each.evidence for each in found.found)
    assert unmeasurable(found, Gates()) == []
    (problem,) = unmeasurable(msgspec.structs.replace(found, samples_every_s=15.0), Gates())
    assert problem.startswith("replica counts come every 15.0 s, and the gate replica_gap_s is 1.25 s: let Prometheus")
    assert double.functions == {}, "nothing is left of it"
    (problem,) = refused(found, resolve("cold", WORK.functions))
    assert problem.startswith("f: minimum 0, but nobody scales to zero here (by edition: without Pro's metrics")
    assert refused(found, resolve("cold", WORK.functions), idled=True) == []


def test_a_function_that_cannot_start_ends_the_probe_at_once_with_why(platform, double):
    """Seen on a node: each step of the probe waited for a minute."""
    double.ways.pulls = False
    with pytest.raises(PlatformError, match=r"fave-probe cannot start: .* ended before ready \(ErrImagePull\)"):
        tried(platform)
    assert double.functions == {}, "nothing is left of it"


def test_a_pod_that_is_not_wanted_any_more_counts_until_it_is_gone(platform, double):
    with platform.observe(["f"]):
        bring(platform, "warm")
        (there,) = double.pods_of("f")
        double.wanted["f"] = 0
        double.put("pods", "MODIFIED", there | {"metadata": there["metadata"] | {"deletionTimestamp": at(1)}})
        assert platform.counts()["f"] == (0, 0, 1, 0)
        double.put("pods", "DELETED", there)
        assert platform.counts()["f"] == (0, 0, 0, 0)


def test_a_regime_that_cannot_be_is_refused_in_words_before_anything_is_changed(platform, double):
    double.ways.raises_zero = True
    found = tried(platform)
    (problem,) = refused(found, resolve("cold", WORK.functions))
    assert problem == "f: minimum 0, but there is no zero here (202 to scaling to 0, and 1 are wanted still)"
    assert refused(found, resolve("warm", WORK.functions)) == []


@pytest.mark.long
def test_with_patience_it_is_known_who_scales_idle_functions_to_zero(platform, double, monkeypatch):
    monkeypatch.setattr("platforms.probe._IDLE_WITHIN_S", 13.0)
    found = tried(platform, patient=True)
    assert (found["zero when idle"], found["scales out"]) == ("no", "no")
    assert "nobody scales to zero here" in refused(found, resolve("cold", WORK.functions))[0]
    double.ways.idles = True
    assert tried(platform, patient=True)["zero when idle"] == "yes"


def test_the_idler_scales_to_zero_who_was_idle_and_nobody_else(platform, double):
    said, over = [], threading.Event()
    with platform.observe(["f"]) as watch:
        bring(platform, cold_idle="1s")
        idler = threading.Thread(target=idling, args=(platform, ["f"], said.append, over.is_set), kwargs={"dry": False})
        idler.start()
        try:
            watch.begin()
            for _ in range(6):  # in use for longer than its timeout
                assert Caller(double.url).invoke("f", b"").status_code == 200
                time.sleep(0.25)
            used_ns = utc_ns()
            assert wait_until(lambda: told(watch.end())[-1:] == ["stop"], timeout_s=20)
        finally:
            over.set()
            idler.join()
        (ended_ns,) = [row.at_ns for row in watch.end().rows if row.event == "stop"]
    assert (ended_ns - used_ns) / 1e9 > 0.7, "not before its timeout; a look may have come a moment after the call"
    assert said[0].endswith("of 1 s, scaled to zero")
    assert said[-1].startswith("scaled to zero 1 times")


def test_a_dry_idler_only_says_so(platform, double):
    said, over = [], threading.Event()
    bring(platform, cold_idle="500ms")
    platform.scale("f", 1)
    idler = threading.Thread(target=idling, args=(platform, ["f"], said.append, over.is_set), kwargs={"dry": True})
    idler.start()
    assert wait_until(lambda: said, timeout_s=20)
    over.set()
    idler.join()
    assert said[0].endswith("would be scaled to zero")
    assert double.wanted["f"] == 1


@pytest.fixture
def cluster(double):
    """Lists of what it has, by kind."""
    return double.objects


def listing(cluster, kind, *things):
    cluster[kind].clear()
    cluster[kind].update({f"{number}": thing for number, thing in enumerate(things)})


def test_pressure_and_evictions_since_the_start_are_told(cluster):
    found = Cluster.find()
    assert found.strain(T0 * S) == (0.0, 0)
    listing(cluster, "nodes", node(), node("True", since=at(1)))
    listing(cluster, "pods", pod("a", created=8, evicted=True), pod("b", created=1))
    assert found.strain((T0 + 5) * S) == (1.0, 1)
    bare = pod("c", created=1, ready=7, evicted=True)
    del bare["status"]["containerStatuses"]
    listing(cluster, "pods", bare)
    assert found.strain((T0 + 5) * S).evictions == 1, "it has no containers any more, but its conditions changed"
    listing(cluster, "pods")
    listing(cluster, "nodes", node("False", since=at(7)))
    assert found.strain((T0 + 5) * S).memory_pressure_share == 1.0, "it was there during the run"
    assert found.strain((T0 + 10) * S) == (0.0, 0)


def test_nodes_and_image_digests_are_for_the_manifest(cluster):
    listing(cluster, "pods", pod("a", created=1))
    found = Cluster.find()
    assert found.images() == {"stage-search": "registry/f@sha256:abc"}
    assert found.nodes()[0]["kubelet"] == "v1.31.1"


def test_how_a_pod_is_probed_and_where_it_runs_are_facts_of_a_campaign(cluster, monkeypatch):
    probe = {"httpGet": {"path": "/_/ready", "port": 8080}, "initialDelaySeconds": 2, "periodSeconds": 2}
    a_pod = pod("a", created=1)
    a_pod["spec"]["containers"][0] |= {"readinessProbe": probe, "imagePullPolicy": "Always"}
    a_pod["spec"]["nodeName"] = "node-1"
    listing(cluster, "pods", a_pod)
    found = Cluster.find()
    how = found.how_pods_start()["stage-search"]
    assert (how["imagePullPolicy"], how["readinessProbe"]["periodSeconds"]) == ("Always", 2)
    assert not found.is_here()
    here = node()
    here["status"]["addresses"] = [{"type": "InternalIP", "address": "127.0.0.1"}]
    listing(cluster, "nodes", here)
    assert found.is_here()
    monkeypatch.setenv("NODE_NAME", "node-2")
    assert not found.is_here(), "within a cluster the pods' node counts"
    monkeypatch.setenv("NODE_NAME", "node-1")
    assert found.is_here()


def test_what_kubernetes_refuses_is_named_with_the_remedy(double):
    double.ways.forbidden = {"nodes"}
    with pytest.raises(PlatformError, match=r"(?s)does not answer list_node \(Forbidden\).*`list` on pods and nodes"):
        Cluster.find().strain(T0 * S)


def test_a_wrong_file_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(PlatformError, match="KUBECONFIG="):
        Cluster.find()


def test_a_server_that_is_not_there_is_an_error_and_not_a_hang(tmp_path, double):
    (tmp_path / "config").write_text(kubeconfig(f"http://127.0.0.1:{free_port()}"), encoding="utf-8")
    with pytest.raises(PlatformError, match="does not answer list_node"):
        Cluster.find().strain(0)
