import hashlib
import re

import pytest
from msgspec import structs

from experiments import facts, forecast, stopping
from experiments import model as experiments
from experiments.plan import forecast_s, plan
from experiments.progress import duration
from experiments.standing import left, unfinished
from fave.campaign.experiment import Scaling
from fave.campaign.rundir import CellDir, write_json
from fave.errors import ConfigError
from fave.settings import ROOT, Duration, decode, to_plain
from fave.traffic.arrivals import generate, seed_for
from local.gateway.model import Deployment, policy_of
from platforms.model import Counts
from platforms.specs import to_spec
from regimes import model as regimes
from regimes.apply import _wrong
from tests.support.campaigns import results_of
from tests.support.videosearcher import FUNCTIONS, WORK
from workloads.model import Function

pytestmark = pytest.mark.unit


def test_the_shipped_regimes_are_what_they_promise():
    assert regimes.names() == ["burst-ready", "cold", "long-idle", "warm", "warm-librosa"]
    cold, long_idle, warm_librosa, warm, burst = (
        regimes.resolve(name, FUNCTIONS) for name in ("cold", "long-idle", "warm-librosa", "warm", "burst-ready")
    )
    assert {f for f in cold if warm_librosa[f] != cold[f]} == {"stage-librosa"}
    assert {each.min_replicas for each in long_idle.values()} == {0}
    assert {f: each.idle_timeout for f, each in long_idle.items()} == {f: each.idle_timeout for f, each in warm.items()}
    assert {each.min_replicas for each in cold.values()} == {0}
    assert {each.min_replicas for each in warm.values()} == {1}
    assert {each.min_replicas for name, each in burst.items() if name != "orchestrator"} == {2}
    for function in cold:
        assert cold[function].max_replicas == warm[function].max_replicas == burst[function].max_replicas
        assert cold[function].memory_limit_mb == warm[function].memory_limit_mb == burst[function].memory_limit_mb


def test_what_is_said_of_a_function_outweighs_the_defaults_and_an_override_both(tmp_path):
    (tmp_path / "base.yml").write_text(
        "description: b\ndefaults: {min_replicas: 0, max_replicas: 2, idle_timeout: 9s}\n"
        "functions: {f: {max_replicas: 5}}\n"
    )
    (tmp_path / "r.yml").write_text(
        "description: r\ndefaults: {idle_timeout: 4s}\nfunctions: {f: {target_in_flight: 2}}\n"
    )
    functions = {"f": Function(command="x", max_in_flight=3), "g": Function(command="x", memory_limit_mb=128)}
    override = Scaling(idle_timeout=Duration(1))
    settings = regimes.resolve("r", functions, override, tmp_path)
    f, g = settings["f"], settings["g"]
    assert (f.max_replicas, f.target_in_flight, f.max_in_flight, f.idle_timeout) == (5, 2, 3, 1)
    assert (g.memory_limit_mb, g.max_in_flight, g.target_in_flight, g.max_replicas) == (128, 1, 1, 2)
    assert regimes.resolve("r", functions, None, tmp_path)["f"].idle_timeout == 4


def test_an_unknown_regime_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"(?s)unknown regime 'hot'.*burst-ready, cold, long-idle, warm"):
        regimes.load("hot")


def test_impossible_settings_are_refused_by_function():
    with pytest.raises(ConfigError, match="regime 'cold', f: min_replicas 3, max_replicas 2"):
        regimes.resolve("cold", {"f": Function(command="x")}, Scaling(min_replicas=3))


def test_a_regime_arrives_at_the_gateway_as_it_was_written():
    settings = regimes.resolve("cold", WORK.some(["stage-librosa"]))["stage-librosa"]
    spec = to_spec(WORK, "stage-librosa", settings, image="stage-librosa:latest", regime="cold")
    policy = policy_of(
        Deployment(
            service=spec.service, labels=spec.labels, limits=spec.limits, env_vars=spec.env_vars, image=spec.image
        )
    )
    assert (policy.floor, policy.max_replicas, policy.zero_after_s, policy.window_s) == (0, 2, 4.0, 4.0)
    assert (policy.limits.memory_mb, policy.max_in_flight, policy.exec_timeout_s) == (768, 1, 300.0)


