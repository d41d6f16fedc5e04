import pytest

from fave.errors import ConfigError
from fave.processes import places
from fave.scaling import may_stop, replicas_to_start, restart_delay_s
from local.gateway.model import Deployment, Policy, command_of, policy_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("policy", "now", "expected"),
    [
        ({}, {}, 0),
        ({}, {"waiting": 1}, 1),
        ({"max_replicas": 2}, {"waiting": 5}, 2),
        # One starts already: only what it will not cover needs another.
        ({}, {"waiting": 1, "starting": 1}, 0),
        ({}, {"waiting": 2, "starting": 1}, 1),
        ({"max_in_flight": 4}, {"waiting": 4}, 1),
        ({"max_in_flight": 4}, {"waiting": 5}, 2),
        ({"max_replicas": 1}, {"waiting": 3, "ready": 1, "in_flight": 1}, 0),
        # The planned part: OpenFaaS' capacity rule, only where it is asked for.
        (
            {"scaling_type": "capacity", "target_in_flight": 1, "target_proportion": 1.0},
            {"ready": 1, "in_flight": 1},
            0,
        ),
        (
            {"scaling_type": "capacity", "target_in_flight": 1, "target_proportion": 0.5},
            {"ready": 1, "in_flight": 1},
            1,
        ),
        ({"target_in_flight": 1, "target_proportion": 0.5}, {"ready": 1, "in_flight": 1}, 0),
    ],
)
def test_replicas_start_for_what_nothing_will_serve(policy, now, expected):
    counts = dict.fromkeys(("ready", "starting", "waiting", "in_flight", "free"), 0) | now
    with_policy = Policy(**policy)
    found = replicas_to_start(
        **counts,
        concurrency=with_policy.max_in_flight,
        max_replicas=with_policy.max_replicas,
        planned_per_replica=with_policy.planned_per_replica,
    )
    assert found == expected


@pytest.mark.parametrize(
    ("policy", "idle_s", "alive", "expected"),
    [
        ({"min_replicas": 0, "idle_timeout_s": 4}, 4, 1, True),
        ({"min_replicas": 0, "idle_timeout_s": 4}, 3.9, 1, False),
        ({"min_replicas": 1, "idle_timeout_s": 4}, 9, 1, False),
        ({"min_replicas": 1, "idle_timeout_s": 4}, 9, 2, True),
        ({"min_replicas": 0, "idle_timeout_s": 4, "scale_to_zero": False}, 9, 1, False),
    ],
)
def test_idle_replicas_go_after_the_time_out_down_to_min(policy, idle_s, alive, expected):
    about = Policy(**policy)
    assert may_stop(idle_s, about.idle_timeout_s, alive, about.keep_alive_floor) is expected


def test_restarts_back_off_and_stay_bounded():
    delays = [restart_delay_s(n) for n in range(20)]
    assert delays[:4] == [0, 0, 0.5, 1.0]
    assert delays == sorted(delays)
    assert delays[-1] == 30


def test_a_policy_is_read_from_labels_limits_and_environment():
    policy = policy_of(
        Deployment(
            service="f",
            labels={"com.openfaas.scale.min": "1", "com.openfaas.scale.zero-duration": "90s"},
            limits={"memory": "1Gi"},
            env_vars={"max_inflight": "4", "exec_timeout": "10"},
        )
    )
    assert (policy.min_replicas, policy.idle_timeout_s, policy.memory_limit_mb) == (1, 90, 1024)
    assert (policy.max_in_flight, policy.exec_timeout_s) == (4, 10)


def test_all_mistakes_of_a_deployment_are_reported_at_once():
    wrong = Deployment(
        service="a/b",
        labels={"com.openfaas.scale.min": "3", "com.openfaas.scale.max": "2", "com.openfaas.scale.zero-duration": "x"},
        limits={"memory": "much"},
        env_vars={"max_inflight": "0"},
    )
    with pytest.raises(ConfigError) as caught:
        policy_of(wrong)
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize("image", ["stage-librosa", "registry:5000/me/fave-stage-librosa:1.2"])
def test_an_image_stands_for_the_handler_of_its_name(image):
    assert command_of(Deployment(service="f", image=image))[-1] == "functions.stage_librosa.handler"


@pytest.mark.parametrize("image", ["", "nginx:latest", "../x", "stage-nothing"])
def test_an_unknown_image_is_refused_at_deployment(image):
    with pytest.raises(ConfigError, match="no handler here"):
        command_of(Deployment(service="f", image=image))


def test_scaling_labels_are_not_part_of_a_deployments_identity():
    one = Deployment(service="f", image="i", labels={"com.openfaas.scale.min": "1", "team": "x"})
    two = Deployment(service="f", image="i", labels={"com.openfaas.scale.min": "2", "team": "x"})
    other = Deployment(service="f", image="i", labels={"com.openfaas.scale.min": "1", "team": "y"})
    assert one.identity() == two.identity() != other.identity()


@pytest.mark.parametrize("cores", range(1, 65))
def test_parts_have_cores_of_their_own_where_there_are_enough(cores):
    found = places(range(cores))
    assert (found == {}) == (cores < 4), "two or three cores cannot be parted"
    if found:
        parts = {part: set(its) for part, its in found.items()}
        assert all(parts.values())
        assert set.union(*parts.values()) == set(range(cores)), "no core lies idle"
        services = ("gateway", "object store", "prometheus")
        assert not parts["generator"] & parts["replicas"]
        assert all(not parts[name] & (parts["generator"] | parts["replicas"]) for name in services)
        assert (len(set.union(*(parts[name] for name in services))) == 3) == (cores >= 8)
        assert len(parts["replicas"]) >= cores / 2
