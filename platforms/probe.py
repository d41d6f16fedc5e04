"""What a platform can do, tried with one throw-away function: no edition's name is believed, nobody's function touched.

What only time shows (who scales to zero after idleness, who starts more under load) is tried when one is patient, and
else *unknown*.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from fave.calling import Caller
from fave.campaign.experiment import Policy
from fave.campaign.validity import Gates
from fave.clock import utc_ns
from fave.errors import FaveError, GatewayError, PlatformError
from fave.images import image_of
from fave.processes import wait_until
from fave.settings import Duration
from platforms import hopeless
from platforms.model import Platform, Seen
from workloads.model import Function, Request, Workload

NAME = "fave-probe"
YES, NO, UNKNOWN = "yes", "no", "unknown"
_IDLE = Duration(10)
# Pro looks every few seconds; what has not happened by then does not happen.
_IDLE_WITHIN_S = 60.0
_START_WITHIN_S = 60.0
_SEEN_WITHIN_S = 15.0
_TOGETHER = 8
_ANSWER_S = 60.0
# Pro's alone.
_READY_METRIC = "gateway_service_ready_count"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. evidence: what was done and seen, in words."""

    what: str
    answer: str
    evidence: str


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """In the order in which it was tried. samples_every_s: replica counts, in the middle; None where none came."""

    found: list[Found]
    took_s: float
    samples_every_s: float | None = None

    def __getitem__(self, what: str) -> str:
        return next((each.answer for each in self.found if each.what == what), UNKNOWN)


def probe(platform: Platform, workload: Workload, *, patient: bool = False, say: Callable[[str], None]) -> Probe:
    """Deploys one function, uses it, and removes it, whatever happens.

    Raises
    ------
    PlatformError
        When it cannot even be deployed and called, with the reason.
    """
    began_s = time.monotonic()
    trial = _Trial(platform, workload, say)
    with platform.observe([NAME]) as watch:
        watch.begin()
        try:
            found = [*trial.info(), *trial.all(patient=patient)]
            every_s = _samples_every_s(watch.end())
        finally:
            with contextlib.suppress(PlatformError):
                platform.remove(NAME)
    limits = Gates()
    bounds = f"{limits.replica_gap_s:g} s and {limits.replica_age_p99_s:g} s"
    said = f"the gates replica_gap_s and replica_age_p99_s are {bounds}"
    found.append(_found("replica counts", UNKNOWN if every_s is None else f"every {every_s:.2f} s", said))
    return Probe(found=found, took_s=time.monotonic() - began_s, samples_every_s=every_s)


def _samples_every_s(seen: Seen) -> float | None:
    """The first one's age is since nobody looked."""
    ages_s = [row.age_s for row in seen.rows if row.ready is not None][1:]
    return statistics.median(ages_s) if ages_s else None


def unmeasurable(probed: Probe, gates: Gates) -> list[str]:
    """Why no run on this platform could be valid, in words: limits that its samples cannot meet."""
    every_s = probed.samples_every_s
    if every_s is None or every_s <= gates.replica_gap_s:
        return []
    remedy = "let Prometheus scrape the gateway every 500 ms, or raise the gate in the experiment"
    return [
        f"replica counts come every {every_s:.1f} s, and the gate replica_gap_s is {gates.replica_gap_s:g} s: {remedy}"
    ]


def refused(probed: Probe, policies: Mapping[str, Policy], *, idled: bool = False) -> list[str]:
    """Why these policies cannot be on this platform, in words; empty where nothing speaks against them.

    idled: FAVE's idler scales to zero.
    """
    to_zero = sorted(name for name, each in policies.items() if each.min_replicas == 0)
    which = f"{', '.join(to_zero[:3])}{' and others' * (len(to_zero) > 3)}"
    problems = []
    if to_zero and probed["zero on demand"] == NO:
        problems.append(f"{which}: minimum 0, but there is no zero here ({_why(probed, 'zero on demand')})")
    elif to_zero and probed["zero when idle"] == NO and not idled:
        problems.append(f"{which}: minimum 0, but nobody scales to zero here ({_why(probed, 'zero when idle')})")
    elif to_zero and probed["wakes from zero"] == NO:
        problems.append(f"{which}: minimum 0, but a call does not wake a function ({_why(probed, 'wakes from zero')})")
    return problems


