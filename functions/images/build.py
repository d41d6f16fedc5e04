"""Container images of the functions: one base, one thin layer per group, one image per function; and FAVE itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from fave.errors import AssetError, PlatformError
from fave.images import FUSED, ORCHESTRATOR, handler_of, image_of, package_of
from fave.programs import asset
from fave.settings import ROOT

FOLDER = Path(__file__).parent
BASE = "fave-base"
CLIENT = "client"
LICENCES = ("LICENSE", "NOTICE")
Say = Callable[[str], None]


class Group(NamedTuple):
    """Functions that share a requirement set. models: relative to the asset cache."""

    functions: tuple[str, ...]
    models: tuple[str, ...] = ()


_OTHERS = {
    "media": Group(("stage-ffmpeg-0", "stage-ffmpeg-1", "stage-ffmpeg-2", "stage-ffmpeg-3")),
    "audio": Group(("stage-librosa",)),
    "speech": Group(("stage-deepspeech",), ("models/whisper-tiny-en",)),
    "vision": Group(("stage-object-detector",), ("models/ssdlite-mobilenet-v2-coco-features.onnx",)),
    "text": Group(("stage-embedder",), ("models/minilm-l6",)),
}
_NAMED = {function for group in _OTHERS.values() for function in group.functions}
_STAGES = [path.parent.name.replace("_", "-") for path in sorted((ROOT / "functions").glob("stage_*/handler.py"))]
# `light`: who needs nothing that others do not. `fused`: all of them in one.
GROUPS = {
    **_OTHERS,
    "light": Group((ORCHESTRATOR, *(name for name in _STAGES if name not in _NAMED))),
    FUSED: Group((FUSED,), tuple(model for group in _OTHERS.values() for model in group.models)),
}


class Target(NamedTuple):
    """How images are named and what they are made from. pip_index: where pip looks while building."""

    prefix: str = ""
    tag: str = "latest"
    debian_image: str = "debian:bookworm-slim"
    pip_index: str = ""

    def name(self, function: str) -> str:
        return image_of(function, self.prefix, self.tag)


def stage_context(folder: Path, models: Iterable[str] = ()) -> None:
    """Put what an image may be built from into `folder`: sources, licences and models, nothing of this machine."""
    for room in ("fave", "functions", "workloads", ORCHESTRATOR):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in LICENCES:
        shutil.copy(ROOT / name, folder / name)
    for relative in models:
        source, target = asset(relative), folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)


def build_client(target: Target, say: Say) -> str:
    """The image of FAVE as a client, from this checkout. Raises as `build` does."""
    _need_engine()
    name = target.name(f"fave-{CLIENT}")
    with tempfile.TemporaryDirectory(prefix="fave-images-") as folder:
        kept_back = shutil.ignore_patterns(".*", "__pycache__", "runs")
        context = Path(shutil.copytree(ROOT, Path(folder) / "fave", ignore=kept_back))
        (context / "runs").mkdir()
        _docker_build(context, CLIENT, name, {"DEBIAN_IMAGE": target.debian_image}, target, say)
    return name


def build(target: Target, groups: Iterable[str], say: Say) -> list[str]:
    """Build the base and the images of `groups`; returns their names.

    Raises
    ------
    AssetError
        When there is no container engine, or a model is missing.
    PlatformError
        When a build fails, with the end of what it said.
    """
    _need_engine()
    built = []
    groups = list(groups)
    with tempfile.TemporaryDirectory(prefix="fave-images-") as folder:
        stage_context(Path(folder), {model for name in groups for model in GROUPS[name].models})
        base = target.name(BASE)
        _docker_build(Path(folder), "base", base, {"DEBIAN_IMAGE": target.debian_image}, target, say)
        for name in groups:
            for function in GROUPS[name].functions:
                arguments = {"BASE_IMAGE": base, "PACKAGE": package_of(function), "HANDLER": handler_of(function)}
                _docker_build(Path(folder), name, target.name(function), arguments, target, say)
                built.append(target.name(function))
    return built


def _need_engine() -> None:
    if not shutil.which("docker"):
        raise AssetError(
            "docker is missing", hint="`apt-get install docker.io` as root, or set PATH to a compatible one"
        )


def _docker_build(context: Path, group: str, image: str, arguments: dict[str, str], target: Target, say: Say) -> None:
    say(f"building {image} ...")
    if target.pip_index:
        arguments = {**arguments, "PIP_INDEX_URL": target.pip_index}
    command = ["build", "--network", "host", "--file", f"functions/images/{group}/Dockerfile", "--tag", image]
    command += [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    docker([*command, "."], f"{image} was not built", cwd=context)


def docker(arguments: list[str], failed: str, *, cwd: Path = ROOT) -> str:
    """What the container engine prints.

    Raises
    ------
    PlatformError
        When it fails: `failed`, and the end of what it said.
    """
    # The classic builder is in every engine; BuildKit's plugin is not in Debian's.
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(
        ["docker", *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise PlatformError(f"{failed}:\n{done.stdout.strip()[-2000:]}")
    return done.stdout
