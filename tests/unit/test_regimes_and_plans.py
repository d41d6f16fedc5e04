import pytest

from experiments import model as experiments
from experiments.plan import forecast_s, plan
from experiments.progress import duration
from fave.errors import ConfigError
from fave.gateway_client import FunctionStatus
from fave.settings import Duration, decode, to_plain
from fave.workload import PIPELINE, functions_of
from local.gateway.model import Deployment, policy_of
from regimes import model as regimes
from regimes.openfaas import _wrong

pytestmark = pytest.mark.unit


def test_the_shipped_regimes_are_what_they_promise():
    assert regimes.names() == ["burst-ready", "cold", "warm"]
    cold, warm, burst = (regimes.resolve(name, functions_of(PIPELINE)) for name in ("cold", "warm", "burst-ready"))
    assert {each.min_replicas for each in cold.values()} == {0}
    assert {each.min_replicas for each in warm.values()} == {1}
    assert {each.min_replicas for name, each in burst.items() if name != "orchestrator"} == {2}
    for function in cold:
        assert cold[function].max_replicas == warm[function].max_replicas == burst[function].max_replicas
        assert cold[function].memory_limit_mb == warm[function].memory_limit_mb == burst[function].memory_limit_mb


def test_what_is_said_of_a_function_outweighs_the_defaults_and_an_override_both(tmp_path):
    (tmp_path / "base.yml").write_text(
        "description: b\ndefaults: {min_replicas: 0, max_replicas: 2, idle_timeout: 9s, target_in_flight: 1,"
        " max_in_flight: 1, memory_limit_mb: 128, exec_timeout: 9s}\nfunctions: {f: {memory_limit_mb: 512}}\n"
    )
    (tmp_path / "r.yml").write_text(
        "description: r\ndefaults: {idle_timeout: 4s}\nfunctions: {f: {max_in_flight: 3}}\n"
    )
    override = regimes.Scaling(idle_timeout=Duration(1))
    settings = regimes.resolve("r", ("f", "g"), override, tmp_path)
    assert (settings["f"].memory_limit_mb, settings["f"].max_in_flight, settings["f"].idle_timeout) == (512, 3, 1)
    assert (settings["g"].memory_limit_mb, settings["g"].max_in_flight) == (128, 1)
    assert regimes.resolve("r", ("f",), None, tmp_path)["f"].idle_timeout == 4


def test_an_unknown_regime_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"(?s)unknown regime 'hot'.*burst-ready, cold, warm"):
        regimes.load("hot")


def test_impossible_settings_are_refused_by_function():
    with pytest.raises(ConfigError, match="regime 'cold', f: min_replicas 3, max_replicas 2"):
        regimes.resolve("cold", ("f",), regimes.Scaling(min_replicas=3))


def test_a_regime_arrives_at_the_gateway_as_it_was_written():
    settings = regimes.resolve("cold", ("stage-librosa",))["stage-librosa"]
    spec = regimes.to_spec("stage-librosa", settings, image="stage-librosa:latest", regime="cold")
    policy = policy_of(
        Deployment(
            service=spec.service, labels=spec.labels, limits=spec.limits, env_vars=spec.env_vars, image=spec.image
        )
    )
    assert (policy.min_replicas, policy.max_replicas, policy.idle_timeout_s) == (0, 2, 4.0)
    assert (policy.memory_limit_mb, policy.max_in_flight, policy.exec_timeout_s) == (768, 1, 300.0)


def test_verification_names_each_function_that_is_not_as_wanted():
    statuses = [FunctionStatus(name="a", replicas=1, available_replicas=0), FunctionStatus(name="b")]
    assert _wrong(statuses, {"a": 1, "b": 0}) == ["a has 0 ready of 1, wanted 1"]


@pytest.mark.parametrize("name", experiments.names())
def test_every_shipped_experiment_loads_and_survives_a_round_trip(name):
    experiment = experiments.load(name)
    assert decode(to_plain(experiment), experiments.Experiment, name) == experiment


def test_all_mistakes_of_an_experiment_are_reported_at_once(tmp_path):
    path = tmp_path / "bad.yml"
    path.write_text(
        "description: d\nexpected_duration: x\nseed: 1\nregimes: [cold]\nprimary_outcome: cold_rate\n"
        "contrasts: []\nblcks: 3\nloads: {a: {target: nothing, blocks: 0, traffic: {model: poisson, requests: 0,"
        " duration: 1s}}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        experiments.load(str(path))
    text = str(caught.value)
    assert "unknown key 'blcks'" in text
    assert "primary_outcome" in text
    assert "loads.a.traffic: requests: 0 must be at least 1" in text
    assert all(line.startswith(str(path)) for line in caught.value.problems)


def test_an_unknown_experiment_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"(?s)unknown experiment 'slow'.*quick"):
        experiments.load("slow")


def test_contrasts_and_overrides_must_name_regimes_of_the_experiment():
    plain = to_plain(experiments.load("quick"))
    plain["contrasts"] = [*plain["contrasts"], ["cold", "hot"]]
    plain["loads"]["steady"]["overrides"]["hot"] = {}
    with pytest.raises(ConfigError) as caught:
        decode(plain, experiments.Experiment, "x.yml")
    assert len(caught.value.problems) == 2


def test_every_block_has_each_regime_once_with_the_same_schedule_in_varying_order():
    experiment = experiments.load("pipeline")
    groups = plan(experiment)
    assert all(sorted(cell.regime for cell in group.cells) == sorted(experiment.regimes) for group in groups)
    assert len({group.sha256 for group in groups}) > 1
    orders = {tuple(cell.regime for cell in group.cells) for group in groups}
    assert len(orders) > 1, "the order is not random"
    assert plan(experiment) == groups, "the same seed continues the same order"


def test_a_load_with_fewer_blocks_comes_last_so_that_the_first_report_comes_early():
    groups = plan(experiments.load("quick"))
    assert "pipeline" not in {group.load for group in groups if group.block == 0}
    assert [group.block for group in groups if group.load == "pipeline"] == [2]


def test_request_ids_of_a_campaign_cannot_collide():
    cells = [cell for group in plan(experiments.load("quick")) for cell in group.cells]
    assert sorted(cell.index for cell in cells) == list(range(21))
    assert len({cell.folder(1) for cell in cells}) == 21


def test_the_forecast_counts_load_and_overhead():
    experiment = experiments.load("quick")
    assert 18 * 12 + 3 * 32 < forecast_s(experiment, plan(experiment)) < 600


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0s"), (48.4, "48s"), (310, "5m10s"), (3720, "1h02m")])
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