def _why(probed: Probe, what: str) -> str:
    return next(each.evidence for each in probed.found if each.what == what)


class _Trial:
    """One function of one's own, and what becomes of it."""

    def __init__(self, platform: Platform, workload: Workload, say: Callable[[str], None]) -> None:
        # A director would need those that it directs.
        alone = {name: each for name, each in workload.functions.items() if not workload.directs(name)}
        name, about = min((alone or workload.functions).items(), key=lambda each: each[1].memory_limit_mb)
        about = msgspec.structs.replace(about, image=about.image or image_of(name))
        self._about: Function = about
        self._work = Workload(
            description="a throw-away function", functions={NAME: about}, requests={"ask": Request(function=NAME)}
        )
        self._platform = platform
        self._caller = Caller(platform.endpoints.gateway_url)
        self._say = say
        self._provider = UNKNOWN

    def info(self) -> Iterator[Found]:
        info = self._platform.facts().info
        provider = info.get("provider") or {}
        version = (provider.get("version") or {}).get("release", "")
        said = f"/system/info: {provider.get('orchestration', '')}, release {version or 'unnamed'}"
        self._provider = provider.get("provider", UNKNOWN)
        yield _found("provider", self._provider, said)
        yield _found("gateway", (info.get("version") or {}).get("release", UNKNOWN), "/system/info")

    def all(self, *, patient: bool) -> Iterator[Found]:
        for step in (
            self._deploys,
            self._answers,
            self._zero_on_demand,
            self._wakes,
            self._counts,
            self._replaces,
            self._queues,
            self._metrics,
            self._asynchronous,
            self._events,
        ):
            yield from step()
        if patient:
            yield from self._zero_when_idle()
            yield from self._scales_out()
        else:
            yield self._by_edition()
            yield _found("scales out", UNKNOWN, "not tried: it takes a minute (--patient)")

    # Steps.

    def _deploys(self) -> Iterator[Found]:
        self._say("deploying a throw-away function")
        self._platform.changeable(self._work, [NAME])
        began_s, began_ns = time.monotonic(), utc_ns()
        self._deploy(minimum=0)
        self._platform.scale(NAME, 1)
        self._until_ready(1, began_ns)
        yield _found("deploys", YES, f"ready after {time.monotonic() - began_s:.1f} s, and stands as asked for")

    def _answers(self) -> Iterator[Found]:
        reply = self._ask()
        yield _found("answers", YES if reply.status_code < 500 else NO, f"a call was answered {reply.status_code}")
        offset_s = self._clock_offset_s()
        told = "the function does not tell its times" if offset_s is None else f"at least {offset_s * 1000:.0f} ms"
        yield _found("clock offset", UNKNOWN if offset_s is None else f"{offset_s:.3f} s", told)

    def _zero_on_demand(self) -> Iterator[Found]:
        self._say("scaling it to zero")
        try:
            self._platform.scale(NAME, 0)
        except GatewayError as error:
            yield _found("zero on demand", NO, f"refused: {error.message}")
            return
        gone = wait_until(
            lambda: self._platform.counts()[NAME][:2] == (0, 0), timeout_s=_SEEN_WITHIN_S, interval_s=0.05
        )
        there = self._platform.counts()[NAME]
        said = (
            "scaled to 0, and none is there" if gone else f"202 to scaling to 0, and {there.desired} are wanted still"
        )
        yield _found("zero on demand", YES if gone else NO, said)

    def _wakes(self) -> Iterator[Found]:
        if self._platform.counts()[NAME].desired:
            yield _found("wakes from zero", UNKNOWN, "it cannot be at zero")
            return
        began_s = time.monotonic()
        try:
            status = self._ask().status_code
        except FaveError as error:
            yield _found("wakes from zero", NO, f"a call at zero: {error.message}")
            return
        woke = status < 500 and status != 404
        yield _found(
            "wakes from zero", YES if woke else NO, f"{status} after {time.monotonic() - began_s:.2f} s at zero"
        )

    def _counts(self) -> Iterator[Found]:
        """How late the gateway's counts and the witness' are, after a change that was asked for."""
        self._need(1)
        asked_ns = utc_ns()
        self._platform.scale(NAME, 2)
        late_s: dict[str, float] = {}

        def seen() -> bool:
            told = {"gateway": self._platform.counts()[NAME].desired, "witness": self._witnessed()}
            for who, desired in told.items():
                if desired == 2:
                    late_s.setdefault(who, (utc_ns() - asked_ns) / 1e9)
            return len(late_s) == 2

        wait_until(seen, timeout_s=_SEEN_WITHIN_S, interval_s=0.02)
        for who in ("gateway", "witness"):
            found = late_s.get(who)
            said = f"2 replicas were asked for, and told {'never' if found is None else f'{found:.2f} s later'}"
            yield _found(f"{who} counts", UNKNOWN if found is None else f"{found:.2f} s late", said)
        self._platform.scale(NAME, 1)

    def _witnessed(self) -> int:
        return self._platform.witnessed().get(NAME, (-1, -1))[0]

    def _replaces(self) -> Iterator[Found]:
        """Whether a change of the policy alone costs the replicas."""
        self._need(1)
        before = self._replica()
        if not before:
            yield _found("a policy replaces replicas", UNKNOWN, "the function does not tell which replica it is")
            return
        self._platform.bound(self._work, "probe", {NAME: self._policy(minimum=1)})
        replaced = wait_until(lambda: self._replica() not in ("", before), timeout_s=5, interval_s=0.25)
        said = "another replica answers" if replaced else "the same replica answers for 5 s"
        yield _found("a policy replaces replicas", YES if replaced else NO, f"maximum 3 instead of 2: {said}")

    def _queues(self) -> Iterator[Found]:
        """Who keeps calls that one replica cannot take at once."""
        self._need(1)
        with ThreadPoolExecutor(_TOGETHER) as threads:
            asked = list(threads.map(lambda _: (utc_ns(), self._ask()), range(_TOGETHER)))
        turned_away = sum(reply.status_code == 429 for _, reply in asked)
        said = f"{_TOGETHER} calls at once to one replica that takes {self._about.max_in_flight}"
        if turned_away:
            yield _found("queue", "none", f"{said}: {turned_away} were refused (429)")
            return
        names = ("X-Fave-Received-At", "X-Fave-Started-At")
        stamps = [(sent_ns, *(_stamp(reply, name) for name in names)) for sent_ns, reply in asked]
        if not all(map(all, stamps)):
            yield _found("queue", UNKNOWN, f"{said}: all answered; the function does not tell where they waited")
            return
        before_ns = statistics.median(received - sent for sent, received, _ in stamps)
        within_ns = statistics.median(started - received for _, received, started in stamps)
        where = "replica" if within_ns > before_ns else "platform"
        yield _found("queue", where, f"{said}: all answered, and most waited there")

    def _metrics(self) -> Iterator[Found]:
        counters = self._platform.counters()
        for what, metric in (
            ("ready metric", _READY_METRIC),
            ("in-flight metric", "gateway_function_invocation_inflight"),
        ):
            there = any(name.startswith(metric) for name in counters)
            yield _found(what, YES if there else NO, f"{metric} is {'' if there else 'not '}in Prometheus")

    def _by_edition(self) -> Found:
        """Who scales to zero, where nobody waits to see it."""
        what = "zero when idle"
        if self._platform.capabilities().known:
            return _found(what, YES, "this platform is FAVE's own, which does")
        if any(name.startswith(_READY_METRIC) for name in self._platform.counters()):
            return _found(what, YES, "by edition: Pro's metrics are there, and Pro does; not tried (--patient)")
        if self._provider == "faas-netes":
            why = "without Pro's metrics, and no other edition on Kubernetes does; not tried (--patient)"
            return _found(what, NO, f"by edition: {why}")
        return _found(what, UNKNOWN, "not tried: it takes a minute (--patient)")

    def _asynchronous(self) -> Iterator[Found]:
        try:
            self._caller.invoke_async(NAME, b"")
        except FaveError as error:
            yield _found("asynchronous calls", NO, error.message)
        else:
            yield _found("asynchronous calls", YES, "202 to /async-function")

    def _events(self) -> Iterator[Found]:
        told = self._platform.capabilities().replica_events
        yield _found("replica events", YES if told else NO, "starts and ends are told" if told else "counts alone tell")

    def _zero_when_idle(self) -> Iterator[Found]:
        if self._platform.counts()[NAME].desired == 0:
            self._need(1)
        self._say(f"waiting whether it goes to zero after {_IDLE}")
        self._deploy(minimum=0)
        self._need(1)
        self._ask()
        began_s = time.monotonic()
        gone = wait_until(lambda: self._platform.counts()[NAME].desired == 0, timeout_s=_IDLE_WITHIN_S, interval_s=0.25)
        took_s = time.monotonic() - began_s
        said = f"idle timeout {_IDLE}: " + (f"gone after {took_s:.1f} s" if gone else f"there after {took_s:.0f} s")
        yield _found("zero when idle", YES if gone else NO, said)

    def _scales_out(self) -> Iterator[Found]:
        """More calls at a time than one replica takes, for a while."""
        self._need(1)
        self._say("calling it from several at once, to see whether more replicas come")
        until_s, most = time.monotonic() + 30, 1
        with ThreadPoolExecutor(_TOGETHER) as threads:
            while time.monotonic() < until_s and most < 2:
                list(threads.map(lambda _: self._ask(), range(_TOGETHER)))
                most = max(most, self._platform.counts()[NAME].desired)
        said = f"{_TOGETHER} callers for at most 30 s: {most} replica{'s' * (most > 1)}"
        yield _found("scales out", YES if most > 1 else NO, said)

    # Doing.

    def _policy(self, *, minimum: int) -> Policy:
        return Policy(
            min_replicas=minimum,
            max_replicas=2 + minimum,
            idle_timeout=_IDLE,
            target_in_flight=1.0,
            max_in_flight=self._about.max_in_flight,
            memory_limit_mb=self._about.memory_limit_mb,
            exec_timeout=self._about.exec_timeout,
        )

    def _deploy(self, *, minimum: int) -> None:
        self._platform.deploy(self._work, "probe", {NAME: self._policy(minimum=minimum)})

    def _ready(self) -> int:
        there = self._platform.counts().get(NAME)
        return there.ready if there else 0

    def _need(self, count: int) -> None:
        if self._platform.counts()[NAME][:2] != (count, count):
            asked_ns = utc_ns()
            self._platform.scale(NAME, count)
            self._until_ready(count, asked_ns)

    def _until_ready(self, count: int, since_ns: int) -> None:
        def there() -> bool:
            hopeless.refuse(self._platform, since_ns)
            return self._ready() == count

        if not wait_until(there, timeout_s=_START_WITHIN_S, interval_s=0.1):
            failed = self._platform.failed_starts(since_ns)
            why = failed[-1].reason if failed else "it says no more"
            what = f"{NAME} (image {self._about.image}) has {self._ready()} ready replicas of {count}"
            raise PlatformError(
                f"{what} after {_START_WITHIN_S:g} s: {why}",
                hint="can its image be pulled? `make images` builds FAVE's; see docs/openfaas-troubleshooting.md",
            )

    def _ask(self) -> Any:
        return self._caller.invoke(NAME, b"{}", timeout_s=_ANSWER_S)

    def _replica(self) -> str:
        try:
            return str(self._ask().headers.get("X-Fave-Replica-Id", ""))
        except FaveError:  # between two replicas
            return ""

    def _clock_offset_s(self) -> float | None:
        sent_ns = utc_ns()
        reply = self._ask()
        received, finished, back_ns = _stamp(reply, "X-Fave-Received-At"), _stamp(reply, "X-Fave-Finished-At"), utc_ns()
        return max(0, sent_ns - received, finished - back_ns) / 1e9 if received and finished else None


def _found(what: str, answer: str, evidence: str) -> Found:
    return Found(what=what, answer=answer, evidence=evidence)


def _stamp(reply: Any, name: str) -> int:
    text = reply.headers.get(name, "")
    return int(text) if text.isdigit() else 0
