"""Arms in which functions are otherwise: what they become, what is refused, and conditions on what they differ by."""

from __future__ import annotations

import subprocess

import msgspec
import pytest

from experiments import ab, model, variants
from fave.campaign import thresholds
from fave.campaign.experiment import Variant
from fave.errors import ConfigError
from workloads.model import Function, Request, Workload

pytestmark = pytest.mark.unit

WORK = Workload(
    description="d",
    functions={
        "f": Function(command="python3 a.py {port}", environment={"X": "1", "Y": "2"}),
        "g": Function(image="g:1"),
    },
    requests={"ask": Request(function="f")},
)


@pytest.fixture
def workload(tmp_path):
    """A file of one function, in a git checkout of its own with two commits."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    (tmp_path / "w.yml").write_text(
        "description: d\nfunctions:\n  f: {command: 'python3 a.py {port}'}\nrequests:\n  ask: {function: f}\n",
        encoding="utf-8",
    )
    subprocess.run([*git, "init", "-q"], check=True)
    for text in ("old", "new"):
        (tmp_path / "a.py").write_text(text, encoding="utf-8")
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", text], check=True)
    return tmp_path / "w.yml"


def test_a_variant_is_laid_over_the_workload_and_leaves_the_rest():
    found = variants.changed(WORK, {"f": Variant(environment={"Y": "3"}, memory_limit_mb=512)})
    assert found.functions["f"].environment == {"X": "1", "Y": "3"}
    assert (found.functions["f"].command, found.functions["f"].memory_limit_mb) == ("python3 a.py {port}", 512)
    assert found.functions["g"] == WORK.functions["g"]
    assert variants.changed(WORK, {"f": Variant(handler="a.b")}).functions["f"].command == ""


@pytest.mark.parametrize(
    ("arm", "problem"),
    [
        ({"h": Variant(image="x")}, "variants.b.h: is none of the functions f, g"),
        ({"f": Variant()}, "variants.b.f: nothing is otherwise than the workload says"),
        ({"f": Variant(environment={"X": "1"})}, "variants.b.f: nothing is otherwise than the workload says"),
        ({"f": Variant(environment={"max_inflight": "4"})}, "variants.b.f.environment.max_inflight: FAVE sets it"),
        ({"f": Variant(environment={"API_TOKEN": "s"})}, "variants.b.f.environment.API_TOKEN: would stand in"),
        ({"f": Variant(memory_limit_mb=0)}, "variants.b.f: memory_limit_mb: 0 must be over 0"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(arm, problem):
    (found,) = variants.wrong(WORK, {"b": arm})
    assert found.startswith(problem)


def test_functions_of_others_are_not_exchanged():
    (found,) = variants.wrong(msgspec.structs.replace(WORK, deploy=False), {"b": {"f": Variant(image="x")}})
    assert "deploy: false" in found


def test_a_variant_that_a_platform_would_pass_over_is_told():
    image, commit = {"b": {"f": Variant(image="f:2")}}, {"b": {"f": Variant(commit="HEAD")}}
    (here,) = variants.without_effect(image, runs_images=False)
    assert here.startswith("variants.b.f: image changes nothing here, where commands run")
    (there,) = variants.without_effect(commit, runs_images=True)
    assert there.startswith("variants.b.f: commit changes nothing here, where images run: say image")
    assert variants.without_effect(image, runs_images=True) == []
    both = {"b": {"f": Variant(image="f:2", commit="HEAD")}}
    assert variants.without_effect(both, runs_images=True) == variants.without_effect(both, runs_images=False) == []


def test_a_commit_is_pinned_and_its_files_are_taken_out_once(workload, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.variants.STATE", tmp_path / "state")
    experiment = ab.of(str(workload), b="commit=HEAD~1")
    pinned = experiment.variants["b"]["f"].commit
    assert len(pinned) == 40
    variants.provide(experiment.work, experiment.variants)
    variants.provide(experiment.work, experiment.variants)
    there = experiment.work_of("b").path_of(experiment.work_of("b").functions["f"].directory)
    assert (there / "a.py").read_text(encoding="utf-8") == "old"
    here = experiment.work_of("a").path_of(experiment.work_of("a").functions["f"].directory)
    assert (here / "a.py").read_text(encoding="utf-8") == "new"


def test_both_arms_have_the_same_policies_and_each_its_own_functions(workload):
    experiment = ab.of(str(workload), a="env.X=1", b="env.X=2 memory_limit_mb=300", regime="warm")
    assert experiment.regimes == ("a", "b")
    assert {experiment.regime_of(arm) for arm in experiment.regimes} == {"warm"}
    assert experiment.policies("steady", "b")["f"].memory_limit_mb == 300
    assert [work.functions["f"].environment for work in experiment.works(["steady"])] == [{"X": "1"}, {"X": "2"}]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "A, B: what is otherwise"),
        ({"b": "nothing"}, "'nothing' is none of KEY=VALUE"),
        ({"b": "commit=nowhere"}, "commit 'nowhere' is not known"),
        ({"b": "min_replicas=3"}, "'min_replicas=3' is none of KEY=VALUE"),
        ({"a": "env.X=1", "b": "env.X=1"}, "variants.b: is the same as a"),
        ({"b": "env.X='"}, "No closing quotation"),
        ({"b": "env.X=1", "regime": "hot"}, "unknown 'hot'"),
    ],
)
def test_mistakes_on_the_command_line_are_named(workload, given, problem):
    with pytest.raises(ConfigError, match=problem):
        ab.of(str(workload), **given)


def test_a_variant_of_no_arm_is_refused(tmp_path, workload):
    text = (model.FOLDER / "ab.yml").read_text(encoding="utf-8")
    path = tmp_path / "e.yml"
    path.write_text(f"{text}workload: {workload}\nvariants: {{c: {{f: {{image: x}}}}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="variants: 'c' is not among the regimes"):
        model.load(str(path))


def contrast(a="b", b="a", estimate=0.1, ci=(0.02, 0.18), outcome="invocation_cold_rate"):
    return msgspec.json.decode(msgspec.json.encode({"outcome": outcome})) | {
        "load": "steady",
        "a": a,
        "b": b,
        "difference": estimate,
        "ci95": ci,
        "reason": "",
    }


class Row:
    def __init__(self, **fields):
        self.__dict__.update(fields)


def met(text, rows=(), ratios=()):
    (found,) = thresholds.evaluate([text], [], [Row(**each) for each in rows], ratios)
    return found.state, found.observed


def ratio(estimate, low, high, a="b", b="a", figure="p95"):
    return Row(load="steady", a=a, b=b, figure=figure, ratio=Row(estimate=estimate, low=low, high=high, reason=""))


def test_a_difference_holds_by_the_bound_that_is_asked_for():
    assert met("b vs a: cold_rate.difference.high < 20%", [contrast()]) == ("met", 0.18)
    assert met("b vs a: cold_rate.difference.high < 10%", [contrast()])[0] == "inconclusive"
    assert met("b vs a: cold_rate.difference.high < 1%", [contrast()])[0] == "missed"
    assert met("steady/b vs a: cold_rate.difference.low > 0", [contrast()]) == ("met", 0.02)
    assert met("other/b vs a: cold_rate.difference.low > 0", [contrast()])[0] == "inconclusive"


def test_a_contrast_that_was_planned_the_other_way_round_is_turned():
    assert met("a vs b: cold_rate.difference.high < 0", [contrast()]) == ("met", -0.02)
    assert met("b vs a: p95.ratio.high < 1.3", ratios=[ratio(0.8, 0.8, 0.8, a="a", b="b")]) == ("met", 1.25)


def test_a_ratio_without_an_interval_decides_nothing():
    assert met("b vs a: p95.ratio.high < 1.1", ratios=[ratio(1.0, 0.95, 1.08)]) == ("met", 1.08)
    assert met("b vs a: p95.ratio.high < 1.1", ratios=[ratio(1.0, None, None)]) == ("inconclusive", None)
    assert met("b vs a: start.ratio.high < 1.1") == ("inconclusive", None), "no run had a start"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("b vs a: p95.high < 1", "of two regimes"),
        ("steady/b: p95.ratio.high < 1", "of two regimes"),
        ("b vs a: p95.difference.high < 1", "no difference of 'p95'"),
        ("b vs a: p95.ratio < 1", "which bound"),
        ("b vs a: p95.ratio.high < 110%", "a ratio is a number"),
    ],
)
def test_a_condition_on_a_contrast_that_means_nothing_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        thresholds.parse(text)
