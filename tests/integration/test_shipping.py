"""Run folders go to the object store while they grow, and come back as they are."""

from __future__ import annotations

import uuid

import pytest

from experiments.shipping import Shipping, fetch, shipped
from fave.errors import ConfigError

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / f"20270115-{uuid.uuid4().hex[:6]}-quick"
    (folder / "cells" / "one").mkdir(parents=True)
    (folder / "cells" / "one" / "rows.jsonl").write_text("1\n", encoding="utf-8")
    (folder / "campaign.json").write_text("{}", encoding="utf-8")
    return folder


def test_what_grew_is_sent_again_and_nothing_else(platform, folder):
    shipping = Shipping(folder, platform.store)
    assert shipping.ship() == 2
    assert shipping.ship() == 0
    (folder / "cells" / "one" / "rows.jsonl").write_text("1\n2\n", encoding="utf-8")
    assert shipping.ship() == 1


def test_a_run_folder_comes_back_as_it_was(platform, folder, tmp_path):
    Shipping(folder, platform.store).ship()
    assert folder.name in shipped(platform.store)
    back = fetch(folder.name, platform.store, tmp_path / "elsewhere")
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path.relative_to(back): path.read_bytes() for path in back.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("name", ["20270115-nothing", "", "../campaigns"])
def test_one_that_is_not_there_is_refused_with_those_that_are(platform, folder, tmp_path, name):
    Shipping(folder, platform.store).ship()
    with pytest.raises(ConfigError, match=f"(?s)is not in the object store.*{folder.name}"):
        fetch(name, platform.store, tmp_path / "elsewhere")


def test_a_key_that_leads_out_of_the_folder_is_not_written(tmp_path):
    """Not by a real store: its client would make another key of it before it is sent."""
    fetched = []

    class Theirs:
        def keys(self, prefix):
            return [f"{prefix}campaign.json", f"{prefix}../../evil"]

        def uri(self, key):
            return key

        def download(self, uri, path):
            fetched.append(uri)

    with pytest.raises(ConfigError, match="leads out of the run folder"):
        fetch("run", Theirs(), tmp_path)
    assert fetched == ["campaigns/run/campaign.json"]
