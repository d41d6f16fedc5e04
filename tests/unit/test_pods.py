"""What became of pods, from what Kubernetes streams: steps of a start, when one may be sent to, how one ends."""

from __future__ import annotations

import pytest

from platforms.pods import Pods, failed_starts

pytestmark = pytest.mark.unit


def pod(name="f-1", *, ready=False, running=None, waiting="", ended=None, restarts=0, deleted=False, phase="Running"):
    state = {"waiting": {"reason": waiting}} if waiting else {}
    state |= {"running": {}} if (ready if running is None else running) else {}
    container = {"state": state, "restartCount": restarts, "lastState": {"terminated": ended} if ended else {}}
    if ended and not state:
        container["state"] = {"terminated": ended}
    meta = {"name": name, "labels": {"faas_function": "f"}} | ({"deletionTimestamp": "now"} if deleted else {})
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": meta, "status": {"phase": phase, "conditions": conditions, "containerStatuses": [container]}}


def slices(*names, ready=True):
    there = [{"targetRef": {"name": name}, "conditions": {"ready": ready}} for name in names]
    return {"metadata": {"name": "slice"}, "endpoints": there}


def told(pods):
    return [(row.at_ns, row.event, row.reason) for row in pods.rows]


def test_a_pod_is_routable_once_it_is_ready_and_among_the_endpoints():
    pods = Pods()
    pods.pod("ADDED", pod(running=False, phase="Pending"), 1)
    pods.event({"metadata": {"uid": "a"}, "involvedObject": {"name": "f-1"}, "reason": "Pulled"}, 2)
    pods.event({"metadata": {"uid": "a"}, "involvedObject": {"name": "f-1"}, "reason": "Pulled"}, 2)
    pods.pod("MODIFIED", pod(running=True), 3)
    pods.pod("MODIFIED", pod(ready=True), 4)
    pods.endpoints("MODIFIED", slices("f-1", ready=False), 5)
    pods.endpoints("MODIFIED", slices("f-1"), 6)
    assert told(pods) == [(1, "start", ""), (2, "pulled", ""), (3, "started", ""), (6, "ready", "")]
    assert pods.routable_at_ns == {"f-1": 6}


def test_without_rights_for_endpoints_its_readiness_has_to_do():
    pods = Pods(with_endpoints=False)
    pods.pod("ADDED", pod(ready=True), 4)
    assert pods.routable_at_ns == {"f-1": 4}


def test_what_was_there_before_is_known_and_no_event():
    pods = Pods()
    pods.endpoints("LISTED", slices("f-1"), 1)
    pods.pod("LISTED", pod(ready=True), 2)
    assert (told(pods), pods.routable_at_ns, pods.alive()) == ([], {"f-1": 0}, {"f-1": "f"})
    pods.pod("MODIFIED", pod(ready=True, deleted=True), 3)
    pods.pod("DELETED", pod(ready=False, deleted=True), 4)
    assert told(pods) == [(3, "stop", "")], "it ends when it is to be sent to no more, and once"


@pytest.mark.parametrize(
    ("after", "event", "reason"),
    [
        (pod(ended={"reason": "OOMKilled", "exitCode": 137}, restarts=1), "oom_killed", "OOMKilled"),
        (pod(ended={"reason": "Error", "exitCode": 3}, restarts=1), "crashed", "Error, exit code 3"),
        (pod(phase="Failed") | {"status": {"phase": "Failed", "reason": "Evicted"}}, "stop", "Evicted"),
    ],
)
def test_an_end_is_told_with_its_reason(after, event, reason):
    pods = Pods(with_endpoints=False)
    pods.pod("LISTED", pod(ready=True), 1)
    pods.pod("MODIFIED", after, 2)
    assert (2, event, reason) in told(pods)


def test_a_container_that_starts_again_is_routable_again():
    pods = Pods(with_endpoints=False)
    pods.pod("LISTED", pod(ready=True), 1)
    pods.pod("MODIFIED", pod(ended={"reason": "OOMKilled", "exitCode": 137}, restarts=1), 2)
    pods.pod("MODIFIED", pod(ended={"reason": "OOMKilled", "exitCode": 137}, restarts=1, ready=True), 3)
    assert [event for _, event, _ in told(pods)] == ["oom_killed", "start", "started", "ready"]


def test_an_image_that_cannot_be_pulled_holds_a_start_up_and_is_told_once():
    pods = Pods()
    for at in (1, 2, 3):
        pods.pod("ADDED" if at == 1 else "MODIFIED", pod(running=False, waiting="ErrImagePull", phase="Pending"), at)
    pods.pod("MODIFIED", pod(running=False, waiting="ImagePullBackOff", phase="Pending"), 4)
    failed = [(at, reason) for at, event, reason in told(pods) if event == "held_up"]
    assert failed == [(1, "ErrImagePull"), (4, "ImagePullBackOff")]


def test_pods_of_nobodys_function_are_nobodys_business():
    pods = Pods()
    pods.pod("ADDED", {"metadata": {"name": "x", "labels": {}}, "status": {}}, 1)
    assert (told(pods), pods.alive()) == ([], {})


def test_what_ended_or_ends_already_when_it_is_first_listed_is_no_event_of_this_watch():
    pods = Pods(with_endpoints=False)
    crashed = {"reason": "Error", "exitCode": 1}
    pods.pod("LISTED", pod("ends", ready=True, deleted=True), 1)
    pods.pod("LISTED", pod("restarted", ready=True, restarts=2, ended=crashed), 1)
    pods.pod("DELETED", pod("ends", deleted=True), 2)
    assert told(pods) == []


def test_why_a_pod_does_not_start_is_told_of_one_that_nobody_watched_unless_it_was_told_to_end():
    crashed = {"reason": "Error", "exitCode": 126}
    assert failed_starts(pod(waiting="CrashLoopBackOff", ended=crashed, restarts=2)) == ["Error, exit code 126"] * 2
    assert failed_starts(pod(waiting="ErrImagePull")) == ["ErrImagePull"]
    assert failed_starts(pod(ready=True)) == []
    assert failed_starts(pod(ended={"reason": "Completed", "exitCode": 0}, deleted=True)) == []
