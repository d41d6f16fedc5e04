"""What `make cluster-up` puts beside an OpenFaaS: valid for three versions of Kubernetes, and allowed to look only."""

from __future__ import annotations

import kubernetes_validate
import pytest
import yaml

from fave.settings import ROOT

pytestmark = pytest.mark.unit

FOLDER = ROOT / "platforms" / "manifests"
LISTED = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
OBJECTS = [
    each for name in LISTED["resources"] for each in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
]
PODS = [each["spec"]["template"]["spec"] for each in OBJECTS if each["kind"] == "Deployment"]


def test_every_file_is_listed():
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*LISTED["resources"], "kustomization.yaml"}


@pytest.mark.parametrize("version", ["1.28", "1.31", "1.34"])
def test_every_object_is_what_kubernetes_expects(version):
    for each in OBJECTS:
        kubernetes_validate.validate(each, version, strict=True)


def test_pods_run_restricted_and_bounded():
    assert PODS
    for pod in PODS:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            own = container["securityContext"]
            assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (False, True)
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_images_are_pinned():
    pinned = {each["name"]: each["newTag"] for each in LISTED["images"]}
    assert {container["image"] for pod in PODS for container in pod["containers"]} == pinned.keys()
    assert "latest" not in pinned.values()


def test_fave_may_look_and_nothing_else():
    rules = [rule for each in OBJECTS if each["kind"] in ("Role", "ClusterRole") for rule in each["rules"]]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert "secrets" not in {name for rule in rules for name in rule["resources"]}


def test_who_may_reach_what_is_said_for_every_pod():
    policies = [each["spec"]["podSelector"] for each in OBJECTS if each["kind"] == "NetworkPolicy"]
    assert {} in policies, "nobody reaches what no other policy opens"
