"""Functions that somebody else deployed: only their scaling is changed, and put back.

How they scaled is written down before anything is changed and stays until they do so again, whatever becomes of who
changed it: `python -m regimes restore` (`make restore`) gives back what a killed campaign left. All else of a function
is its owner's, also in between: what is deployed anew meanwhile stays as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec
import psutil

from fave.endpoints import STATE
from fave.errors import PlatformError
from fave.processes import lives
from fave.wire.openfaas import LABEL, NAME_LABEL, FunctionSpec, FunctionStatus, memory_mb
from platforms import deployed
from platforms.gateway import Gateway
from workloads.model import Function, Workload

PLACE = STATE / "borrowed.json"


class Note(msgspec.Struct, frozen=True):
    """How a function scaled when it was borrowed, and by which process."""

    gateway_url: str
    function: str
    labels: dict[str, str]
    replicas: int
    pid: int


def borrow(gateway: Gateway, workload: Workload, functions: Collection[str]) -> dict[str, FunctionStatus]:
    """The functions as they stand, noted before the first change.

    Raises
    ------
    PlatformError
        When one is not deployed, is borrowed by somebody who is at work, or has other limits than the workload says:
        costs would be false.
    """
    there = {status.name: status for status in gateway.functions() if status.name in functions}
    missing = sorted(set(functions) - there.keys())
    if missing:
        raise PlatformError(
            f"not deployed at {gateway.url}: {', '.join(missing)}",
            hint="the workload says `deploy: false`: deploy them, or tell how they are started and leave that out",
        )
    wrong = [line for name in functions for line in _unlike(there[name], workload.functions[name])]
    if wrong:
        raise PlatformError("\n".join(wrong), hint="say in the workload what is deployed")
    # The load generator is a child of who measures.
    ours = {os.getpid(), *(each.pid for each in psutil.Process().parents())}
    with _notes() as notes:
        for name, status in there.items():
            known = next((note for note in notes if _is(note, gateway, name)), None)
            if known and known.pid in ours:
                continue
            if known and lives(known.pid):
                raise PlatformError(f"{name} is being measured by process {known.pid}: one at a time")
            labels, replicas = (known.labels, known.replicas) if known else (_scaling(status), status.replicas)
            notes[:] = [note for note in notes if note is not known]
            notes.append(Note(gateway.url, name, labels, replicas, os.getpid()))
    return there


def give_back(gateway: Gateway, names: Collection[str] | None = None) -> list[str]:
    """Let what was borrowed from this gateway scale as before; of `names`, or all of it. The names of what was.

    Raises
    ------
    PlatformError
        With those that could not be; they stay noted.
    """
    done, problems = [], []
    with _notes() as notes:
        for note in list(notes):
            if note.gateway_url != gateway.url or (names is not None and note.function not in names):
                continue
            try:
                now = gateway.function(note.function)
                if now is not None:
                    deployed.deploy(gateway, as_spec(now, note.labels))
                    deployed.insisting(lambda n=note: gateway.scale(n.function, n.replicas))  # type: ignore[misc]
            except PlatformError as error:
                problems.append(f"{note.function} was not put back: {error.message}")
            else:
                notes.remove(note)
                done.append(note.function)
    if problems:
        raise PlatformError("\n".join(problems), hint="`make restore` tries again")
    return done


def as_spec(status: FunctionStatus, scaling: Mapping[str, str]) -> FunctionSpec:
    """What it takes to deploy it as it is, with these scaling labels instead of its own."""
    own = (status.labels or {}).items()
    labels = {name: value for name, value in own if not name.startswith(LABEL) and name != NAME_LABEL}
    return FunctionSpec(
        service=status.name,
        image=status.image,
        namespace=status.namespace,
        env_process=status.env_process,
        env_vars=status.env_vars or {},
        constraints=status.constraints or (),
        secrets=status.secrets or (),
        labels=labels | dict(scaling),
        annotations=status.annotations or {},
        limits=status.limits or {},
        requests=status.requests or {},
        read_only_root_filesystem=status.read_only_root_filesystem,
    )


def _scaling(status: FunctionStatus) -> dict[str, str]:
    return {name: value for name, value in (status.labels or {}).items() if name.startswith(LABEL)}


def _unlike(status: FunctionStatus, about: Function) -> Iterable[str]:
    text = (status.limits or {}).get("memory", "")
    try:
        limit = memory_mb(text)
    except ValueError:
        limit = -1
    if limit != about.memory_limit_mb:
        yield f"functions.{status.name}.memory_limit_mb: {about.memory_limit_mb}, deployed is {text or 'no limit'}"
    in_flight = (status.env_vars or {}).get("max_inflight", "")
    if in_flight and in_flight != str(about.max_in_flight):
        yield f"functions.{status.name}.max_in_flight: {about.max_in_flight}, deployed is {in_flight}"


def _is(note: Note, gateway: Gateway, name: str) -> bool:
    return (note.gateway_url, note.function) == (gateway.url, name)


@contextlib.contextmanager
def _notes() -> Iterator[list[Note]]:
    """What is noted, to be changed; by one process at a time, and on disk when it ends."""
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    with PLACE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            notes = msgspec.json.decode(PLACE.read_bytes(), type=list[Note]) if PLACE.exists() else []
        except (OSError, ValueError) as error:
            raise PlatformError(f"{PLACE}: what was borrowed cannot be read ({error})") from error
        before = list(notes)
        try:
            yield notes
        finally:
            if notes != before:
                _write(notes)


def _write(notes: list[Note]) -> None:
    if not notes:
        PLACE.unlink(missing_ok=True)
        return
    partial = PLACE.with_name(f".{PLACE.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(notes), indent=2))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(PLACE)
