"""An experiment as a value: regimes x loads x blocks, initial state, outcome, planned contrasts, what must hold.

The planner writes it into campaign.json, and the judge reads it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal

import msgspec

from fave.campaign import outcomes, thresholds
from fave.campaign.outcomes import OUTCOMES
from fave.campaign.results import Prices
from fave.campaign.validity import Gates
from fave.settings import NAME_PATTERN, Duration
from fave.traffic.arrivals import Traffic

# What a variance needs, and a degree of freedom more.
_FEWEST_BLOCKS = 3
# A switch is in force when Prometheus has seen it: a look of it, and what a replica takes to start.
CLOSEST_S = 2.0


class Scaling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Policy to lay over others; None leaves what is below."""

    min_replicas: int | None = None
    max_replicas: int | None = None
    idle_timeout: Duration | None = None
    target_in_flight: float | None = None


class Variant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is otherwise with a function in one arm of a campaign; None leaves it as the workload says.

    environment: laid over the workload's. commit: of the git checkout that its directory is in, of which that state is
    taken. How it scales is a regime's business.
    """

    image: str | None = None
    handler: str | None = None
    command: str | None = None
    directory: str | None = None
    commit: str = ""
    environment: dict[str, str] = {}
    memory_limit_mb: int | None = None
    max_in_flight: int | None = None


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """From then on, from the start of the load."""

    at: Duration
    regime: str


class Prewarming(msgspec.Struct, frozen=True, kw_only=True):
    """A perfect forecast of the load's own bursts: `regime` from `before_bursts` before each to `after_bursts` after
    its last arrival, `otherwise` else. silence: what no arrival falls into for so long is between two bursts.
    """

    before_bursts: Duration
    regime: str
    otherwise: str
    after_bursts: Duration = Duration(0)
    silence: Duration = Duration(2)

    def __post_init__(self) -> None:
        if self.before_bursts <= 0 or self.silence <= 0 or self.after_bursts < 0:
            raise ValueError("before_bursts, silence: must be longer than 0")
        if self.regime == self.otherwise:
            raise ValueError(f"otherwise: {self.otherwise!r} is the regime that bursts have")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How one function scales, by a regime, and what a replica of it may use, by the workload.

    target_in_flight: for how many requests a replica is planned; all that it may have unless a regime says so.
    """

    min_replicas: int
    max_replicas: int
    idle_timeout: Duration
    target_in_flight: float
    max_in_flight: int
    memory_limit_mb: int
    exec_timeout: Duration

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            problems.append(
                f"min_replicas {self.min_replicas}, max_replicas {self.max_replicas}: need 0 <= min <= max, max >= 1"
            )
        problems += [
            f"{name} {value} must be over 0"
            for name, value in (
                ("idle_timeout", self.idle_timeout),
                ("target_in_flight", self.target_in_flight),
                ("max_in_flight", self.max_in_flight),
                ("memory_limit_mb", self.memory_limit_mb),
                ("exec_timeout", self.exec_timeout),
            )
            if value <= 0
        ]
        if problems:
            raise ValueError("\n".join(problems))


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """How the initial state of a run comes about.

    scale: all replicas to 0, then to their initial count, so that every run begins with new ones.
    wait: where a platform cannot scale to 0 on demand, idle timeouts end what is too much.
    timeout: until the state must stand. rest: quiet time from then until Prometheus must see it, too.
    """

    how: Literal["scale", "wait"] = "scale"
    timeout: Duration = Duration(180)
    rest: Duration = Duration(0)

    def __post_init__(self) -> None:
        if self.timeout <= 0:
            raise ValueError("timeout: must be longer than 0")


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of traffic at one target. `overrides` are laid over a regime for this load only.

    target: one of the workload's requests; without it all of them, as a mix. variables: of its requests, set otherwise.
    regimes: those of the experiment that this load runs in; empty: all of them.
    initial_replicas: ready replicas of each function at the start, by regime; without it the regime's minimum.
    slo: the limit of latency that requests are counted against: their share above it is the latency outcome.
    processes: of the load generator; they share the schedule.
    descriptive: shown, but not compared (too few blocks for a test to say anything).
    """

    traffic: Traffic
    blocks: int
    target: str = ""
    variables: dict[str, Any] = {}
    regimes: tuple[str, ...] = ()
    overrides: dict[str, Scaling] = {}
    initial_replicas: dict[str, int] = {}
    slo: Duration | None = None
    max_in_flight: int = 200
    request_timeout: Duration = Duration(120)
    processes: int = 1
    descriptive: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.slo is not None and not 0 < self.slo < self.request_timeout:
            problems.append(f"slo: {self.slo} must lie between 0 and request_timeout ({self.request_timeout})")
        if self.blocks < 1:
            problems.append(f"blocks: {self.blocks} must be at least 1")
        problems += [
            f"{name}: {value} must be at least 1"
            for name, value in (("max_in_flight", self.max_in_flight), ("processes", self.processes))
            if value < 1
        ]
        if problems:
            raise ValueError("\n".join(problems))


def _lacking(outcome: str, label: str, load: Load) -> Iterator[str]:
    """What an outcome needs of a load that is compared."""
    if outcome == outcomes.SLOW and load.slo is None:
        yield f"loads.{label}.slo: {outcome} is the share of requests slower than it"
    needed, there = outcomes.MIN_REQUESTS.get(OUTCOMES[outcome].quantile, 0), load.traffic.requests
    if 0 < there < needed:
        yield f"loads.{label}.traffic.requests: {outcome} needs {needed} in a run, not {there}"


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """What must come out if the instrument is right (methodology §5).

    same: two regimes that are one: no difference, interval within the margin. always-cold, never-cold: exactly all, or
    none, of the invocations. theory: triggered and affected shares as the simulator has them on the same arrivals.
    """

    kind: Literal["same", "always-cold", "never-cold", "theory"]
    load: str
    regimes: tuple[str, ...]


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """`contrasts` are pairs of regimes (a, b), for a - b. `attempts`: tries for a block that came out invalid.

    `regimes` name the arms. An arm is a regime, or by `aliases` another name of one; by `decompositions` some stages of
    the workload's graph are one function in it, by `variants` some functions are otherwise; by `switching` (a schedule)
    or `prewarming` (ahead of bursts) its regime changes during a run.

    workload: a shipped one, or a YAML file.

    primary_outcome decides; secondary_outcomes, named before anything runs, are a family of their own that is adjusted
    together. equivalence_margin, and margins of secondary ones: points (0.05 is 5) of a share, per cent of what is
    compared as a ratio. prices: for `money_per_hour`.

    looks: blocks after which the campaign is judged, and loads that are decided end; without them once, at the end.
    control_variate: contrasts are decided with the simulator as control variate, where there is one. factorial: two
    factors, of each two levels, of each the two regimes that have it; their effects are planned, too. aliases: a second
    name of a regime, for A/A controls and for regimes that differ by overrides. capacity: loads of rising rate, of
    which the highest that a regime sustains is sought. thresholds: what must hold, e.g. `steady/warm: cold_rate.high <
    0.05`. not_worse: planned contrasts whose first arm must not be worse than the second in any outcome that is named.
    """

    description: str
    expected_duration: str
    seed: int
    regimes: tuple[str, ...]
    loads: dict[str, Load]
    contrasts: tuple[tuple[str, str], ...]
    primary_outcome: outcomes.Name
    secondary_outcomes: tuple[outcomes.Name, ...] = ()
    margins: dict[outcomes.Name, float] = {}
    prices: Prices | None = None
    workload: str = "videosearcher"
    aliases: dict[str, str] = {}
    decompositions: dict[str, dict[str, tuple[str, ...]]] = {}
    variants: dict[str, dict[str, Variant]] = {}
    switching: dict[str, tuple[Switch, ...]] = {}
    prewarming: dict[str, Prewarming] = {}
    equivalence_margin: float = 0.05
    settle: Settle = Settle()
    gates: Gates = Gates()
    attempts: int = 2
    looks: tuple[int, ...] = ()
    control_variate: bool = True
    factorial: dict[str, dict[str, tuple[str, str]]] = {}
    thresholds: tuple[str, ...] = ()
    not_worse: tuple[tuple[str, str], ...] = ()
    controls: tuple[Control, ...] = ()
    capacity: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = [f"{kind}: name {name!r} must match {NAME_PATTERN.pattern}" for kind, name in self._bad_names()]
        if len(set(self.regimes)) < len(self.regimes):
            problems.append("regimes: a name stands twice")
        problems += [
            f"contrasts: {name!r} is not among the regimes"
            for pair in self.contrasts
            for name in pair
            if name not in self.regimes
        ]
        problems += [
            f"loads.{load}.{key}: {name!r} is not among the regimes"
            for load, each in self.loads.items()
            for key, names, known in (
                ("regimes", each.regimes, self.regimes),
                ("overrides", each.overrides, each.regimes or self.regimes),
                ("initial_replicas", each.initial_replicas, each.regimes or self.regimes),
            )
            for name in names
            if name not in known
        ]
        problems += [
            f"loads.{load}.regimes: a name stands twice"
            for load, each in self.loads.items()
            if len(set(each.regimes)) < len(each.regimes)
        ]
        problems += [f"aliases: {name!r} is not among the regimes" for name in self.aliases if name not in self.regimes]
        problems += [
            f"{key}: {name!r} is not among the regimes (give the arm's regime by aliases)"
            for key in ("variants", "decompositions", "switching", "prewarming")
            for name in getattr(self, key)
            if name not in self.regimes
        ]
        problems += [f"capacity: {name!r} is not among the loads" for name in self.capacity if name not in self.loads]
        problems += self._wrong_controls() + self._wrong_thresholds()
        problems += [
            f"contrasts: no compared load has both {a!r} and {b!r}"
            for a, b in self.contrasts
            if {a, b} <= set(self.regimes) and not any((a, b) in self.contrasts_of(load) for load in self.loads)
        ]
        problems += self._wrong_looks() + self._wrong_factorial() + self._wrong_switching()
        problems += self._wrong_outcomes()
        if len(set(self.contrasts)) < len(self.contrasts) or any(a == b for a, b in self.contrasts):
            problems.append("contrasts: each pair of two different regimes once")
        if self.attempts < 1:
            problems.append(f"attempts: {self.attempts} must be at least 1")
        if not 0 < self.equivalence_margin < 1:
            problems.append(f"equivalence_margin: {self.equivalence_margin} must lie between 0 and 1")
        if not self.regimes or not self.loads:
            problems.append("regimes, loads: at least one of each")
        if problems:
            raise ValueError("\n".join(problems))

    def _wrong_outcomes(self) -> list[str]:
        """Also what asks about them."""
        named = (self.primary_outcome, *self.secondary_outcomes)
        problems = [
            f"secondary_outcomes: {name!r} stands twice, or is the primary one"
            for name in self.secondary_outcomes
            if named.count(name) > 1
        ]
        problems += [
            f"margins: {name!r} is no secondary outcome (of the primary one it is equivalence_margin)"
            for name in self.margins
            if name not in self.secondary_outcomes
        ]
        problems += [
            f"margins.{name}: {margin} must lie between 0 and 1"
            for name, margin in self.margins.items()
            if not 0 < margin < 1
        ]
        problems += [
            f"not_worse: {a} - {b} is no planned contrast" for a, b in self.not_worse if (a, b) not in self.contrasts
        ]
        if "money_per_hour" in named and self.prices is None:
            problems.append("prices: money_per_hour is an outcome, and nothing has a price")
        if self.not_worse and self.looks:
            problems.append("not_worse: is asked once, at the end; leave out looks")
        compared = {label: load for label, load in self.loads.items() if self.contrasts_of(label)}
        return problems + [
            problem for name in named for label, load in compared.items() for problem in _lacking(name, label, load)
        ]

    def margin_of(self, outcome: str) -> float:
        """Of its difference: up to it two arms are the same for all that matters."""
        found = {str(name): margin for name, margin in self.margins.items()}
        return found.get(outcome, self.equivalence_margin)

    def _wrong_switching(self) -> list[str]:
        problems = []
        for arm, plan in self.switching.items():
            at = [float(each.at) for each in plan]
            if len(plan) < 2 or at[0] != 0 or any(b - a < CLOSEST_S for a, b in pairwise(at)):
                problems.append(
                    f"switching.{arm}: two regimes or more, the first at 0s, {CLOSEST_S:g} s apart at least"
                )
            if any(a.regime == b.regime for a, b in pairwise(plan)):
                problems.append(f"switching.{arm}: a switch to the regime that stands already")
            problems += [
                f"switching.{arm}: the last switch is at {plan[-1].at}, load {name} lasts {load.traffic.duration}"
                for name, load in self.loads.items()
                if arm in self.regimes_of(name) and at[-1:] >= [float(load.traffic.duration)]
            ]
        problems += [
            f"{key}.{arm}: the arm is {other} already"
            for arm in self.regimes
            for key, other in (("prewarming", "switching"), ("switching", "aliases"), ("prewarming", "aliases"))
            if arm in getattr(self, key) and arm in getattr(self, other)
        ]
        problems += [
            f"loads.{name}.initial_replicas: {arm} begins as its first regime says"
            for name, load in self.loads.items()
            for arm in load.initial_replicas
            if self.switches(arm)
        ]
        return problems

    def switches(self, arm: str) -> bool:
        """Whether its regime changes during a run."""
        return arm in self.switching or arm in self.prewarming

    def regimes_in(self, arm: str) -> tuple[str, ...]:
        """All that it is in, by the names of their files; first what it is in where nothing else is said."""
        if arm in self.switching:
            return tuple(dict.fromkeys(each.regime for each in self.switching[arm]))
        if arm in self.prewarming:
            return self.prewarming[arm].otherwise, self.prewarming[arm].regime
        return (self.aliases.get(arm, arm),)

    def _wrong_looks(self) -> list[str]:
        if not self.looks:
            return []
        said = ", ".join(map(str, self.looks))
        if list(self.looks) != sorted(set(self.looks)) or self.looks[0] < _FEWEST_BLOCKS:
            return [f"looks: {said}: must ascend from at least {_FEWEST_BLOCKS} blocks"]
        compared = {name: load.blocks for name, load in self.loads.items() if self.contrasts_of(name)}
        if not compared:
            return ["looks: there is no planned contrast to decide"]
        return [
            f"looks: the last one is after {self.looks[-1]} blocks, loads.{name} has {blocks}"
            for name, blocks in compared.items()
            if blocks != self.looks[-1]
        ]

    def _wrong_factorial(self) -> list[str]:
        """Two factors of two levels; each combination of levels is one regime."""
        if not self.factorial:
            return []
        if len(self.factorial) != 2 or any(len(levels) != 2 for levels in self.factorial.values()):
            return ["factorial: two factors of two levels each, of two regimes each"]
        problems = [
            f"factorial.{factor}.{level}: {name!r} is not among the regimes"
            for factor, levels in self.factorial.items()
            for level, names in levels.items()
            for name in names
            if name not in self.regimes
        ]
        one, other = self.factorial.values()
        crossed = [set(a) & set(b) for a in one.values() for b in other.values()]
        if any(len(each) != 1 for each in crossed) or len(set.union(*crossed)) != 4:
            problems.append("factorial: each combination of two levels must be one regime, four in all")
        if not problems and not any(self.crosses(load) for load in self.loads):
            problems.append("factorial: no compared load has its four regimes")
        return problems

    def crosses(self, load: str) -> bool:
        """Whether the load, a compared one, runs in all regimes of the factorial."""
        names = {name for levels in self.factorial.values() for level in levels.values() for name in level}
        return bool(names) and not self.loads[load].descriptive and names <= set(self.regimes_of(load))

    def _wrong_controls(self) -> list[str]:
        problems = []
        for index, control in enumerate(self.controls):
            where = f"controls[{index}]"
            if control.load not in self.loads:
                problems.append(f"{where}.load: {control.load!r} is not among the loads")
                continue
            load, mine = self.loads[control.load], self.regimes_of(control.load)
            problems += [
                f"{where}.regimes: {name!r} is not among those of load {control.load!r}"
                for name in control.regimes
                if name not in mine
            ]
            if control.kind == "same" and (load.descriptive or control.regimes not in self.contrasts):
                problems.append(f"{where}: {' - '.join(control.regimes)} is no planned contrast of a compared load")
            needed = 2 if control.kind == "same" else 1
            if len(control.regimes) != needed:
                problems.append(f"{where}.regimes: kind {control.kind!r} takes {needed}, not {len(control.regimes)}")
        return problems

    def _wrong_thresholds(self) -> list[str]:
        problems = []
        for index, text in enumerate(self.thresholds):
            try:
                threshold = thresholds.parse(text)
            except ValueError as error:
                problems.append(f"thresholds[{index}]: {error}")
                continue
            unknown = [
                f"thresholds[{index}]: {name!r} is not among the {what}"
                for what, name, known in (
                    ("loads", threshold.load, self.loads),
                    ("regimes", threshold.regime, self.regimes),
                    ("regimes", threshold.against or thresholds.ANY, self.regimes),
                )
                if name != thresholds.ANY and name not in known
            ]
            cells = [(load, regime) for load in self.loads for regime in self.regimes_of(load)]
            if threshold.against and not unknown:
                pair = {threshold.regime, threshold.against}
                loads = [threshold.load] if threshold.load != thresholds.ANY else list(self.loads)
                if not any(set(each) == pair for load in loads for each in self.contrasts_of(load)):
                    unknown.append(f"thresholds[{index}]: {text!r} is about no planned contrast of a compared load")
            elif not unknown and not any(thresholds.applies(threshold, *cell) for cell in cells):
                unknown.append(f"thresholds[{index}]: {text!r} is about no cell: the load does not run in that regime")
            problems += unknown
        return problems

    def regimes_of(self, load: str) -> tuple[str, ...]:
        return self.loads[load].regimes or self.regimes

    def contrasts_of(self, load: str) -> list[tuple[str, str]]:
        """The planned contrasts of which the load has both regimes; none of a descriptive load."""
        if self.loads[load].descriptive:
            return []
        return [pair for pair in self.contrasts if set(pair) <= set(self.regimes_of(load))]

    def regime_of(self, name: str) -> str:
        """The regime file's name; `name` may be an alias, or an arm that begins in one and switches."""
        return self.regimes_in(name)[0]

    def _bad_names(self) -> list[tuple[str, str]]:
        named = [("regimes", name) for name in self.regimes] + [("loads", name) for name in self.loads]
        return [(kind, name) for kind, name in named if not NAME_PATTERN.fullmatch(name)]
