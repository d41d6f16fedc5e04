"""FAVE's own arguments: on the command line, in the environment, and in the web UI's start form."""

from __future__ import annotations

from locust import events

import json
from pathlib import Path
from typing import Any

import msgspec

from fave.errors import ConfigError, StageError
from fave.settings import Duration, decode
from fave.traffic import csv_file, traces
from fave.traffic.arrivals import Modulation, Traffic
from fave.traffic.loads import traffic_of
from fave.traffic.timeline import Timeline, parse
from fave.traffic.traces import Trace
from fave.wire.envelope import check_request_id
from regimes import model as regimes
from workloads.asking import Asking
from workloads.model import SHIPPED, Function, Parts, Workload
from workloads.model import load as workload_of

# The regime that is left as it is.
AS_DEPLOYED = "as-deployed"


_OF_TRACES = ("trace_format", "trace_functions", "trace_start", "trace_speed", "trace_keep", "trace_within_minute")
# Not from the web: whoever starts Locust says where files are read and written.
HIDDEN = ("schedule", "workload", "parts", "regime_stands", "id_prefix", "out")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run as it was asked for; the same in every process of it. Fields are the arguments of the same names."""

    load: str = ""
    rate: float = 1.0
    duration: str = "60s"
    regime: str = AS_DEPLOYED
    workload: str = SHIPPED
    parts: str = "{}"
    target: str = ""
    variables: str = "{}"
    seed: int = 1
    cv: float = 0.0
    modulation: str = ""
    timeline: str = ""
    trace: str = ""
    trace_format: str = "timestamps"
    trace_functions: str = ""
    trace_start: str = "0s"
    trace_speed: float = 1.0
    trace_keep: float = 1.0
    trace_within_minute: str = "uniform"
    think_time: str = "1s"
    burst_period: str = "15s"
    max_in_flight: int = 200
    request_timeout: str = "300s"
    retries: int = 0
    schedule: str = ""
    regime_stands: bool = False
    id_prefix: str = ""
    out: str = ""

    @classmethod
    def of(cls, parsed: Any) -> RunOptions:
        """From Locust's parsed options; arguments that no loaded file registered have their defaults.

        Raises
        ------
        ConfigError
            For a value of the wrong kind (the web UI's start route checks none).
        """
        given = {name: getattr(parsed, name) for name in cls.__struct_fields__ if hasattr(parsed, name)}
        try:
            return msgspec.convert(given, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{error}") from error

    def check(self) -> None:
        """Everything that can be wrong without asking the platform.

        Raises
        ------
        ConfigError
            With all of it.
        """
        problems = []
        if self.regime != AS_DEPLOYED and self.regime not in regimes.names():
            problems.append(f"unknown regime {self.regime!r} (there are: {', '.join(regimes.names())})")
        try:
            self.asking("")
        except ConfigError as error:
            problems += error.problems
        if self.max_in_flight < 1:
            problems.append(f"--max-in-flight {self.max_in_flight}: must be at least 1")
        if self.retries < 0:
            problems.append(f"--retries {self.retries}: must be at least 0")
        for name in ("duration", "request_timeout", "think_time", "burst_period"):
            try:
                if Duration.parse(getattr(self, name)) <= 0:
                    problems.append(f"--{name.replace('_', '-')} {getattr(self, name)}: must be longer than 0")
            except ValueError as error:
                problems.append(f"--{name.replace('_', '-')}: {error}")
        problems += self._wrong_texts()
        if problems:
            raise ConfigError(problems)
        phases = self.phases()
        unknown = {phase.regime for phase in phases.phases} - set(regimes.names()) if phases else set()
        if unknown:
            known = ", ".join(regimes.names())
            raise ConfigError([f"--timeline: unknown regime {name!r} (there are: {known})" for name in sorted(unknown)])

    def _wrong_texts(self) -> list[str]:
        """What would be refused with every single request."""
        problems = []
        for name in self.__struct_fields__:
            try:
                str(getattr(self, name)).encode()
            except UnicodeEncodeError:
                problems.append(f"--{name.replace('_', '-')} {getattr(self, name)!r}: is no text in UTF-8")
        try:
            check_request_id(f"{self.id_prefix or 'adhoc'}-k000000")
        except StageError as error:
            problems.append(f"--id-prefix: {error}")
        return problems

    @property
    def work(self) -> Workload:
        parts = decode({"parts": _object("--parts", self.parts)}, Parts, "--parts").parts
        return workload_of(self.workload).composed(parts) if parts else workload_of(self.workload)

    @property
    def functions(self) -> dict[str, Function]:
        """What must be deployed."""
        return self.work.functions_of(self.target)

    @property
    def directed(self) -> bool:
        return self.work.directed(self.target)

    def asking(self, bucket: str) -> Asking:
        """What arrivals ask.

        Raises
        ------
        ConfigError
            For an unknown target, variables that are no JSON object or not the request's, a body that is not there.
        """
        regime = "" if self.regime == AS_DEPLOYED else self.regime
        variables = _object("--variables", self.variables)
        return Asking(self.work, self.target, seed=self.seed, regime=regime, bucket=bucket, variables=variables)

    def phases(self) -> Timeline | None:
        return parse(self.timeline) if self.timeline else None

    def traffic(self, load: str) -> Traffic:
        """The traffic of a named load with this run's parameters.

        Raises
        ------
        ConfigError
            For parameters that the load does not have, or that it lacks.
        """
        given = [name for name in _OF_TRACES if getattr(self, name) != getattr(RunOptions(), name)]
        if given and not self.trace:
            raise ConfigError(f"--{given[0].replace('_', '-')}: of which --trace?")
        trace = self._trace() if self.trace else None
        duration = Duration.parse(self.duration)
        traffic = traffic_of(load, rate_per_s=self.rate, duration=duration, cv=self.cv, trace=trace)
        if not self.modulation:
            return traffic
        if trace:
            raise ConfigError("--modulation: a trace has a rate of its own")
        return msgspec.structs.replace(traffic, modulation=_modulation(self.modulation))

    def recognised(self) -> str:
        """How the file that arrivals come from is read, for people; empty where there is none, or as FAVE writes it.

        Raises
        ------
        ConfigError
            For a file that cannot be read.
        """
        if self.schedule:
            form = csv_file.recognise(Path(self.schedule))
            return "" if form.plain else f"file of arrivals: {', '.join(form.said())}"
        return f"trace: {traces.recognised(self._trace())}" if self.trace else ""

    def _trace(self) -> Trace:
        plain = {
            "file": self.trace,
            "format": self.trace_format,
            "functions": [name for name in self.trace_functions.split(",") if name],
            "start": self.trace_start,
            "speed": self.trace_speed,
            "keep": self.trace_keep,
            "within_minute": self.trace_within_minute,
        }
        return decode(plain, Trace, "--trace")


def _object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{option}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{option}: {text!r} is not an object")
    return value


def _modulation(text: str) -> Modulation:
    """`sinusoidal:AMPLITUDE:PERIOD` or `ramp:START`."""
    shape, *values = text.split(":")
    plain: dict[str, Any] = {"shape": shape}
    try:
        if shape == "sinusoidal":
            amplitude, plain["period"] = values
            plain["amplitude"] = float(amplitude)
        else:
            (start,) = values
            plain["start"] = float(start)
    except ValueError:
        raise ConfigError(
            f"--modulation {text!r} is neither sinusoidal:AMPLITUDE:PERIOD nor ramp:START",
            hint="for example sinusoidal:0.8:60s, or ramp:0.2 (from 0.2 to 1.8 times the rate)",
        ) from None
    return decode(plain, Modulation, "--modulation")


@events.init_command_line_parser.add_listener
def _add_arguments(parser: Any) -> None:
    # Whoever wants to be reached from elsewhere says so: --web-host "*".
    parser.set_defaults(web_host="127.0.0.1")
    add = parser.add_argument
    default = RunOptions()
    regime_names = [AS_DEPLOYED, *regimes.names()]
    add("--rate", type=float, default=default.rate, help="arrivals per second, on average")
    add("--duration", default=default.duration, help="how long arrivals are sent, e.g. 60s, 5m")
    add("--regime", choices=regime_names, default=default.regime, help="applied before the first arrival")
    add("--target", default=default.target, help="one of the workload's requests; empty: all with a weight, as a mix")
    add("--variables", default=default.variables, help='JSON: variables of the requests, e.g. {"query": "dogs"}')
    add("--timeline", default="", help="phases instead of one load: regime/load@rate:duration, ...; or a YAML file")
    add("--seed", type=int, default=default.seed, help="the same seed gives the same arrivals")
    add(
        "--cv",
        type=float,
        default=0.0,
        help="coefficient of variation of gaps: moderate, heavy-tail; 0 is the load's own",
    )
    add("--modulation", default="", help="a changing rate: sinusoidal:AMPLITUDE:PERIOD, or ramp:START")
    add("--max-in-flight", type=int, default=default.max_in_flight, help="above it an arrival is dropped and counted")
    add("--request-timeout", default=default.request_timeout, help="how long to wait for one reply")
    add("--retries", type=int, default=0, help="repeats after 429, 502, 503 or no connection; each attempt is a row")
    hidden = {"include_in_web_ui": False}
    add("--schedule", default="", help="CSV `k,at_us` of the arrivals, instead of a generated one", **hidden)
    add(
        "--workload",
        default=default.workload,
        help="whose functions are called: a shipped one, or a YAML file",
        **hidden,
    )
    add(
        "--parts",
        default="{}",
        help="JSON: stages of the workload's graph that are one function, by its name",
        **hidden,
    )
    add("--regime-stands", action="store_true", help="--regime is in force already: only note it", **hidden)
    add("--id-prefix", default="", help="request ids are PREFIX-k000000", **hidden)
    add("--out", default="", help="folder for arrivals-*.jsonl and generator.json", **hidden)


def add_trace_arguments(parser: Any) -> None:
    """For user classes that replay; registered by the files that have one."""
    add = parser.add_argument
    default = RunOptions()
    add("--trace", default="", help="file of a recorded trace, for the load replay")
    add(
        "--trace-format",
        choices=["azure2019", "azure2021", "timestamps", "log"],
        default=default.trace_format,
        help="its format",
    )
    add("--trace-functions", default="", help="only functions whose names begin so, comma-separated")
    add("--trace-start", default=default.trace_start, help="where in the trace to begin")
    add("--trace-speed", type=float, default=1.0, help="2: twice as fast, gaps are halved")
    add("--trace-keep", type=float, default=1.0, help="share of arrivals kept, each decided independently")
    add("--trace-within-minute", choices=["uniform", "even"], default="uniform", help="azure2019: where in its minute")
