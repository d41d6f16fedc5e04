"""What the analysis takes for granted of a run folder's facts. They are used as plain data; this is their shape.

Other keys are nobody's concern here. What has a default may be missing in campaigns of earlier versions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from analysis import thresholds
from fave.errors import InvalidRunError
from fave.records import SCHEMA
from fave.rundir import read_json
from fave.settings import Duration
from fave.validity import Gates, Verdict
from fave.workload import PIPELINE

# Until the year 2200: what is later is no stamp.
Stamp = Annotated[int, Meta(ge=0, lt=7_258_118_400 * 10**9)]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
_Text = Annotated[str, Meta(pattern=r"^([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h))+$", max_length=64)]
_Share = Annotated[float, Meta(gt=0, lt=1)]


class Traffic(msgspec.Struct, frozen=True):
    model: str
    requests: Count
    duration: _Text
    bursts: Count = 0
    burst_length: _Text = "0ms"
    cv: Annotated[float, Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        if not Duration.parse(self.duration):
            raise ValueError("duration: must be longer than 0")


class Load(msgspec.Struct, frozen=True):
    target: str
    traffic: Traffic
    blocks: Count
    descriptive: bool
    regimes: tuple[str, ...] = ()
    overrides: dict[str, dict[str, Any]] = {}
    slo: _Text | None = None


class Control(msgspec.Struct, frozen=True):
    kind: Literal["same", "always-cold", "never-cold", "theory"]
    load: str
    regimes: Annotated[tuple[str, ...], Meta(min_length=1)]


class Experiment(msgspec.Struct, frozen=True):
    description: str
    seed: int
    regimes: Annotated[tuple[str, ...], Meta(min_length=1)]
    loads: Annotated[dict[str, Load], Meta(min_length=1)]
    contrasts: tuple[tuple[str, str], ...]
    primary_outcome: Literal["invocation_cold_rate", "request_cold_rate", "slow_request_rate"]
    equivalence_margin: _Share
    gates: Gates
    looks: tuple[Annotated[int, Meta(ge=2)], ...] = ()
    factorial: dict[str, dict[str, tuple[str, str]]] = {}
    control_variate: bool = False
    thresholds: tuple[str, ...] = ()
    controls: tuple[Control, ...] = ()
    capacity: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for text in self.thresholds:
            thresholds.parse(text)
        regimes = {*(name for pair in self.contrasts for name in pair)}
        regimes |= {name for load in self.loads.values() for name in load.regimes}
        regimes |= {name for control in self.controls for name in control.regimes}
        if self.factorial and (len(self.factorial) != 2 or any(len(each) != 2 for each in self.factorial.values())):
            raise ValueError("factorial: two factors of two levels each")
        if list(self.looks) != sorted(set(self.looks)):
            raise ValueError("looks: must ascend")
        regimes |= {name for each in self.factorial.values() for level in each.values() for name in level}
        unknown = [*(regimes - {*self.regimes}), *({*self.capacity, *(c.load for c in self.controls)} - {*self.loads})]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is neither a load nor a regime of this experiment")


class Source(msgspec.Struct, frozen=True):
    commit: str = ""
    dirty: bool = False


class Host(msgspec.Struct, frozen=True):
    memory_kb: Count = 0


class Platform(msgspec.Struct, frozen=True):
    provider: dict[str, Any] = {}


class Facts(msgspec.Struct, frozen=True):
    """campaign.json."""

    schema: int
    name: str
    started_at_ns: Stamp
    experiment: Experiment
    order: tuple[str, ...]
    co_located: bool
    campaign: str = ""
    embedded: bool = False
    schedules_sha256: dict[str, str] = {}
    regimes: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    host: Host = Host()
    versions: dict[str, str] = {}
    source: Source = Source()
    platform: Platform = Platform()


class Settings(msgspec.Struct, frozen=True):
    min_replicas: Count
    max_replicas: Count
    idle_timeout: _Text
    max_in_flight: Count
    memory_limit_mb: Count


class Generator(msgspec.Struct, frozen=True):
    scheduled: Count = 0


class Cell(msgspec.Struct, frozen=True):
    """cell.json."""

    block: Annotated[int, Meta(ge=0, lt=10_000)]
    load: str
    regime: str
    target: str
    settings: Annotated[dict[str, Settings], Meta(min_length=1)]
    initial_ready: dict[str, Count]
    started_at_ns: Stamp
    ended_at_ns: Stamp = 0
    generator: Generator = Generator()
    schedule_sha256: str = ""

    def __post_init__(self) -> None:
        if self.target != PIPELINE and self.target not in self.settings:
            raise ValueError(f"settings: of {self.target!r} there are none")


class Stopping(msgspec.Struct, frozen=True):
    """stopping.json: looks that were taken; after how many blocks a load was decided."""

    taken: tuple[Count, ...]
    ended: dict[str, Count]


class Observed(msgspec.Struct, frozen=True):
    """What a run's verdict rests on, as far as others are judged by it."""

    median_latency_s: float | None = None


