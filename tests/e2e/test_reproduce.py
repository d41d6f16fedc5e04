"""A campaign that is run again from its folder, and those that cannot be."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from experiments import reproduce
from fave.campaign import manifest
from fave.campaign.rundir import read_json, write_json
from fave.settings import ROOT
from tests.support.campaigns import experiment, with_cold, written

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CELLS = with_cold({(block, regime): 5 + block for block in range(2) for regime in "ab"})


def door(*arguments: Any, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.long
def test_a_tiny_campaign_is_run_again_at_its_commit_and_is_compatible(child_environment, tmp_path):
    """In this checkout where it has no changes, else in a worktree; the paced cells are exact: 100 and 0 %."""
    runs, tiny = tmp_path / "runs", ROOT / "tests" / "data" / "tiny.yml"
    first = door("run", tiny, "--runs", runs, "--quiet", env=child_environment)
    assert first.returncode == 0, first.stdout + first.stderr
    (folder,) = runs.iterdir()
    worktrees = manifest.git("worktree", "list")
    again = door("reproduce", folder, "--runs", runs, env=child_environment)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.splitlines()[-1] == "compatible: all of 3 intervals and 1 verdicts"
    (new,) = set(runs.iterdir()) - {folder}
    before, after = (read_json(each / "campaign.json") for each in (folder, new))
    for what in ("name", "order", "schedules_sha256", "experiment", "regimes"):
        assert before[what] == after[what], what
    assert after["source"] == {"commit": manifest.git("rev-parse", "HEAD"), "dirty": False}
    assert manifest.git("worktree", "list") == worktrees, "none is left"
    only = door("reproduce", folder, "--new", new, env=child_environment)
    assert (only.returncode, only.stdout.splitlines()[-1]) == (0, again.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("source", "says", "remedy"),
    [
        ({"commit": "0" * 40, "dirty": False}, f"commit {'0' * 40} is not known in this checkout", "git fetch --all"),
        ({"commit": "", "dirty": False}, "its commit was not recorded", "make bench"),
    ],
)
def test_a_campaign_whose_commit_is_not_known_is_refused_before_anything_is_started(tmp_path, source, says, remedy):
    folder = written(tmp_path / "runs" / "made", experiment(), CELLS)
    write_json(folder / "campaign.json", read_json(folder / "campaign.json") | {"source": source})
    state = tmp_path / "state"
    done = door(
        "reproduce", folder, "--runs", tmp_path / "runs", env={"PATH": "/usr/bin:/bin", "FAVE_STATE": str(state)}
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert not state.exists()


def test_other_packages_are_refused_with_the_commands_that_help(tmp_path, monkeypatch):
    from fave.errors import ConfigError

    head = manifest.git("rev-parse", "HEAD")
    folder = written(tmp_path / "made", experiment(), CELLS)
    write_json(folder / "campaign.json", read_json(folder / "campaign.json") | {"source": {"commit": head}})
    monkeypatch.setattr(reproduce, "STATE", tmp_path / "state")
    monkeypatch.setattr(reproduce, "version", lambda _: "0.0.1")
    with pytest.raises(ConfigError) as refused:
        reproduce.run(folder, runs=tmp_path)
    assert "are not those installed here" in refused.value.message
    for command in ("git worktree add", "bench EXPERIMENT=", f"make reproduce RUN={folder} NEW="):
        assert command in refused.value.hint
    experiment_file = refused.value.hint.partition("EXPERIMENT=")[2].split()[0]
    assert read_json(tmp_path / "state" / "reproduce" / "made.yml")["seed"] == 1
    assert experiment_file == str(tmp_path / "state" / "reproduce" / "made.yml")
