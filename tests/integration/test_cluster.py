"""Kubernetes' own client against a server that speaks the part of its API that FAVE reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import yaml

from fave.errors import PlatformError
from fave.processes import free_port
from platforms.kubernetes_api import Cluster
from tests.support.http_server import Answer, Heard, serving

pytestmark = pytest.mark.integration

S = 1_000_000_000
T0 = 1_800_000_000


def at(s: int) -> str:
    return datetime.fromtimestamp(T0 + s, tz=UTC).isoformat().replace("+00:00", "Z")


def pod(name, *, created, ready=None, ended=None, reason="", evicted=False):
    state = {"terminated": {"exitCode": 137, "reason": reason, "finishedAt": at(ended)}} if ended else {"running": {}}
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": at(ready)}] if ready else []
    container = {
        "name": "f",
        "image": "f:1",
        "imageID": "registry/f@sha256:abc",
        "ready": True,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    }
    return {
        "metadata": {"name": name, "labels": {"faas_function": "stage-search"}, "creationTimestamp": at(created)},
        "spec": {"containers": [{"name": "f", "image": "f:1"}]},
        "status": {
            "conditions": conditions,
            "containerStatuses": [container],
            "reason": "Evicted" if evicted else None,
        },
    }


def node(pressure="False", since=0):
    info = dict.fromkeys(
        (
            "bootID",
            "containerRuntimeVersion",
            "kubeProxyVersion",
            "machineID",
            "osImage",
            "systemUUID",
            "operatingSystem",
        ),
        "-",
    )
    return {
        "metadata": {"name": "n"},
        "status": {
            "capacity": {"cpu": "4", "memory": "16Gi"},
            "nodeInfo": info | {"kubeletVersion": "v1.33.1", "kernelVersion": "6.1", "architecture": "amd64"},
            "conditions": [{"type": "MemoryPressure", "status": pressure, "lastTransitionTime": at(since)}],
        },
    }


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A function that takes pods and nodes and gives what `find` finds."""
    lists = {"pods": [], "nodes": [node()]}

    def answer(heard: Heard) -> Answer:
        what = heard.path.partition("?")[0].rpartition("/")[2]
        form = {"Content-Type": "application/json"}
        if what not in lists:
            return 403, form, b"{}"
        listed = {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": lists[what]}
        return 200, form, json.dumps(listed).encode()

    with serving(answer) as url:
        path = tmp_path / "config"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                }
            ),
            encoding="utf-8",
        )
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield lists


def test_pods_become_replica_rows_with_the_times_that_kubernetes_has(cluster):
    cluster["pods"] = [pod("a", created=1, ready=4), pod("b", created=2, ready=5, ended=9, reason="OOMKilled")]
    rows = Cluster.find().replica_rows(["stage-search"], T0 * S, (T0 + 60) * S)
    assert [(row.replica_id, row.event, row.at_ns // S - T0) for row in rows] == [
        ("a", "start", 1),
        ("b", "start", 2),
        ("a", "ready", 4),
        ("b", "ready", 5),
        ("b", "oom_killed", 9),
    ]
    assert {row.source for row in rows} == {"kubernetes"}


def test_only_what_happened_in_the_run_to_the_functions_in_question_counts(cluster):
    cluster["pods"] = [pod("a", created=1, ready=4)]
    found = Cluster.find()
    assert [row.event for row in found.replica_rows(["stage-search"], (T0 + 2) * S, (T0 + 60) * S)] == ["ready"]
    assert found.replica_rows(["stage-librosa"], T0 * S, (T0 + 60) * S) == []


def test_pressure_and_evictions_since_the_start_are_told(cluster):
    found = Cluster.find()
    assert found.strain(T0 * S) == (0.0, 0)
    cluster["nodes"] = [node(), node("True", since=1)]
    cluster["pods"] = [pod("a", created=1, ended=8, evicted=True), pod("b", created=1)]
    assert found.strain((T0 + 5) * S) == (1.0, 1)
    bare = pod("c", created=1, ready=7, evicted=True)
    del bare["status"]["containerStatuses"]
    cluster["pods"] = [bare]
    assert found.strain((T0 + 5) * S).evictions == 1, "it has no containers any more, but its conditions changed"
    cluster["pods"] = []
    cluster["nodes"] = [node("False", since=7)]
    assert found.strain((T0 + 5) * S).memory_pressure_share == 1.0, "it was there during the run"
    assert found.strain((T0 + 10) * S) == (0.0, 0)


def test_nodes_and_image_digests_are_for_the_manifest(cluster):
    cluster["pods"] = [pod("a", created=1)]
    found = Cluster.find()
    assert found.images() == {"stage-search": "registry/f@sha256:abc"}
    assert found.nodes()[0]["kubelet"] == "v1.33.1"


def test_what_kubernetes_refuses_is_named_with_the_remedy(cluster):
    del cluster["nodes"]
    with pytest.raises(PlatformError, match=r"(?s)does not answer list_node \(Forbidden\).*`list` on pods and nodes"):
        Cluster.find().strain(T0 * S)


def test_without_a_cluster_there_is_none_and_a_wrong_file_is_an_error(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert Cluster.find() is None
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(PlatformError, match="KUBECONFIG="):
        Cluster.find()


def test_a_server_that_is_not_there_is_an_error_and_not_a_hang(monkeypatch, tmp_path, cluster):
    text = (tmp_path / "config").read_text(encoding="utf-8")
    server = yaml.safe_load(text)["clusters"][0]["cluster"]["server"]
    (tmp_path / "config").write_text(text.replace(server, f"http://127.0.0.1:{free_port()}"), encoding="utf-8")
    with pytest.raises(PlatformError, match="does not answer list_node"):
        Cluster.find().strain(0)