def test_verification_names_each_function_that_is_not_as_wanted():
    assert _wrong({"a": Counts(1, 0), "b": Counts(0, 0)}, {"a": 1, "b": 0}) == ["a has 0 ready of 1, wanted 1"]


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
    assert plan(experiment) == groups, "the same seed continues the same order"
    assert all(sorted(cell.regime for cell in group.cells) == sorted(experiment.regimes) for group in groups)
    assert len({group.sha256 for group in groups}) > 1
    orders = {tuple(cell.regime for cell in group.cells) for group in groups}
    assert len(orders) > 1, "the order is not random"


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
    assert 18 * 15 + 3 * 32 < forecast_s(experiment, plan(experiment)) < 600


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0s"), (48.4, "48s"), (310, "5m10s"), (3720, "1h02m")])
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def changed(name="quick", **change):
    """A shipped experiment with other values, decoded as a file would be."""
    return decode(to_plain(experiments.load(name)) | change, experiments.Experiment, "x.yml")


def problems_of(**change):
    try:
        found = experiments.wrong_with_others(changed(**change))
    except ConfigError as error:
        found = error.problems
    assert found
    return "\n".join(found)


FACTORIAL = {
    "a": {"0": ["cold", "warm"], "1": ["burst-ready", "hot"]},
    "b": {"0": ["cold", "burst-ready"], "1": ["warm", "hot"]},
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"aliases": {"hot": "warm"}}, "aliases: 'hot' is not among the regimes"),
        ({"thresholds": ["cold_rate < 0.05"]}, "thresholds[0]: 'cold_rate < 0.05': which bound?"),
        ({"thresholds": ["steady/hot: failures == 0"]}, "thresholds[0]: 'hot' is not among the regimes"),
        ({"thresholds": ["slow: failures == 0"]}, "thresholds[0]: 'slow' is not among the loads"),
        ({"capacity": ["slow"]}, "capacity: 'slow' is not among the loads"),
        ({"controls": [{"kind": "same", "load": "x", "regimes": ["cold"]}]}, "controls[0].load: 'x'"),
        (
            {"controls": [{"kind": "same", "load": "steady", "regimes": ["cold"]}]},
            "controls[0].regimes: kind 'same' takes 2, not 1",
        ),
        (
            {"controls": [{"kind": "same", "load": "steady", "regimes": ["warm", "cold"]}]},
            "controls[0]: warm - cold is no planned contrast",
        ),
        (
            {"controls": [{"kind": "theory", "load": "pipeline", "regimes": ["cold"]}]},
            "controls[0]: the theory is about a single function; load 'pipeline' has several",
        ),
        ({"contrasts": [], "looks": [3]}, "looks: there is no planned contrast"),
        ({"looks": [2, 3]}, "looks: 2, 3: must ascend from at least 3 blocks"),
        ({"looks": [5, 3]}, "looks: 5, 3: must ascend"),
        ({"looks": [3, 5]}, "looks: the last one is after 5 blocks, loads.steady has 3"),
        ({"factorial": {"a": {"x": ["cold", "warm"]}}}, "factorial: two factors of two levels each"),
        ({"factorial": FACTORIAL}, "factorial.a.1: 'hot' is not among the regimes"),
        (
            {"factorial": FACTORIAL | {"a": {"0": ["cold", "warm"], "1": ["cold", "burst-ready"]}}},
            "factorial: each combination of two levels must be one regime, four in all",
        ),
        ({"settle": {"how": "pray"}}, "settle.how: 'pray' is none of scale, wait"),
        ({"settle": {"timeout": "0s"}}, "settle: timeout: must be longer than 0"),
    ],
)
def test_what_an_experiment_cannot_mean_is_refused_with_key_and_value(change, says):
    assert says in problems_of(**change)


@pytest.mark.parametrize(
    ("load", "change", "says"),
    [
        (
            "steady",
            {"variables": {"query": "dogs"}},
            "loads.steady.variables: 'query' is none of the request's (config, inputs)",
        ),
        (
            "pipeline",
            {"target": "librosa"},
            "loads.pipeline.target: 'librosa' is none of the requests pipeline, stage-ff",
        ),
        ("steady", {"regimes": ["warm", "burst-ready"]}, "loads.steady.overrides: 'cold' is not among the regimes"),
    ],
)
def test_what_would_have_no_effect_is_refused(load, change, says):
    loads = to_plain(experiments.load("quick"))["loads"]
    loads[load] |= change
    assert says in problems_of(loads=loads)


