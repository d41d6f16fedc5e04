"""What became of pods, from a stream of what Kubernetes says of them, their endpoints and events. Pure.

Its own stamps are whole seconds, so each change has the time at which it was heard.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from fave.wire import replica_events as became
from fave.wire.records import ReplicaRow

FUNCTION = "faas_function"
# Reasons for which a container waits that will not pass by themselves.
_CANNOT_START = frozenset(
    (
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "CrashLoopBackOff",
    )
)
# Of events, those that say what nothing else does.
_TOLD = {
    "Scheduled": became.SCHEDULED,
    "Pulled": became.PULLED,
    **dict.fromkeys(("FailedScheduling", "FailedCreatePodSandBox", "FailedMount"), became.HELD_UP),
}
Object = Mapping[str, Any]


class _State(NamedTuple):
    """What was heard of one pod. restarts: of its container."""

    function: str
    running: bool = False
    ready: bool = False
    routable: bool = False
    ending: bool = False
    restarts: int = 0
    failed: str = ""


class Pods:
    """rows: what happened, as it came. routable_at_ns: since when a pod could be sent to, first; by its name."""

    def __init__(self, functions: Collection[str] = (), *, with_endpoints: bool = True) -> None:
        """functions: to be counted. with_endpoints: they are told, too, and only who is among them is routable."""
        self.rows: list[ReplicaRow] = []
        self.routable_at_ns: dict[str, int] = {}
        self._with_endpoints = with_endpoints
        self._pods: dict[str, _State] = {}
        # Those that stand before the first change is heard.
        self._endpoints: dict[str, frozenset[str]] = defaultdict(frozenset)
        self._told: set[str] = set()
        self._functions = sorted(functions)

    def alive(self) -> dict[str, str]:
        """Functions by the names of their pods that have not ended."""
        return {name: state.function for name, state in self._pods.items() if not state.ending}

    def counts(self, at_ns: int, age_s: float) -> list[ReplicaRow]:
        """Of each function: those there, and those that may be sent to."""
        there = Counter(state.function for state in self._pods.values() if not state.ending)
        ready = Counter(state.function for state in self._pods.values() if state.routable)
        return [
            ReplicaRow(
                at_ns=at_ns,
                source="kubernetes",
                function=function,
                age_s=age_s,
                desired=there[function],
                ready=ready[function],
                starting=there[function] - ready[function],
            )
            for function in self._functions
        ]

    def pod(self, change: str, pod: Object, at_ns: int) -> None:
        """change: ADDED, MODIFIED, DELETED; or LISTED, for what was there before."""
        meta = pod["metadata"]
        name, function = meta["name"], (meta.get("labels") or {}).get(FUNCTION, "")
        before = self._pods.get(name)
        if not function or (before is None and change == "DELETED"):
            return
        if before is None:
            before = _State(function)
            self._add(at_ns, name, function, became.START, silent=change == "LISTED")
        status = pod.get("status") or {}
        containers = status.get("containerStatuses") or []
        now = before._replace(
            running=any("running" in (each.get("state") or {}) for each in containers),
            ready=_is(status, "Ready"),
            ending=change == "DELETED" or bool(meta.get("deletionTimestamp")) or status.get("phase") == "Failed",
            restarts=sum(each.get("restartCount", 0) for each in containers),
        )
        self._pods[name] = now
        if now.running and not before.running:
            self._add(at_ns, name, function, became.STARTED, silent=change == "LISTED")
        for event, reason in _ends(status, containers, before, now):
            self._add(at_ns, name, function, event, reason, silent=change == "LISTED")
        if now.restarts > before.restarts and not now.ending:
            self._add(at_ns, name, function, became.START, silent=change == "LISTED")
        failed = next((reason for reason in _waiting_for(containers) if reason in _CANNOT_START), "")
        if failed and failed != before.failed:
            self._add(at_ns, name, function, became.HELD_UP, failed)
        self._pods[name] = self._pods[name]._replace(failed=failed)
        self._settle(name, at_ns, silent=change == "LISTED")
        if change == "DELETED":
            del self._pods[name]

    def endpoints(self, change: str, group: Object, at_ns: int) -> None:
        """An EndpointSlice: who may be sent to."""
        there = () if change == "DELETED" else group.get("endpoints") or ()
        ready = frozenset(
            (each.get("targetRef") or {}).get("name", "")
            for each in there
            if (each.get("conditions") or {}).get("ready", True)
        )
        key = group["metadata"]["name"]
        touched = ready | self._endpoints[key]
        self._endpoints[key] = ready
        for name in touched & self._pods.keys():
            self._settle(name, at_ns, silent=change == "LISTED")

    def event(self, event: Object, at_ns: int) -> None:
        """One of Kubernetes' own events; each is told once, however often it comes."""
        about, reason = event.get("involvedObject") or {}, event.get("reason", "")
        state = self._pods.get(about.get("name", ""))
        told = f"{event['metadata'].get('uid') or event['metadata']['name']}"
        if state is None or reason not in _TOLD or told in self._told:
            return
        self._told.add(told)
        why = f"{reason}: {event.get('message', '')[:200]}" if _TOLD[reason] == became.HELD_UP else ""
        self._add(at_ns, about["name"], state.function, _TOLD[reason], why)

    def _settle(self, name: str, at_ns: int, *, silent: bool) -> None:
        """Whether it may be sent to by now."""
        state = self._pods[name]
        among = not self._with_endpoints or any(name in ready for ready in self._endpoints.values())
        routable = state.ready and among and not state.ending
        if routable and not state.routable:
            self.routable_at_ns.setdefault(name, 0 if silent else at_ns)
            self._add(at_ns, name, state.function, became.READY, silent=silent)
        self._pods[name] = state._replace(routable=routable)

    def _add(self, at_ns: int, name: str, function: str, event: str, reason: str = "", *, silent: bool = False) -> None:
        if not silent:
            self.rows.append(
                ReplicaRow(
                    at_ns=at_ns, source="kubernetes", function=function, event=event, replica_id=name, reason=reason
                )
            )


