"""A platform in memory: what `docs/platforms.md` asks for and no more. Replicas are numbers, and are ready at once."""

from __future__ import annotations

import contextlib

from fave.clock import utc_ns
from fave.errors import PlatformError
from platforms.model import Capabilities, Counts, Facts, Seen


class Toy:
    def __init__(self, endpoints):
        self.endpoints = endpoints
        self.replicas = {}
        self.policies = {}
        self.foreign = set()
        self.replaced = []
        # Tests set these: how many replicas a call of `scale` leads to, and which starts are reported as failed.
        self.brings = lambda function, wanted: wanted
        self.failed = []

    @classmethod
    def serves(cls, endpoints):
        return endpoints.gateway_url == "toy://"

    def counts(self):
        return {name: Counts(count, count) for name, count in self.replicas.items()}

    def changeable(self, workload, functions):
        if taken := self.foreign & set(functions):
            raise PlatformError(f"not mine: {', '.join(sorted(taken))}")
        return self.replicas.keys() - self.foreign

    def deploy(self, workload, regime, policies):
        self.replaced += [name for name in policies if self.replicas.get(name)]
        self.bound(workload, regime, policies)

    def bound(self, workload, regime, policies):
        self.policies |= policies
        for name in policies:
            self.replicas.setdefault(name, 0)
            self.replicas[name] = min(self.replicas[name], policies[name].max_replicas)
        return []

    def scale(self, function, replicas):
        self.replicas[function] = self.brings(function, replicas)

    def remove(self, function):
        del self.replicas[function]

    def give_back(self, functions=None):
        return []

    def standing(self, functions):
        return {name: {"policy": str(self.policies[name])} for name in functions}

    def witnessed(self):
        return {name: (count, count) for name, count in self.replicas.items()}

    def ready_since(self, at_ns):
        return dict(self.replicas)

    def in_flight_since(self, at_ns):
        return dict.fromkeys(self.replicas, 0)

    def counters(self):
        return {}

    @contextlib.contextmanager
    def observe(self, functions):
        yield self

    def begin(self):
        return utc_ns()

    def end(self):
        return Seen([], {}, None, utc_ns())

    def failed_starts(self, since_ns):
        return self.failed

    def logs(self, function, since_ns, lines):
        return []

    def processes_of(self, function):
        return []

    def capabilities(self):
        return Capabilities(
            replica_events=False,
            limits_enforced_by_gateway=False,
            draining_replicas_told=False,
            credentials_by_function=False,
        )

    def facts(self):
        return Facts(info={"provider": {"provider": "toy"}}, capabilities=self.capabilities(), co_located=False)

    def own_processes(self):
        return []

    def generator_cores(self):
        return []
