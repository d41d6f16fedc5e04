"""What driver and judge agree on: the facts of a run folder as frozen values, written by one and read by the other.

Keys that are not known here are nobody's concern. What has a default may be missing in folders of earlier versions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from fave.campaign.experiment import Experiment, Policy
from fave.campaign.rundir import read_json, write_json
from fave.campaign.validity import Fidelity, Observed, Verdict
from fave.environment import without_home
from fave.errors import InvalidRunError
from fave.settings import from_plain, to_plain
from fave.wire.records import SCHEMA

T = TypeVar("T")
# Until the year 2200: what is later is no stamp.
Stamp = Annotated[int, Meta(ge=0, lt=7_258_118_400 * 10**9)]
Count = Annotated[int, Meta(ge=0, lt=2**53)]


class Source(msgspec.Struct, frozen=True):
    """The checkout that FAVE ran from; empty outside a git checkout."""

    commit: str = ""
    dirty: bool = False


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """campaign.json: what was planned, and on and with what.

    name: of the experiment. campaign: of a published one, its own. order: cells as planned. schedules_sha256: by block
    and load. regimes: by load and regime, each function's policy; policies: of arms that switch, of each of their
    regimes. workload: as it is read back (`workloads.model`). host, versions, platform, capabilities, nodes, images,
    pods, assets, traces, traces_read_as: for the record.
    """

    schema: int = SCHEMA
    name: str
    started_at_ns: Stamp
    experiment: Experiment
    order: tuple[str, ...]
    co_located: bool
    campaign: str = ""
    embedded: bool = False
    schedules_sha256: dict[str, str] = {}
    regimes: dict[str, dict[str, dict[str, Policy]]] = {}
    policies: dict[str, dict[str, dict[str, dict[str, Policy]]]] = {}
    workload: dict[str, Any] = {}
    host: dict[str, Any] = {}
    versions: dict[str, str] = {}
    source: Source = Source()
    platform: dict[str, Any] = {}
    capabilities: dict[str, bool] = {}
    nodes: list[dict[str, Any]] = []
    images: dict[str, str] = {}
    pods: dict[str, Any] = {}
    # What was tried of the platform before anything was measured, where its kind does not say.
    probe: dict[str, Any] = {}
    # `on` where FAVE's idler scaled to zero.
    idler: str = ""
    assets: dict[str, str] = {}
    traces: dict[str, str] = {}
    traces_read_as: dict[str, str] = {}

    def __post_init__(self) -> None:
        if not isinstance(self.platform.get("provider", {}), dict):
            raise ValueError("platform.provider: expected keys and values")  # noqa: TRY004 - as msgspec says it
        memory_kb = self.host.get("memory_kb", 0)
        if not isinstance(memory_kb, int) or memory_kb < 0:
            raise ValueError("host.memory_kb: expected a count")


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Where a cell's wall time went.

    state_s: bringing the initial state about and verifying it. load_s: from the start of the schedule to its planned
    end. drain_s: from there until nothing was in flight any more.
    """

    state_s: float
    load_s: float
    drain_s: float
    other_s: float


class Judged(msgspec.Struct, frozen=True):
    """verdict.json. observed: what the verdict rests on."""

    verdict: Verdict
    observed: Observed | None = None

    def __post_init__(self) -> None:
        if any(None in (each.observed, each.limit) and not each.note for each in self.verdict.findings if not each.ok):
            raise ValueError("findings: one that is not ok needs numbers, or a note")

    @property
    def median_latency_s(self) -> float | None:
        return self.observed.median_latency_s if self.observed else None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of regime. `effective_at_ns`: when replica counts showed it; 0 when they did not, and `error` why.

    by: `start` (before the first arrival), `timeline`, `hand`, `schedule` (of an arm). replaced: functions whose
    replicas were replaced for it.
    """

    regime: str
    by: str
    phase: str = ""
    planned_at_ns: int = 0
    requested_at_ns: int
    effective_at_ns: int = 0
    ready: dict[str, int] = {}
    replaced: list[str] = []
    error: str = ""


class LoadVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run of load. verdict: None for closed-loop users, who have no schedule to be true to.

    trouble: what a process could not record (a full disk); then the run is not believed either.
    """

    fidelity: Fidelity | None = None
    verdict: Verdict | None = None
    stopped_early: bool = False
    trouble: tuple[str, ...] = ()

    @property
    def believed(self) -> bool:
        return not self.trouble and (self.verdict is None or self.verdict.valid)


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """From this microsecond of the run on."""

    from_us: int
    phase: str
    regime: str