def failed_starts(pod: Object) -> list[str]:
    """Why it did not start, once for each time: of a pod that is looked at, and was not watched. One that is told to
    end does so.
    """
    found: list[str] = []
    if pod["metadata"].get("deletionTimestamp"):
        return found
    for each in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (each.get("lastState") or {}).get("terminated") or (each.get("state") or {}).get("terminated")
        if ended and not each.get("ready"):
            why = f"{ended.get('reason', '')}, exit code {ended.get('exitCode', 0)}"
            found += [why] * max(1, each.get("restartCount", 0))
        waiting = ((each.get("state") or {}).get("waiting") or {}).get("reason", "")
        if waiting in _CANNOT_START and not ended:
            found.append(waiting)
    return found


def _is(status: Object, condition: str) -> bool:
    return any(
        each.get("type") == condition and each.get("status") == "True" for each in status.get("conditions") or ()
    )


def _waiting_for(containers: list[Object]) -> Iterator[str]:
    for each in containers:
        yield ((each.get("state") or {}).get("waiting") or {}).get("reason", "")


def _ends(status: Object, containers: list[Object], before: _State, now: _State) -> Iterator[tuple[str, str]]:
    """Of its container, which may start again within the pod, and of the pod."""
    if before.ending:
        return
    over = [
        ended
        for each in containers
        if (ended := (each.get("state") or {}).get("terminated") or (each.get("lastState") or {}).get("terminated"))
    ]
    died = now.restarts > before.restarts or (before.running and not now.running and not now.ending)
    for ended in over if died else ():
        reason, code = ended.get("reason", ""), ended.get("exitCode", 0)
        if reason == "OOMKilled":
            yield became.OOM_KILLED, reason
        elif code or not now.ending:
            yield (became.CRASHED if before.ready else became.START_FAILED), f"{reason}, exit code {code}"
    if now.ending:
        yield became.STOP, status.get("reason") or ""
