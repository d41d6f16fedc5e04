"""Products on demand: fetch what each needs, make it, verify it, keep it in the cache."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from assets import samples
from assets.fetch import Say, fetch, sha256_of
from assets.manifest import Manifest, load
from fave.errors import AssetError, ConfigError
from fave.programs import ELSEWHERE, asset, cache_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

# The long sample's source is 96 MB: only on demand.
DEFAULT_PRODUCTS = ("detector", "whisper", "embedder", "short", "frames", "prometheus")


def provide(names: Iterable[str], say: Say = print) -> dict[str, Path]:
    """Make sure the products are there; returns their paths. A second call only looks.

    They are in the cache, or where the environment says (`Package.instead`): then nothing is fetched.

    Raises
    ------
    ConfigError
        For a name that the manifest does not have.
    AssetError
        Naming package, kind of registry and remedy; or the variable that names a file that is not there.
    """
    manifest = load()
    names = list(names)
    unknown = [name for name in names if name not in manifest.products]
    if unknown:
        raise ConfigError(f"unknown asset {', '.join(unknown)} (known: {', '.join(manifest.products)})")
    cache = cache_dir()
    paths = {name: _own(name, manifest) or cache / manifest.products[name].path for name in names}
    try:
        if all(path.exists() for path in paths.values()):
            return paths
        with _only_one(cache):
            for name in names:
                if not paths[name].exists():
                    _make(name, manifest, cache, say)
    except (PermissionError, NotADirectoryError, FileNotFoundError) as error:
        raise AssetError(f"assets cannot be kept in {cache}: {error}", hint=ELSEWHERE) from error
    return paths


def _own(name: str, manifest: Manifest) -> Path | None:
    """What the environment names in place of the product, if it names everything that stands in for its packages."""
    product = manifest.products[name]
    variables = [variable for package in product.needs for variable in manifest.packages[package].instead]
    if not variables or not all(os.environ.get(variable) for variable in variables):
        return None
    first, *_ = [asset(product.path, variable) for variable in variables]
    return first


def _make(name: str, manifest: Manifest, cache: Path, say: Say) -> None:
    product = manifest.products[name]
    for package in product.needs:
        fetch(manifest.packages[package], cache, say)
    target = cache / product.path
    if name in _MAKERS:
        say(f"making {name} ...")
        _MAKERS[name](cache / "sources", target)
    if product.sha256 and sha256_of(target) != product.sha256:
        found = sha256_of(target)
        target.unlink()
        raise AssetError(
            f"{name}: {target.name} came out with SHA-256 {found}, the manifest says {product.sha256}",
            hint="install exactly the versions of requirements.txt: the conversion depends on onnx and onnxruntime",
        )
    if not target.exists():
        raise AssetError(f"{name}: {target} was not made")
    say(f"{name}: {target}")


# onnx is heavy and needed once in a machine's life: imported where it is used.


def _detector(sources: Path, target: Path) -> None:
    from assets.detector import convert_detector

    convert_detector(sources / "coco-ssd", target)


def _embedder(sources: Path, target: Path) -> None:
    from assets.embedder import convert_embedder

    convert_embedder(sources / "minilm-l6", target)


_MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "detector": _detector,
    "embedder": _embedder,
    "short": lambda sources, target: samples.compose(samples.SHORT_SCENES, samples.SHORT_SPEECH, sources, target),
    "long": lambda sources, target: samples.compose(samples.LONG_SCENES, samples.LONG_SPEECH, sources, target),
    "frames": lambda sources, target: samples.extract_frames(sources / "bikes.mp4", target),
}


@contextmanager
def _only_one(cache: Path) -> Iterator[None]:
    """Two checkouts share one cache: the second waits, then finds everything there."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
