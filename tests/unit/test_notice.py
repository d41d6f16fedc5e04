"""Whose works FAVE uses: author, licence and origin of each, wherever FAVE goes."""

import re

import pytest

from assets import notice, samples
from assets.manifest import load
from fave.settings import ROOT
from functions.images.build import FOLDER, stage_context

pytestmark = pytest.mark.unit

MANIFEST = load()
STATIC = ROOT / "generator" / "static"
# SPDX identifiers, and the two licences that it has none for.
LICENCES = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-3.0", "NOASSERTION"}
OWN_TERMS = {"LicenseRef-Public-Domain", "LicenseRef-PETS2009"}


def works_of(path):
    return [work.title for work in MANIFEST.works if path.startswith(work.path)]


def test_the_notice_is_what_the_manifest_says():
    assert notice.NOTICE.read_text(encoding="utf-8") == notice.notice(MANIFEST), "run `python -m assets --notice`"


def test_the_published_example_carries_it():
    assert (ROOT / "runs" / "example" / "NOTICE").read_bytes() == notice.NOTICE.read_bytes()


def test_what_an_image_is_built_from_carries_it(tmp_path):
    stage_context(tmp_path / "context")
    for name in ("LICENSE", "NOTICE"):
        assert (tmp_path / "context" / name).read_bytes() == (ROOT / name).read_bytes()
    assert "COPY LICENSE NOTICE /app/\n" in (FOLDER / "base" / "Dockerfile").read_text(encoding="utf-8")


def test_the_documents_table_is_what_the_manifest_says():
    text = notice.PAGE.read_text(encoding="utf-8")
    assert text == notice.page(text, MANIFEST), "run `python -m assets --notice`"
    assert all(work.title in text for work in MANIFEST.works)


def test_every_file_that_is_fetched_or_vendored_belongs_to_one_work():
    fetched = {file.path: name for name, package in MANIFEST.packages.items() for file in package.files}
    for path, package in fetched.items():
        assert [work.package for work in MANIFEST.works if path.startswith(work.path)] == [package], path
    vendored = [path.relative_to(ROOT) for path in STATIC.iterdir() if path.name.startswith("uPlot")]
    assert [works_of(str(path)) for path in vendored] == [["uPlot 1.6.32"]] * 3


@pytest.mark.parametrize("product", MANIFEST.products)
def test_a_product_names_the_works_of_all_its_packages(product):
    packages = {work.package for work in MANIFEST.works if product in work.products}
    assert packages == set(MANIFEST.products[product].needs)


@pytest.mark.parametrize(
    ("product", "scenes", "speech"),
    [
        ("short", samples.SHORT_SCENES, samples.SHORT_SPEECH),
        ("long", samples.LONG_SCENES, samples.LONG_SPEECH),
    ],
)
def test_a_sample_names_the_works_that_are_seen_and_heard_in_it(product, scenes, speech):
    sources = [f"sources/{scene.source}" for scene in scenes] + [f"sources/speech/{said.source}" for said in speech]
    used = {title for source in sources for title in works_of(source)}
    assert used == {work.title for work in MANIFEST.works if product in work.products}


@pytest.mark.parametrize("work", MANIFEST.works, ids=lambda work: work.title)
def test_a_works_licence_is_known_and_what_it_asks_for_is_there(work):
    assert work.licence in LICENCES | OWN_TERMS
    assert re.match("https?://", work.origin)
    if work.licence.startswith(("MIT", "BSD", "CC-BY")):
        assert re.search(r"(?i)copyright", work.copyright)
    if work.licence.startswith("CC-BY"):
        assert "changed" in work.note
    if work.licence in {"NOASSERTION", "LicenseRef-PETS2009"}:
        assert "does not say" in work.note


def test_the_document_says_where_else_a_package_s_files_are():
    text = notice.PAGE.read_text(encoding="utf-8")
    for package in MANIFEST.packages.values():
        for other in package.alternatives:
            assert re.search(rf"^\| `{package.name}` \| .*`{other.name}`.* {other.version} ", text, re.MULTILINE)
        assert [name for name in package.instead if name not in text] == []


def test_uplots_version_is_the_vendored_ones():
    assert "uPlot (v1.6.32)" in (STATIC / "uPlot.iife.min.js").read_text(encoding="utf-8")[:100]