class Judged(msgspec.Struct, frozen=True):
    """verdict.json, and the outcome in an open-loop run's generator.json."""

    verdict: Verdict
    observed: Observed = Observed()

    def __post_init__(self) -> None:
        if any(None in (each.observed, each.limit) and not each.note for each in self.verdict.findings if not each.ok):
            raise ValueError("findings: one that is not ok needs numbers, or a note")


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    load: str
    a: str
    b: str
    rates: dict[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        if not {self.a, self.b} <= self.rates.keys():
            raise ValueError("rates: of both regimes")


class Spread(msgspec.Struct, frozen=True):
    load: str
    a: str
    b: str
    blocks: Count = 0
    standard_error: Annotated[float, Meta(ge=0)] | None = None


class Pilot(msgspec.Struct, frozen=True):
    """results.json: what a forecast takes from it."""

    contrasts: tuple[Spread, ...] = ()


class Contrast(Rates, frozen=True, kw_only=True):
    verdict: str
    exploratory: bool = False


class Rate(msgspec.Struct, frozen=True):
    estimate: float | None


class CellResult(msgspec.Struct, frozen=True):
    load: str
    regime: str
    runs: Count
    cold_rate: Rate


class Validity(msgspec.Struct, frozen=True):
    valid: bool
    runs_used: Count
    runs_planned: Count


class Results(msgspec.Struct, frozen=True):
    """results.json: what the page of all campaigns takes from it."""

    validity: Validity
    cells: tuple[CellResult, ...]
    contrasts: tuple[Contrast, ...]


class Distortion(msgspec.Struct, frozen=True):
    """distortion.json."""

    scenarios: tuple[Literal["stall", "cold"], ...]
    stall_s: Annotated[float, Meta(gt=0)]
    target: str


class Generated(msgspec.Struct, frozen=True):
    """generator.json."""

    started_at_ns: Stamp


class JudgedLoad(Generated, frozen=True):
    """The same of an open-loop run; closed-loop users have no schedule to be judged by."""

    outcome: Judged


def read(folder: Path, name: str, kind: Any) -> Any:
    """A file of facts as plain data, which has the shape of `kind`.

    Raises
    ------
    InvalidRunError
        When it has not, or cannot be read, or is of a schema that is not known here.
    """
    try:
        facts = read_json(folder / name)
        if isinstance(facts, dict) and facts.get("schema", SCHEMA) != SCHEMA:
            raise ValueError(f"schema {facts['schema']} is not known here, this is schema {SCHEMA}")
        msgspec.convert(facts, kind)
    except (OSError, ValueError) as error:
        hint = "it is written whole; restore it, or measure again"
        raise InvalidRunError(f"{folder.name}: {name} cannot be read ({error})", hint=hint) from error
    return facts


def campaign(folder: Path) -> dict[str, Any]:
    """campaign.json, with empty parts where an earlier version had none. Raises InvalidRunError."""
    parts = ("host", "versions", "source", "platform", "schedules_sha256", "regimes")
    facts: dict[str, Any] = read(folder, "campaign.json", Facts)
    return {part: {} for part in parts} | facts


def verdict(folder: Path) -> Verdict:
    """Of a cell. Raises InvalidRunError."""
    return msgspec.convert(read(folder, "verdict.json", Judged), Judged).verdict
