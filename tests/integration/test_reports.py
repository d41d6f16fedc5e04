"""`python -m analysis` as a user runs it: the same bytes from the same rows, small copies, clear errors."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from analysis.answers import trends
from analysis.rows import digest
from analysis.rows.folder import load
from fave.settings import ROOT

pytestmark = pytest.mark.integration

EXAMPLE = ROOT / "runs" / "example"


def analysis(*arguments, **environment):
    command = [sys.executable, "-m", "analysis", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, env=os.environ | environment
    )


def report_of(folder):
    files = [folder / name for name in ("report.html", "report.md", "results.json")]
    return {path.name: path.read_bytes() for path in [*files, *sorted((folder / "figures").glob("*.svg"))]}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    return shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("elsewhere") / "copy")


def test_a_report_made_again_elsewhere_in_another_time_zone_is_the_published_one(copied):
    for path in [*copied.glob("report.*"), *copied.glob("figures/*"), copied / "results.json"]:
        path.unlink()
    done = analysis("report", copied, TZ="Pacific/Auckland", PYTHONHASHSEED="7", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert report_of(copied) == report_of(EXAMPLE)


def test_a_published_copy_has_the_same_report_and_is_small(tmp_path):
    done = analysis("publish", EXAMPLE, tmp_path / "small")
    assert done.returncode == 0, done.stderr
    assert report_of(tmp_path / "small") == report_of(EXAMPLE)
    assert not list(tmp_path.glob("small/cells/*/logs"))
    assert (tmp_path / "small" / "NOTICE").read_bytes() == (ROOT / "NOTICE").read_bytes()
    size_bytes = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size_bytes < 12e6
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    refused = analysis("publish", EXAMPLE, tmp_path / "mine")
    assert refused.returncode == 2
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("500: Authorization: Bearer abcdef0123456789", "a bearer token"),
        ("no answer from https://bob:hunter2@db.internal/", "an address with a password"),
        ('{"api_key": "0123456789abcdef"}', "a named secret"),
        ("/home/alice/model.onnx is missing", "a home folder"),
    ],
)
def test_what_is_nobody_elses_business_is_not_published(copied, tmp_path, planted, said):
    """A wrong answer's text is kept with its request, and may hold anything."""
    run = shutil.copytree(copied, tmp_path / "run")
    rows = next(run.glob("cells/*/requests.jsonl.gz"))
    first, rest = gzip.decompress(rows.read_bytes()).split(b"\n", 1)
    row = json.loads(first) | {"error": planted}
    rows.write_bytes(gzip.compress(json.dumps(row).encode() + b"\n" + rest))
    refused = analysis("publish", run, tmp_path / "out")
    assert refused.returncode == 2
    assert f"{rows.relative_to(run)}: holds what looks like {said}" in refused.stderr
    assert planted not in refused.stderr
    assert not (tmp_path / "out").exists()


def test_the_page_needs_nothing_from_elsewhere():
    page = (EXAMPLE / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    assert [each for each in sources if not each.startswith("#")] == []
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


@pytest.mark.long
def test_a_price_table_goes_into_the_run_folder_and_a_wrong_one_does_not(tmp_path):
    run = shutil.copytree(EXAMPLE, tmp_path / "run")
    done = analysis("report", run, "--prices", ROOT / "analysis" / "prices.yml")
    assert done.returncode == 0, done.stderr
    assert "USD an hour, held" in (run / "report.md").read_text()
    again = report_of(run)
    assert analysis("report", run).returncode == 0
    assert report_of(run) == again, "the table stays in the folder"
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("name: n\nversion: '1'\nsource: s\ncurrency: USD\nper_gb_s_executed: 1\nper_gb_held: 1\n")
    refused = analysis("report", run, "--prices", wrong)
    assert refused.returncode == 2
    assert "per_gb_held" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert report_of(run) == again


@pytest.mark.long
def test_two_campaigns_make_a_page_of_their_own(tmp_path):
    run = shutil.copytree(EXAMPLE, tmp_path / "run")
    done = analysis("compare", run, EXAMPLE)
    assert done.returncode == 0, done.stderr
    page = re.search(r"report: (.*\.html)", done.stdout)[1]
    try:
        shown = (ROOT / page).read_text()
        assert "Two campaigns side by side" in shown
        assert "Nothing that is recorded" in shown
    finally:
        for form in ("html", "json"):
            (ROOT / page).with_suffix(f".{form}").unlink(missing_ok=True)


@pytest.mark.long
def test_a_half_written_row_is_told_with_its_place_and_its_code(tmp_path):
    run = shutil.copytree(EXAMPLE, tmp_path / "run")
    packed = sorted(run.glob("cells/*/stages.jsonl*"))[0]
    packed.write_bytes(packed.read_bytes()[:-40])
    done = analysis("report", run)
    assert done.returncode == 5
    assert "DATA" in done.stdout
    assert packed.parent.name in done.stdout
    assert "Traceback" not in done.stderr
    assert packed.parent.name in (run / "report.html").read_text()


def test_a_folder_that_is_no_campaign_is_refused_without_a_traceback(tmp_path):
    done = analysis("report", tmp_path)
    assert done.returncode == 2
    assert "no campaign" in done.stderr
    (tmp_path / "campaign.json").write_text("{")
    done = analysis("report", tmp_path)
    assert done.returncode == 5
    assert "campaign.json cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_drift_of_the_published_controls_is_told():
    whole = load(ROOT / "runs" / "example-controls")
    told = trends.anomalies(digest.of_all(whole), whole.experiment.primary_outcome)
    (detail,) = next(
        each.detail for each in told if (each.where, each.what[:15]) == ("steady, cold", "mean start time")
    )
    assert "from 0.849 (first) to 0.651 s (last); Spearman's rho with time -0.68" in detail


def test_the_fastest_run_of_the_first_block_is_the_reference_of_the_published_example():
    whole = load(EXAMPLE)
    block = [run.median_latency_s for run in whole.runs if (run.load, run.block) == ("bursty", 0)]
    assert whole.reference_latency_s("bursty") == min(block) < 0.1 < max(block)
