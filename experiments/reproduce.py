"""A campaign run again: at the commit it was made by, with its settings, seeds and packages; then both are compared."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from analysis.report import reproduced
from experiments import facts
from experiments.progress import say
from fave.campaign import manifest, record
from fave.campaign.rundir import read_json, write_json
from fave.endpoints import STATE
from fave.errors import EXIT_ASSET, EXIT_CONFIG, EXIT_INTERRUPTED, EXIT_PLATFORM, ConfigError
from fave.processes import die_with_parent
from fave.settings import ROOT
from workloads.model import SHIPPED, of_record
from workloads.model import load as load_workload
from workloads.model import names as workload_names

# With these a campaign ended without runs that could be compared.
_NOTHING_RUN = (1, EXIT_CONFIG, EXIT_ASSET, EXIT_PLATFORM, EXIT_INTERRUPTED)


def run(folder: Path, *, runs: Path, new: Path | None = None) -> int:
    """Run the campaign in `folder` again and compare; with `new`, compare it with one that was run already.

    Raises
    ------
    ConfigError
        When it cannot be run as it was: its commit, its packages or its traces are not here.
    """
    if new is None:
        info = record.manifest(folder)
        commit = _commit(folder, info)
        experiment = _experiment_file(folder, info)
        if others := other_packages(manifest.git("show", f"{commit}:requirements.txt")):
            raise ConfigError(
                f"{folder.name}: the packages of commit {commit[:12]} are not those installed here: {_few(others)}",
                hint=_by_hand(folder, commit, experiment),
            )
        for note in _notes(info, commit):
            say(f"note: {note}")
        before = set(runs.glob("*/campaign.json"))
        with _code_of(commit) as code:
            exit_code = _run(experiment, runs, code)
        made = set(runs.glob("*/campaign.json")) - before
        if exit_code in _NOTHING_RUN or not made:
            return exit_code
        new = max(made).parent
    say(f"\nA (then)  {folder}\nB (now)   {new}\n")
    found, differences = reproduced.compared(folder, new)
    say(reproduced.in_terminal(found, differences))
    return found.exit_code


def _commit(folder: Path, info: record.Manifest) -> str:
    commit = info.source.commit
    if not commit:
        raise ConfigError(
            f"{folder.name}: its commit was not recorded, because FAVE was no git checkout when it was run",
            hint="`make bench` runs its experiment with this version, `make compare` compares the two",
        )
    if manifest.git("cat-file", "-t", commit) != "commit":
        raise ConfigError(
            f"{folder.name}: commit {commit} is not known in this checkout",
            hint="`git fetch --all` (of a shallow clone also `git fetch --unshallow`) brings it, if it was published",
        )
    return commit


def _experiment_file(folder: Path, info: record.Manifest) -> Path:
    """The resolved experiment as a file of its own; JSON is YAML. Traces by their full path, and the same bytes."""
    # As it was written: that commit reads its own form of it.
    experiment = dict(read_json(folder / "campaign.json")["experiment"])
    loads = {name: {**each, "traffic": dict(each["traffic"])} for name, each in experiment["loads"].items()}
    for name, digest in info.traces.items():
        trace = loads[name]["traffic"]["trace"]
        path = Path(trace["file"]).expanduser().resolve()
        if not path.is_file() or facts.sha256(path) != digest:
            raise ConfigError(
                f"{folder.name}: load {name!r} replays {trace['file']}, which is not here as it was then",
                hint=f"put the file with SHA-256 {digest} there",
            )
        loads[name]["traffic"]["trace"] = {**trace, "file": str(path)}
    if experiment.get("workload", SHIPPED) not in workload_names():
        experiment["workload"] = str(_own_workload(folder, experiment["workload"], info))
    path = STATE / "reproduce" / f"{info.name}.yml"
    write_json(path, {**experiment, "loads": loads})
    return path


def _own_workload(folder: Path, name: str, info: record.Manifest) -> Path:
    """Where a workload that is nobody's but the user's lies: as it was then, or nowhere."""
    path = Path(name).expanduser().resolve()
    if not path.exists() or of_record(load_workload(str(path))) != info.workload:
        raise ConfigError(
            f"{folder.name}: its workload {name} is not here as it was then",
            hint="put the file, and those that it names, where they were; campaign.json has their digests",
        )
    return path


def other_packages(requirements: str) -> list[str]:
    """Pinned packages that are installed here in another version, or not at all."""
    found = []
    for package, pinned in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", requirements, re.MULTILINE):
        try:
            installed = version(package)
        except PackageNotFoundError:
            installed = "none"
        if installed != pinned:
            found.append(f"{package} {pinned} (here {installed})")
    return found


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + f" and {len(names) - 5} more" * (len(names) > 5)


def _by_hand(folder: Path, commit: str, experiment: Path) -> str:
    there = ROOT.parent / f"fave-{commit[:8]}"
    return (
        "give that commit an environment of its own, and compare afterwards:\n"
        f"    git worktree add {there} {commit}\n"
        f"    make -C {there} bench EXPERIMENT={experiment}\n"
        f"    make reproduce RUN={folder} NEW={there}/runs/<the new folder>"
    )


def _notes(info: record.Manifest, commit: str) -> list[str]:
    """What is already known not to be as it was; the comparison names it too."""
    notes = facts.unlike(record.known(info), {"host": manifest.host(), "assets": manifest.assets()})
    if info.source.dirty:
        notes.append(f"it was made with changes to commit {commit[:12]} that nobody recorded; this runs the commit")
    return notes


@contextlib.contextmanager
def _code_of(commit: str) -> Iterator[Path]:
    """A folder with FAVE as it was: this checkout where it is that, else a worktree for as long as it is needed."""
    if manifest.commit() == {"commit": commit, "dirty": False}:
        yield ROOT
        return
    with tempfile.TemporaryDirectory(prefix="fave-") as parent:
        folder = Path(parent) / commit[:12]
        manifest.git("worktree", "add", "--detach", str(folder), commit)
        if not (folder / "requirements.txt").exists():
            raise ConfigError(f"git could not check out commit {commit} in {parent}", hint="`git worktree list`")
        try:
            yield folder
        finally:
            manifest.git("worktree", "remove", "--force", str(folder))


def _run(experiment: Path, runs: Path, code: Path) -> int:
    """As a process of its own, because it is another version. Interrupted, it is let end tidily."""
    environment = dict(os.environ)
    if code != ROOT:
        # A platform that this version keeps running is not that of the other one.
        environment.pop("FAVE_STATE", None)
    command = [sys.executable, "-m", "experiments", "run", str(experiment), "--runs", str(runs)]
    child = subprocess.Popen(command, cwd=code, env=environment, start_new_session=True, preexec_fn=die_with_parent)
    try:
        exit_code = child.wait()
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise
    return exit_code if exit_code >= 0 else 1  # killed by a signal
