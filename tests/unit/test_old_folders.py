"""A run folder of November 2026, before workloads were values and rows had a routable time, is read as it was meant."""

import json

import pytest

from analysis.answers.results import results
from analysis.rows import digest
from analysis.rows.folder import load
from fave.campaign import record
from fave.errors import InvalidRunError
from fave.settings import ROOT

pytestmark = pytest.mark.unit

FOLDER = ROOT / "tests" / "data" / "run-of-november-2026"


def test_it_opens_and_says_what_it_said():
    campaign = load(FOLDER)
    found = results(campaign, digest.of_all(campaign))
    assert [(cell.regime, cell.runs, cell.cold_rate.estimate) for cell in found.cells] == [
        ("cold", 2, 1.0),
        ("warm", 2, 0.0),
    ]
    assert [(each.kind, each.state) for each in found.controls] == [("always-cold", "passed"), ("never-cold", "passed")]
    assert (found.validity.valid, found.validity.findings, found.validity.excluded) == (True, [], [])


def test_what_its_loads_asked_for_are_variables_today():
    load = record.manifest(FOLDER).experiment.loads["paced"]
    assert load.variables == {"sample": "short", "query": "find scenes with cars"}


def test_where_no_platform_said_since_when_it_could_send_the_replicas_own_stamp_counts():
    campaign = load(FOLDER)
    stages = campaign.rows(next(run for run in campaign.runs if run.regime == "cold")).stages
    assert (stages["routable_at_ns"] == stages["ready_at_ns"]).all()
    assert (stages["routable_at_ns"] > stages["sent_at_ns"]).all()


def test_a_home_folder_that_an_older_manifest_names_is_this_accounts(tmp_path, monkeypatch):
    """Else a campaign of before could not be resumed: its workload would seem to be another one."""
    monkeypatch.setenv("HOME", "/home/someone")
    facts = json.loads((FOLDER / "campaign.json").read_text())
    facts["workload"] = {"requests": {}, "functions": {"f": {"command": "/home/someone/serve"}}}
    (tmp_path / "campaign.json").write_text(json.dumps(facts))
    assert record.manifest(tmp_path).workload["functions"]["f"]["command"] == "~/serve"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"platform": {"provider": None}}, "platform.provider"),
        ({"host": {"memory_kb": "much"}}, "host.memory_kb"),
        ({"experiment": {"loads": []}}, "campaign.json cannot be read"),
    ],
)
def test_a_manifest_of_another_shape_is_refused_with_the_place(tmp_path, change, says):
    facts = json.loads((FOLDER / "campaign.json").read_text()) | change
    (tmp_path / "campaign.json").write_text(json.dumps(facts))
    with pytest.raises(InvalidRunError, match=says):
        record.manifest(tmp_path)
