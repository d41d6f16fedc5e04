"""README and docs say what is, and all that is."""

import json
import re
from pathlib import Path

import pytest

from experiments import model as experiments
from fave import errors
from fave.campaign.experiment import Load, Policy
from fave.campaign.validity import Gates
from fave.settings import ROOT
from fave.traffic import gaps, loads
from fave.traffic.arrivals import Modulation, Traffic
from fave.traffic.timeline import Phase
from fave.traffic.traces import Trace
from fave.wire.envelope import Envelope, PipelineRequest, Reply
from fave.wire.final import Metrics
from fave.wire.invocation import REPLY_FIELDS, Invocation
from fave.wire.records import ReplicaRow, RequestRow, StageRow
from functions.images.build import GROUPS
from orchestrator.retry import RULES
from regimes import model as regimes
from tests import reference
from tests.support.videosearcher import STAGES

pytestmark = pytest.mark.unit

GENERATOR = [ROOT / "generator" / "options.py"]

_HEADERS = Invocation(request_id="", invocation_id="").headers()


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def all_docs():
    return {
        path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    }


def targets():
    return set(re.findall(r"^([a-z-]+):.*##", text_of("Makefile"), re.MULTILINE))


def test_every_make_target_that_a_document_names_exists():
    for path, text in all_docs().items():
        for name in re.findall(r"(?:`|^ {4}|&& )make ([a-z-]+)", text, re.MULTILINE):
            assert name in targets(), f"{path.name}: make {name}"


def test_the_readme_names_every_make_target_that_people_use():
    assert {
        "bench",
        "plan",
        "controls",
        "compare",
        "resume",
        "reproduce",
        "ui",
        "distortion",
        "bench-load",
        "invoke",
        "smoke",
        "stack",
        "images",
        "test",
        "test-all",
        "check",
        "report",
        "up",
        "down",
        "status",
    } <= set(re.findall(r"make ([a-z-]+)", text_of("README.md")))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("docs/regimes.md", regimes.names()),
        ("docs/regimes.md", Policy.__struct_fields__),
        ("docs/experiments.md", experiments.names()),
        ("docs/experiments.md", experiments.Experiment.__struct_fields__),
        ("docs/experiments.md", Load.__struct_fields__),
        (
            "docs/load.md",
            re.findall(
                r'(?:add|add_argument)\("(--[a-z-]+)"',
                "".join(
                    path.read_text(encoding="utf-8") for path in [*GENERATOR, *(ROOT / "locustfiles").glob("*.py")]
                ),
            ),
        ),
        (
            "docs/load.md",
            re.findall(
                r"^class (\w+User)\(",
                "".join(path.read_text(encoding="utf-8") for path in (ROOT / "locustfiles").glob("[a-z]*.py")),
                re.MULTILINE,
            ),
        ),
        ("docs/load.md", [*loads.NAMES, *gaps.RENEWAL, *Traffic.__struct_fields__, *Modulation.__struct_fields__]),
        ("docs/load.md", [*Trace.__struct_fields__, *Phase.__struct_fields__]),
        ("docs/methodology.md", ["different", "equivalent", "different-within-margin", "inconclusive", "degenerate"]),
        (
            "docs/metrics.md",
            sorted({*RequestRow.__struct_fields__, *StageRow.__struct_fields__} - {"schema", "regime"}),
        ),
        (
            "docs/metrics.md",
            [f for f in ReplicaRow.__struct_fields__ if f not in ("schema", "at_ns", "age_s", "function")],
        ),
        ("docs/assets.md", ["detector", "whisper", "embedder", "short", "long", "frames", "prometheus"]),
        ("docs/envelope.md", [*Envelope.__struct_fields__, *Reply.__struct_fields__]),
        ("docs/envelope.md", [*PipelineRequest.__struct_fields__, *REPLY_FIELDS, *_HEADERS]),
        ("docs/errors.md", list(RULES)),
        ("docs/orchestrator.md", Metrics.__struct_fields__),
        ("docs/function-host.md", ["max_inflight", "exec_timeout", "write_timeout", "healthcheck_interval"]),
        ("docs/images.md", GROUPS),
    ],
)
def test_what_the_code_has_stands_in_its_document(document, words):
    text = text_of(document)
    assert [word for word in words if word not in text] == []


def test_the_configuration_reference_is_what_the_code_says():
    assert text_of("docs/configuration.md") == reference.page(), "run `python -m tests.reference`"


def test_the_errors_page_says_how_often_a_failure_is_tried_again():
    text = text_of("docs/errors.md")
    for slug, rule in RULES.items():
        assert re.search(rf"^\| `{slug}` \|.*\| {rule.attempts} \|$", text, re.MULTILINE), slug


def test_gates_stand_in_the_methodology():
    text = text_of("docs/methodology.md")
    own = {name for name in Gates.__struct_fields__ if not name.startswith("schedule_lag_") or name.endswith("p99_s")}
    assert [name for name in own if name not in text] == []


def test_every_exit_code_and_slug_is_explained():
    text = text_of("docs/errors.md")
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert [code for code in codes if f"| {code} |" not in text] == []
    sources = "".join(
        path.read_text() for room in ("fave", "functions", "orchestrator") for path in (ROOT / room).rglob("*.py")
    )
    slugs = set(re.findall(r'StageError\(\s*"([a-z-]+)"|slug="([a-z-]+)"', sources))
    used = {slug for pair in slugs for slug in pair if slug}
    assert [slug for slug in sorted(used) if f"`{slug}`" not in text] == []


def test_every_file_that_a_document_links_to_exists():
    for path, text in all_docs().items():
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_stages_have_a_folder_each():
    for stage in STAGES:
        assert (ROOT / "functions" / stage.replace("-", "_") / "handler.py").exists()


def test_the_readme_shows_the_published_examples_own_numbers():
    results = json.loads(text_of("runs/example/results.json"))
    readme = text_of("README.md")
    for cell in results["cells"]:
        estimate = f"{cell['cold_rate']['estimate'] * 100:.1f} %"
        assert re.search(rf"{cell['load']} +{cell['regime']} .*{re.escape(estimate)}", readme), cell["load"]


def test_no_document_names_a_path_of_some_machine():
    for path in [*all_docs(), ROOT / "Makefile", *Path(ROOT / "runs" / "example").rglob("*.json")]:
        assert not re.search(r"(?<![\w.])/(home|root|work|Users)/", path.read_text(encoding="utf-8")), path
