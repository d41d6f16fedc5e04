"""What `make cluster-up` puts beside an OpenFaaS: valid for three versions of Kubernetes, and allowed to look only."""

from __future__ import annotations

import kubernetes_validate
import pytest
import yaml

from fave.settings import ROOT
from platforms import deployed, plain_objects, stack
from regimes.model import resolve
from workloads.model import SHIPPED, load

pytestmark = pytest.mark.unit

FOLDER = ROOT / "platforms" / "manifests"
SETS = {path.name: path for path in sorted(FOLDER.iterdir())}
LISTED = {
    name: yaml.safe_load((path / "kustomization.yaml").read_text(encoding="utf-8")) for name, path in SETS.items()
}


def objects(name):
    """Of one set, without those that it takes over from another."""
    files = [SETS[name] / each for each in LISTED[name]["resources"] if each.endswith(".yaml")]
    return [each for path in files for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


OBJECTS = [each for name in SETS for each in objects(name)]
PODS = {
    each["metadata"]["name"]: each["spec"]["template"]["spec"]
    for each in OBJECTS
    if each["kind"] in ("Deployment", "Job")
}


def test_every_file_is_listed():
    for name, folder in SETS.items():
        assert {path.name for path in folder.iterdir()} - {"kustomization.yaml"} == {
            each for each in LISTED[name]["resources"] if each.endswith(".yaml")
        }


@pytest.mark.parametrize("version", ["1.28", "1.31", "1.34"])
def test_every_object_is_what_kubernetes_expects(version):
    for each in OBJECTS:
        kubernetes_validate.validate(each, version, strict=True)


def test_pods_run_restricted_and_bounded():
    assert PODS
    for name, pod in PODS.items():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        # The benchmark alone has something to ask of the cluster.
        assert pod.get("automountServiceAccountToken", True) is (name == "bench")
        for container in pod["containers"]:
            own = container["securityContext"]
            assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (False, True)
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_images_are_pinned():
    pinned = {each["name"]: each["newTag"] for listed in LISTED.values() for each in listed.get("images", ())}
    assert {container["image"] for pod in PODS.values() for container in pod["containers"]} == pinned.keys()
    assert "latest" not in pinned.values()


def rules(name):
    return [rule for each in objects(name) if each["kind"] in ("Role", "ClusterRole") for rule in each["rules"]]


def test_fave_may_look_and_nothing_else():
    assert {verb for rule in rules("base") for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert "secrets" not in {name for rule in rules("base") for name in rule["resources"]}


def test_with_plain_deployments_it_may_make_those_and_their_services_in_one_namespace():
    assert {each["kind"] for each in objects("plain")} == {"Role", "RoleBinding"}, "of one namespace"
    assert {each["metadata"]["namespace"] for each in objects("plain")} == {"openfaas-fn"}
    assert {name for rule in rules("plain") for name in rule["resources"]} == {
        "deployments",
        "deployments/scale",
        "services",
    }


@pytest.mark.parametrize("version", ["1.28", "1.31", "1.34"])
def test_a_function_as_plain_objects_is_what_kubernetes_expects_and_runs_restricted(version):
    work = load(SHIPPED)
    (policy,) = resolve("cold", {"stage-search": work.functions["stage-search"]}).values()
    spec = stack.spec(work, "stage-search", policy, "cold", stack.load(environment={}))
    made = plain_objects.deployment(spec, work.functions["stage-search"], 0)
    for each in (made, plain_objects.service(spec)):
        kubernetes_validate.validate(each, version, strict=True)
    pod = made["spec"]["template"]
    assert not [name for name in pod["metadata"]["labels"] if "scale" in name], "a regime must not replace pods"
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    (container,) = pod["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/_/ready"
    assert (container["resources"]["limits"], container["securityContext"]["capabilities"]) == (
        spec.limits,
        {"drop": ["ALL"]},
    )
    assert deployed.differences(spec, plain_objects.status_of(made, 0)) == []


def test_who_may_reach_what_is_said_for_every_pod():
    policies = [each["spec"]["podSelector"] for each in OBJECTS if each["kind"] == "NetworkPolicy"]
    assert {} in policies, "nobody reaches what no other policy opens"