def test_a_contrast_that_no_load_can_form_is_refused():
    loads = to_plain(experiments.load("quick"))["loads"]
    for name in ("steady", "bursty"):
        loads[name] |= {"regimes": ["cold", "warm"]}
    assert "contrasts: no compared load has both 'warm' and 'burst-ready'" in problems_of(loads=loads)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"aliases": {"warm": "cold"}}, "aliases: 'warm' is the name of a regime"),
        (
            {"controls": [{"kind": "same", "load": "steady", "regimes": ["cold", "warm"]}]},
            "loads.steady: a control of kind 'same' needs the same settings, cold and warm differ",
        ),
    ],
)
def test_what_a_control_or_an_alias_cannot_mean_is_refused(tmp_path, change, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        experiments.load(file_with(tmp_path, **change))


def file_with(tmp_path, **change):
    import yaml

    path = tmp_path / "made.yml"
    path.write_text(yaml.safe_dump(to_plain(experiments.load("quick")) | change), encoding="utf-8")
    return str(path)


def test_a_regime_that_is_misspelt_is_refused_with_a_suggestion(tmp_path):
    path = file_with(tmp_path, regimes=["cold", "warmm", "burst-ready"], contrasts=[])
    with pytest.raises(ConfigError, match=r"unknown 'warmm' \(did you mean 'warm'\?\)"):
        experiments.load(path)


def test_a_number_of_replicas_at_the_start_must_lie_within_the_bounds(tmp_path):
    loads = to_plain(experiments.load("quick"))["loads"]
    loads["steady"]["initial_replicas"] = {"burst-ready": 1, "cold": 1}
    with pytest.raises(ConfigError, match="initial_replicas: burst-ready: 1 is not within 2 to 2") as caught:
        experiments.load(file_with(tmp_path, loads=loads))
    assert len(caught.value.problems) == 1


def test_a_second_name_stands_for_the_same_settings():
    experiment = experiments.load("controls")
    assert experiment.policies("steady", "cold-again") == experiment.policies("steady", "cold")
    assert experiment.contrasts_of("steady") == [("cold", "cold-again")]
    assert experiment.contrasts_of("paced") == []


def test_a_load_may_run_in_some_of_the_regimes():
    groups = plan(experiments.load("controls"))
    assert {(group.load, cell.regime) for group in groups for cell in group.cells if group.load != "steady"} == {
        ("paced", "cold"),
        ("paced", "warm"),
        ("short-keep-alive", "cold"),
        ("long-keep-alive", "cold"),
        ("several", "cold"),
    }


def test_traffic_takes_a_rate_instead_of_a_number_of_requests():
    loads = to_plain(experiments.load("quick"))["loads"]
    loads["steady"]["traffic"] = {"model": "poisson", "rate_per_s": 2.5, "duration": "12s"}
    experiment = changed(loads=loads)
    assert experiment.loads["steady"].traffic.requests == 30
    assert decode(to_plain(experiment), experiments.Experiment, "x") == experiment
    loads["steady"]["traffic"]["requests"] = 31
    assert "requests: 31 is not rate_per_s 2.5 x duration" in problems_of(loads=loads)


def test_with_looks_a_load_of_fewer_blocks_comes_first_and_without_them_last():
    quick = to_plain(experiments.load("quick"))["loads"]
    without = [group.load for group in plan(changed()) if group.block == 2]
    assert sorted(without) == ["bursty", "pipeline", "steady"]
    groups = plan(changed(looks=[3], loads=quick))
    assert [group.block for group in groups if group.load == "pipeline"] == [0]


def test_a_draw_without_arrivals_is_refused_before_anything_runs():
    loads = to_plain(experiments.load("quick"))["loads"]
    loads["steady"]["traffic"] = {"model": "lognormal", "cv": 4, "requests": 1, "duration": "1s"}
    traffic = changed(loads=loads).loads["steady"].traffic
    empty = next(seed for seed in range(100) if not generate(traffic, seed_for(seed, "steady", 0)))
    experiment = changed(loads=loads, seed=empty)
    with pytest.raises(ConfigError, match=r"loads\.steady: no arrivals in block 1"):
        plan(experiment)


def results(**decided):
    """One contrast a load."""
    return results_of(contrasts=[{"load": load, "decided": each} for load, each in decided.items()])


def finished(experiment, folder, blocks):
    for group in plan(experiment):
        for cell in group.cells if group.block < blocks else ():
            cell_dir = CellDir(folder / "cells" / cell.folder(1))
            write_json(cell_dir.verdict, {"verdict": {"valid": True, "findings": []}})
            write_json(cell_dir.cell, {})


def sequential():
    loads = to_plain(experiments.load("quick"))["loads"]
    for each in (loads["steady"], loads["bursty"]):
        each["blocks"] = 5
    return changed(looks=[3, 5], loads=loads)


def test_a_load_that_is_decided_ends_and_the_others_go_on_to_the_next_look(tmp_path):
    experiment = sequential()
    finished(experiment, tmp_path, 2)
    blocks = [group.block for group in left(experiment, tmp_path)]
    assert (min(blocks), stopping.due(experiment, tmp_path, blocks)) == (2, None)
    finished(experiment, tmp_path, 3)
    assert stopping.due(experiment, tmp_path, [group.block for group in left(experiment, tmp_path)]) == 3
    found = stopping.take(experiment, results(steady=True, bursty=False), 3, tmp_path)
    assert (found.taken, found.ended) == ((3,), {"steady": 3})
    assert {group.load for group in left(experiment, tmp_path)} == {"bursty"}
    assert stopping.due(experiment, tmp_path, [3, 4]) is None
    finished(experiment, tmp_path, 5)
    assert stopping.due(experiment, tmp_path, []) == 5
    assert stopping.take(experiment, results(steady=True, bursty=True), 5, tmp_path).ended == {"steady": 3, "bursty": 5}
    assert not unfinished(experiment, tmp_path)


def test_a_load_with_one_contrast_that_is_open_goes_on(tmp_path):
    rows = results(steady=True, bursty=True)
    rows = structs.replace(rows, effects=[structs.replace(rows.contrasts[0], load="steady", decided=False)])
    assert stopping.take(sequential(), rows, 3, tmp_path).ended == {"bursty": 3}


def test_the_forecast_says_what_a_plan_can_show_with_a_given_spread():
    experiment = experiments.load("standard")
    lines = forecast.detectable(experiment, forecast.given(0.05))
    assert "alpha 0.025 / 16: Holm's strictest step at the last look" in lines[0]
    assert lines[1].split()[:9] == ["steady:", "cold", "-", "long-idle", "sd", "5.0,", "8", "blocks:", "11.0"]
    assert len(lines) == 11
    assert "no pilot is known" in forecast.detectable(experiment, None)[0]


def test_a_pilot_whose_blocks_all_agreed_says_nothing_about_the_spread():
    lines = forecast.detectable(experiments.load("quick"), forecast.from_run(ROOT / "runs" / "example"))
    assert "spread from example" in lines[0]
    assert [line.endswith("no spread is known") for line in lines[1:]] == [False, False, True, False, False, True]


def test_the_pilot_is_the_latest_run_of_that_very_name(tmp_path):
    for name in ("20260101-000000-quick", "20260102-000000-not-quick", "20260103-000000-quick"):
        write_json(tmp_path / name / "results.json", {"contrasts": []})
    assert forecast.earlier("quick", tmp_path).source == "20260103-000000-quick"
    assert forecast.earlier("standard", tmp_path) is None


def test_the_forecast_bounds_the_memory_that_is_held():
    """20 s of load in each of three blocks and two loads: warm holds 0.75 GB at least and twice that at most."""
    experiment = changed(
        regimes=["warm"],
        contrasts=[],
        loads={"steady": to_plain(experiments.load("quick"))["loads"]["steady"] | {"overrides": {}}},
    )
    assert forecast.held_gb_s(experiment, plan(experiment)) == (3 * 15 * 0.75, 3 * 15 * 1.5)


def test_a_spread_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="--sd 3"):
        forecast.given(3)


