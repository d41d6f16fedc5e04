import asyncio
import time

import pytest

from fave.campaign import experiment as settings
from fave.errors import AssetError, ConfigError
from fave.processes import places
from fave.scaling import may_stop, planned_replicas, replicas_to_start, restart_delay_s
from fave.settings import Duration
from local.gateway.demand import Highest, Rate
from local.gateway.function import Function
from local.gateway.model import EVALUATED_S, Deployment, Policy, policy_of, program_of
from local.gateway.replica import Replica, State
from local.supervisor import insist_on
from platforms.specs import scaling_labels

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
        ({"max_replicas": 1}, {"waiting": 3, "ready": 1}, 0),
        # From zero it comes back to its minimum; above zero the minimum is somebody else's business.
        ({"min_replicas": 3}, {"waiting": 1}, 3),
        ({"min_replicas": 3, "max_replicas": 3}, {"waiting": 9}, 3),
        ({"min_replicas": 3}, {}, 0),
        ({"min_replicas": 3}, {"waiting": 1, "ready": 1}, 1),
        # What is planned ahead starts without anybody waiting.
        ({}, {"ready": 1, "planned": 3}, 2),
        ({"max_replicas": 2}, {"ready": 1, "planned": 3}, 1),
    ],
)
def test_replicas_start_for_what_nothing_will_serve(policy, now, expected):
    counts = dict.fromkeys(("ready", "starting", "waiting", "planned", "free"), 0) | now
    with_policy = Policy(**policy)
    found = replicas_to_start(
        **counts,
        concurrency=with_policy.max_in_flight,
        min_replicas=with_policy.min_replicas,
        max_replicas=with_policy.max_replicas,
    )
    assert found == expected


@pytest.mark.parametrize(("load", "per_replica", "expected"), [(0, 45, 0), (45, 45, 1), (45.1, 45, 2), (15, 5, 3)])
def test_openfaas_plans_so_many_replicas_for_a_load(load, per_replica, expected):
    assert planned_replicas(load, per_replica) == expected


@pytest.mark.parametrize(
    ("idle_s", "alive", "kept", "expected"), [(4, 1, 0, True), (3.9, 1, 0, False), (9, 1, 1, False), (9, 2, 1, True)]
)
def test_idle_replicas_go_after_the_time_out_down_to_those_kept(idle_s, alive, kept, expected):
    assert may_stop(idle_s, 4, alive, kept) is expected


def test_what_was_planned_within_the_window_is_kept():
    highest = Highest()
    assert highest.within(10, 0) == 0
    for at_s, value in ((0, 1), (1, 3), (2, 2), (5, 1), (5.5, 1)):
        highest.note(at_s, value)
    # Each holds until the next is noted.
    assert [highest.within(1, now_s) for now_s in (5, 5.9, 6.1, 100)] == [2, 2, 1, 1]
    highest.note(101, 4)
    assert highest.within(10, 105) == 4


def test_a_rate_is_that_of_the_last_seconds():
    rate = Rate(over_s=2)
    seen = []
    for count in (10, 20, 0, 0):
        for _ in range(count):
            rate.count()
        seen.append(rate.second_is_over())
    assert seen == [10, 15, 10, 0]


@pytest.mark.parametrize(
    ("labels", "meaning"),
    [
        ({}, {"min_replicas": 1, "max_replicas": 20, "zero_after_s": None, "floor": 1, "scaling_type": "rps"}),
        ({}, {"load_per_replica": 45, "window_s": EVALUATED_S}),
        ({"min": "2", "max": "4"}, {"min_replicas": 2, "max_replicas": 4, "floor": 2}),
        # OpenFaaS' lowest minimum is one; whether it may go to zero is another label's business.
        ({"min": "0"}, {"min_replicas": 1, "floor": 1, "zero_after_s": None}),
        ({"zero": "true"}, {"min_replicas": 1, "floor": 0, "zero_after_s": 900}),
        ({"zero": "true", "min": "3", "zero-duration": "4s"}, {"min_replicas": 3, "floor": 0, "zero_after_s": 4}),
        ({"zero": "false", "zero-duration": "4s"}, {"floor": 1, "zero_after_s": None}),
        ({"type": "capacity", "target": "10", "target-proportion": "0.5"}, {"load_per_replica": 5}),
        ({"down.window": "90s"}, {"window_s": 90}),
    ],
)
def test_scaling_labels_mean_what_openfaas_pro_says(labels, meaning):
    named = {f"com.openfaas.scale.{name}": value for name, value in labels.items()}
    policy = policy_of(Deployment(service="f", labels=named))
    assert {name: getattr(policy, name) for name in meaning} == meaning


