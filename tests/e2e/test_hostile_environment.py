"""The embedded platform depends on nothing of the account that starts it, nor on where its checkout lies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fave.programs import cache_dir
from fave.settings import ROOT
from tests.support.hostile import ENVIRONMENT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "runs")


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "mein Prüfstand (1), [2]"
    shutil.copytree(ROOT, folder, ignore=_NOT_COPIED)
    return folder


@pytest.fixture
def make(checkout, tmp_path):
    """A target of the Makefile there, with everything in the environment that could be in the way."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "requests.py").write_text("raise RuntimeError('the account had its way')", encoding="utf-8")
    venv = Path(sys.executable).parent.parent
    old = [part for name in (".installed", ".ready") for part in ("-o", str(venv / name))]
    elsewhere = {"PYTHONPATH": str(modules), "XDG_CACHE_HOME": str(cache_dir().parent)}
    # Nor what a make that runs these tests hands on: it would tell of folders that it enters.
    not_ours = ("LANG", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    bare = {name: value for name, value in os.environ.items() if name not in not_ours and not name.startswith("FAVE_")}

    def call(target, **more):
        command = ["make", *old, f"VENV={venv}", target]
        env = bare | ENVIRONMENT | elsewhere | more
        return subprocess.run(command, cwd=checkout, env=env, umask=0, capture_output=True, timeout=300, check=False)

    return call


def test_every_function_works_whatever_the_account_and_the_folder_are_like(checkout, make):
    try:
        up = make("up")
        assert up.returncode == 0, up.stdout + up.stderr
        smoke = make("smoke")
        assert smoke.returncode == 0, smoke.stdout + smoke.stderr
        assert b"all 11 functions answer and reach the object store" in smoke.stdout
        assert b"using the platform at" in smoke.stdout
        state = checkout / ".fave"
        open_to_all = [path for path in state.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
        assert open_to_all == [], "whoever may log in could change these"
        assert (state / "credentials.json").stat().st_mode & 0o777 == 0o600
    finally:
        down = make("down")
    assert down.stdout == b"stopped\n", down.stderr


def test_a_home_that_cannot_be_written_is_a_message_with_the_remedy(make):
    smoke = make("smoke", XDG_CACHE_HOME="")
    assert smoke.returncode == 2  # make's
    assert b"XDG_CACHE_HOME" in smoke.stderr
    assert b"Traceback" not in smoke.stdout + smoke.stderr
