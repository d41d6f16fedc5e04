"""Arms in which some of a workload's functions are otherwise: other versions, commands, variables, sizes.

Every workload here is as it is in that arm, but for its variant.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from fave.campaign.experiment import Variant
from fave.endpoints import STATE
from fave.errors import ConfigError
from workloads.model import Function, Workload, is_private

# What FAVE says itself, by the workload's settings and the regime's.
_SAID = ("max_inflight", "exec_timeout", "read_timeout", "write_timeout", "FAVE_FUNCTION", "FAVE_MEMORY_LIMIT_MB")
_OF_IMAGES, _OF_COMMANDS = ("image",), ("handler", "command", "directory", "commit")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def changed(work: Workload, variant: Mapping[str, Variant]) -> Workload:
    """The workload as it is in that arm. A commit's files are where `provide` puts them."""
    functions = {name: _function(work, name, each) for name, each in variant.items()}
    return msgspec.structs.replace(work, functions=work.functions | functions)


def _function(work: Workload, name: str, variant: Variant) -> Function:
    before = work.functions[name]
    said = {
        field: value
        for field in ("image", "handler", "command", "directory", "memory_limit_mb", "max_in_flight")
        if (value := getattr(variant, field)) is not None
    }
    if variant.command:
        said |= {"handler": ""}
    if variant.handler:
        said |= {"command": ""}
    made = msgspec.structs.replace(before, **said, environment=before.environment | variant.environment)
    if variant.commit:
        made = msgspec.structs.replace(made, directory=str(_Checkout.of(work, made, variant.commit).folder))
    return made


def pinned(work: Workload, variants: Mapping[str, Mapping[str, Variant]]) -> dict[str, dict[str, Variant]]:
    """With each commit in full: a branch may be another one tomorrow.

    Raises
    ------
    ConfigError
        For one that its checkout does not know.
    """

    def pin(name: str, variant: Variant) -> Variant:
        if not variant.commit or _COMMIT.fullmatch(variant.commit):
            return variant
        made = _function(work, name, msgspec.structs.replace(variant, commit=""))
        return msgspec.structs.replace(variant, commit=_full(work.path_of(made.directory), variant.commit))

    return {arm: {name: pin(name, each) for name, each in mine.items()} for arm, mine in variants.items()}


def provide(work: Workload, variants: Mapping[str, Mapping[str, Variant]]) -> None:
    """Take the files of every commit that an arm names out of its checkout, once."""
    for mine in variants.values():
        for name, variant in mine.items():
            if variant.commit:
                made = _function(work, name, msgspec.structs.replace(variant, commit=""))
                _Checkout.of(work, made, variant.commit).provide()


def without_effect(variants: Mapping[str, Mapping[str, Variant]], *, runs_images: bool) -> list[str]:
    """Those that change nothing of what a platform runs, which is images or else commands. Each begins with its key."""
    passed_over = _OF_COMMANDS if runs_images else _OF_IMAGES
    runs, other = ("images", "image") if runs_images else ("commands", "command, handler, directory or commit")
    found = []
    for arm, mine in variants.items():
        for name, variant in mine.items():
            said = [each for each in variant.__struct_fields__ if getattr(variant, each) not in (None, "", {})]
            if not set(said) - set(passed_over):
                what = f"variants.{arm}.{name}: {', '.join(said)} changes nothing here"
                found.append(f"{what}, where {runs} run: say {other}, environment or a limit")
    return found


def wrong(work: Workload, variants: Mapping[str, Mapping[str, Variant]]) -> Iterator[str]:
    """What cannot be; each begins with its key."""
    if variants and not work.deploy:
        yield "variants: the workload says `deploy: false`, and functions of others are not exchanged"
        return
    for arm, mine in variants.items():
        for name, variant in mine.items():
            where = f"variants.{arm}.{name}"
            if name not in work.functions:
                yield f"{where}: is none of the functions {', '.join(work.functions)}"
                continue
            yield from (
                f"{where}.environment.{each}: FAVE sets it itself" for each in variant.environment if each in _SAID
            )
            yield from (
                f"{where}.environment.{each}: would stand in campaign.json; give it to the function as a secret"
                for each in variant.environment
                if is_private(each)
            )
            try:
                pinned(work, {arm: {name: variant}})
                same = changed(work, {name: variant}).functions[name] == work.functions[name]
            except (ConfigError, ValueError) as error:
                yield from (f"{where}: {line}" for line in str(error).splitlines()[:1])
                continue
            if same:
                yield f"{where}: nothing is otherwise than the workload says"


class _Checkout(msgspec.Struct, frozen=True):
    """A git checkout's state at a commit. prefix: of the function's folder within it."""

    root: Path
    prefix: str
    commit: str

    @classmethod
    def of(cls, work: Workload, function: Function, commit: str) -> _Checkout:
        directory = work.path_of(function.directory).resolve()
        return cls(
            Path(_git(directory, "rev-parse", "--show-toplevel")), _git(directory, "rev-parse", "--show-prefix"), commit
        )

    @property
    def _place(self) -> Path:
        return STATE / "checkouts" / f"{self.root.name}-{self.commit[:12]}"

    @property
    def folder(self) -> Path:
        return self._place / self.prefix

    def provide(self) -> None:
        if self._place.is_dir():
            return
        packed = _run(self.root, "archive", "--format=tar", self.commit)
        making = self._place.with_name(f"{self._place.name}.making")
        making.mkdir(parents=True, exist_ok=True)
        subprocess.run(["tar", "-xf", "-", "-C", str(making)], input=packed, check=True)
        making.rename(self._place)


def _full(directory: Path, commit: str) -> str:
    try:
        return _git(directory, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    except ConfigError as error:
        raise ConfigError(f"commit {commit!r} is not known in {directory}", hint=error.hint) from error


def _git(directory: Path, *arguments: str) -> str:
    return _run(directory, *arguments).decode(errors="replace").strip()


def _run(directory: Path, *arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"git {arguments[0]} failed"
        raise ConfigError(f"{directory}: {said}", hint="`commit` is of the git checkout that `directory` is in")
    return done.stdout