@pytest.mark.parametrize(
    ("label", "value"),
    [("type", "cpu"), ("type", "queue"), ("type", "my-rule"), ("zero", "perhaps"), ("min", "-1"), ("target", "0")],
)
def test_scaling_that_is_not_here_is_refused_by_name(label, value):
    with pytest.raises(ConfigError, match=f"{label}={value}|{label}='{value}'|{label}, "):
        policy_of(Deployment(service="f", labels={f"com.openfaas.scale.{label}": value}))


@pytest.mark.parametrize(
    ("policy", "meaning"),
    [
        # A regime's minimum of none: to zero after the idle timeout, and so do those above one.
        ({"min_replicas": 0, "max_replicas": 4}, {"min_replicas": 1, "zero_after_s": 4, "window_s": 4, "floor": 0}),
        ({"min_replicas": 1, "max_replicas": 1}, {"min_replicas": 1, "zero_after_s": None, "floor": 1}),
        ({"min_replicas": 2, "max_replicas": 4}, {"min_replicas": 2, "zero_after_s": None, "window_s": 4, "floor": 2}),
    ],
)
def test_a_regime_is_deployed_as_what_it_says(policy, meaning):
    asked = settings.Policy(**policy, idle_timeout=Duration.parse("4s"), memory_limit_mb=128, max_in_flight=2,
                            target_in_flight=2.0, exec_timeout=Duration.parse("9s"))  # fmt: skip
    labels = scaling_labels(asked)
    deployed = policy_of(Deployment(service="f", labels=labels, env_vars={"max_inflight": "2"}))
    assert {name: getattr(deployed, name) for name in meaning} == meaning
    assert (deployed.max_replicas, deployed.load_per_replica) == (policy["max_replicas"], 2)


def test_restarts_back_off_and_stay_bounded():
    delays = [restart_delay_s(n) for n in range(20)]
    assert delays[:4] == [0, 0, 0.5, 1.0]
    assert delays == sorted(delays)
    assert delays[-1] == 30


def test_a_policy_is_read_from_labels_limits_and_environment():
    policy = policy_of(
        Deployment(
            service="f",
            labels={"com.openfaas.scale.min": "2", "com.openfaas.scale.down.window": "90s"},
            limits={"memory": "1Gi"},
            env_vars={"max_inflight": "4", "exec_timeout": "10"},
        )
    )
    assert (policy.min_replicas, policy.window_s, policy.limits.memory_mb) == (2, 90, 1024)
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
    assert program_of(Deployment(service="f", image=image)).command[-1] == "functions.stage_librosa.handler"


@pytest.mark.parametrize("image", ["", "nginx:latest", "../x", "stage-nothing"])
def test_an_unknown_image_is_refused_at_deployment(image):
    with pytest.raises(ConfigError, match="no handler here"):
        program_of(Deployment(service="f", image=image))


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


def test_a_replica_has_one_idle_timer_however_often_it_is_used():
    async def use():
        function = Function(Deployment(service="f", image="stage-librosa"), None)
        replica = Replica("r", 1)
        replica.state = State.READY
        function.replicas["r"] = replica
        for _ in range(1000):
            function._reserve(replica)
            function.release(replica)
        return [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()], replica

    timers, replica = asyncio.run(use())
    assert timers == [replica.idle_timer]


def test_what_starts_replicas_must_be_there_and_is_named_where_it_is_not():
    with pytest.raises(AssetError, match=r"^/nowhere/setpriv: there is no such program"):
        insist_on("/bin/sh", "/nowhere/setpriv")


def test_what_one_rule_planned_keeps_nobody_under_another():
    def deployment(target):
        labels = {"type": "capacity", "target": target, "target-proportion": "1.0", "down.window": "60s"}
        named = {f"com.openfaas.scale.{name}": value for name, value in labels.items()}
        return Deployment(service="f", image="stage-librosa", labels=named, env_vars={"max_inflight": "4"})

    async def exchange_it():
        function = Function(deployment("1"), None)
        replica = Replica("r", 1)
        replica.state = State.READY
        function.replicas["r"] = replica
        for _ in range(3):
            function._reserve(replica)
        before = function._plan()
        function.update(deployment("4"))
        return before, function._planned.within(60, time.monotonic())

    assert asyncio.run(exchange_it()) == (3, 0)