def test_a_driver_that_died_before_a_look_takes_it_when_it_is_resumed(tmp_path):
    """All is measured, the look is not taken: nothing is left to run, but something to decide."""
    experiment = changed(looks=[3])
    finished(experiment, tmp_path, 3)
    assert not left(experiment, tmp_path)
    assert unfinished(experiment, tmp_path)
    stopping.take(experiment, results(steady=False, bursty=False), 3, tmp_path)
    assert not unfinished(experiment, tmp_path)


def test_a_plan_and_a_campaign_s_record_tell_how_a_trace_is_read(tmp_path):
    trace = tmp_path / "day.csv"
    trace.write_text("timestamp_ms;x\n" + "".join(f"{k}00,5;\n" for k in range(50)), encoding="utf-8")
    loads = to_plain(experiments.load("quick"))["loads"]
    recorded = {"file": str(trace), "format": "timestamps"}
    loads["steady"]["traffic"] = {"model": "replay", "duration": "4s", "trace": recorded}
    experiment = experiments.load(file_with(tmp_path, loads=loads))
    said = "timestamps, column 'timestamp_ms' in milliseconds, cells between semicolons, decimal commas"
    assert f"steady replays {trace}: {said}" in forecast.whole("mine", experiment, plan(experiment), None)
    assert facts.of_traces(experiment) == {
        "traces": {"steady": hashlib.sha256(trace.read_bytes()).hexdigest()},
        "traces_read_as": {"steady": said},
    }