class Started(msgspec.Struct, frozen=True):
    """started.json: when the first arrival of a schedule at 0 is due; written just before."""

    started_at_ns: Stamp


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One load generator process: its share of the schedule, and what it told at its end."""

    slot: int
    node: str
    lost: bool
    scheduled: int
    cpu_share: float | None
    counts: dict[str, int] | None


class Generated(msgspec.Struct, frozen=True, kw_only=True):
    """generator.json: a run of load. scheduled: null for closed-loop users. read_as: its schedule's file.

    options: as they were in force, without places of this machine.
    """

    started_at_ns: Stamp = 0
    scheduled: Count | None = None
    schedule_sha256: str | None = None
    read_as: str | None = None
    options: dict[str, Any] | None = None
    phases: list[Phase] = []
    regime_switches: list[Change] = []
    processes: list[Process] = []
    cpu_share: float | None = None
    outcome: LoadVerdict = LoadVerdict()


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """cell.json, written last: what was asked for, what stood, and when.

    labels: the scaling policies in the platform's words. host_load_1min: before it began. switches: of an arm whose
    regime changes, and policies: of each of its regimes; `settings` are those at the start.
    """

    block: Annotated[int, Meta(ge=0, lt=10_000)]
    load: str
    regime: str
    target: str
    settings: Annotated[dict[str, Policy], Meta(min_length=1)]
    initial_ready: dict[str, Count]
    started_at_ns: Stamp
    ended_at_ns: Stamp = 0
    index: Count = 0
    generator: Generated = Generated()
    schedule_sha256: str = ""
    applied_regime: str = ""
    labels: dict[str, dict[str, str]] = {}
    applied_in_s: float = 0.0
    host_load_1min: float = 0.0
    times: Times | None = None
    switches: tuple[Change, ...] = ()
    policies: dict[str, dict[str, Policy]] = {}

    @property
    def scheduled(self) -> int:
        """Arrivals of its schedule, 0 where that is not recorded."""
        return self.generator.scheduled or 0


class Stopping(msgspec.Struct, frozen=True):
    """stopping.json: looks that were taken; after how many blocks a load was decided."""

    taken: tuple[Count, ...] = ()
    ended: dict[str, Count] = {}


class Spread(msgspec.Struct, frozen=True):
    load: str
    a: str
    b: str
    outcome: str = ""
    blocks: Count = 0
    standard_error: Annotated[float, Meta(ge=0)] | None = None


class Start(msgspec.Struct, frozen=True):
    estimate: float | None = None


class PilotCell(msgspec.Struct, frozen=True):
    start_s: Start = Start()


class Pilot(msgspec.Struct, frozen=True):
    """results.json of whatever version: what a forecast takes from it."""

    contrasts: tuple[Spread, ...] = ()
    secondary_contrasts: tuple[Spread, ...] = ()
    cells: tuple[PilotCell, ...] = ()


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    load: str
    a: str
    b: str
    rates: dict[str, tuple[float, ...]]
    verdict: str
    exploratory: bool = False

    def __post_init__(self) -> None:
        if not {self.a, self.b} <= self.rates.keys():
            raise ValueError("rates: of both regimes")


class Rate(msgspec.Struct, frozen=True):
    estimate: float | None


class CellResult(msgspec.Struct, frozen=True):
    load: str
    regime: str
    runs: Count
    cold_rate: Rate
    requests: Count = 0
    failures: Count = 0


class Validity(msgspec.Struct, frozen=True):
    valid: bool
    runs_used: Count
    runs_planned: Count


class Summary(msgspec.Struct, frozen=True):
    """results.json of whatever version: what the page of all campaigns takes from it."""

    validity: Validity
    cells: tuple[CellResult, ...]
    contrasts: tuple[Rates, ...]


class Stall(msgspec.Struct, frozen=True):
    pid: int
    at_ns: Stamp
    length_s: float


class Distortion(msgspec.Struct, frozen=True):
    """distortion.json."""

    scenarios: tuple[Literal["stall", "cold"], ...]
    stall_s: Annotated[float, Meta(gt=0)]
    target: str
    stalls: list[Stall] = []


def manifest(folder: Path) -> Manifest:
    """campaign.json, of whatever version. Raises InvalidRunError."""
    return read(folder, "campaign.json", Manifest, _as_of_today)


def known(facts: Manifest) -> dict[str, Any]:
    """As plain data, without what was not recorded."""
    return {name: each for name, each in to_plain(facts).items() if each or each is False}


def _as_of_today(facts: Any) -> Any:
    """Loads named a sample and the stages' settings, and paths a home folder, until 27 November 2026."""
    facts = without_home(facts)
    for load in facts["experiment"]["loads"].values():
        said = {name: load.get(old) for old, name in _LOADS_SAID.items() if load.get(old)}
        load["variables"] = said | load.get("variables", {})
    return facts


_LOADS_SAID = {"sample": "sample", "inputs": "inputs", "query": "query", "settings": "config"}


def read(folder: Path, name: str, kind: type[T], upgraded: Callable[[Any], Any] = lambda facts: facts) -> T:
    """A file of facts.

    Raises
    ------
    InvalidRunError
        When it has another shape than `kind`, or cannot be read, or is of a schema that is not known here.
    """
    try:
        facts = read_json(folder / name)
        if isinstance(facts, dict) and facts.get("schema", SCHEMA) != SCHEMA:
            raise ValueError(f"schema {facts['schema']} is not known here, this is schema {SCHEMA}")
        return from_plain(upgraded(facts), kind)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        hint = "it is written whole; restore it, or measure again"
        raise InvalidRunError(f"{folder.name}: {name} cannot be read ({error})", hint=hint) from error


def write(folder: Path, name: str, facts: msgspec.Struct) -> None:
    """So that `read` gives the same value, but for paths of this account, which begin with `~`."""
    write_json(folder / name, without_home(to_plain(facts)))
