"""Images are for ARM as well, and nothing is compiled where they are built."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fave.settings import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PINNED = [ROOT / "requirements.txt", *sorted((ROOT / "functions" / "images").glob("*/requirements.txt"))]
# What Debian 12's C library can load.
_LIBRARIES = ("2_17", "2_24", "2_26", "2_27", "2_28", "2_31", "2_34", "2_35")


@pytest.mark.parametrize("pinned", PINNED, ids=lambda path: path.parent.name)
def test_every_pinned_package_has_a_wheel_for_arm(pinned, tmp_path):
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"]
    command += ["--ignore-installed", "--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
    command += [f"--platform=manylinux_{version}_aarch64" for version in _LIBRARIES]
    done = subprocess.run(
        [*command, "--target", str(tmp_path), "-r", str(pinned)], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
