"""The place for secrets is shared by all platforms of a machine: whoever leaves it takes nothing from the others."""

from __future__ import annotations

import os

import pytest

from local.gateway import secret_mount

pytestmark = pytest.mark.unit


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_the_last_platform_removes_it(tmp_path, monkeypatch):
    place = tmp_path / "openfaas" / "secrets"
    monkeypatch.setattr(secret_mount, "PLACE", place)
    one, two = secret_mount.take(), secret_mount.take()
    if one is None or two is None:
        pytest.skip("no mounts here")
    secret_mount.leave(one)
    assert place.is_dir()
    secret_mount.leave(two)
    assert not place.exists()
