"""Many invocations of all kinds while replicas and gateways are killed and functions deployed and scaled anew.

FAVE_SOAK says how many (2,000).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter

import psutil
import pytest
import requests

from fave.calling import answers
from fave.processes import wait_until
from fave.settings import ROOT
from fave.wire.openfaas import HANDLER, FunctionSpec
from tests.conftest import ECHO, alive, children_with, connect, start_platform

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CALLS = int(os.environ.get("FAVE_SOAK", "2000"))
CALLERS = 8
SCALE = "com.openfaas.scale."
# What a gateway may say of a call: done, or why not.
SAID = {200, 429, 500, 502, 503}


def specs(chance):
    """Three functions as they may be deployed: a handler, a server of somebody else's, one that goes to zero."""
    stranger = f"{sys.executable} {ROOT / 'tests/support/stranger.py'} {{port}}"
    most = str(chance.choice((2, 3)))
    yield FunctionSpec(
        service="hosted",
        image="",
        annotations={HANDLER: ECHO},
        labels={f"{SCALE}max": most, f"{SCALE}down.window": "1s"},
        env_vars={"max_inflight": "4"},
        limits={"memory": "256Mi"},
    )
    yield FunctionSpec(
        service="strange",
        image="",
        env_process=stranger,
        labels={f"{SCALE}max": most},
        env_vars={"max_inflight": "8", "word": chance.choice("ab")},
    )
    yield FunctionSpec(
        service="fleeting",
        image="",
        annotations={HANDLER: ECHO},
        labels={f"{SCALE}max": "2", f"{SCALE}zero": "true", f"{SCALE}zero-duration": "300ms"},
    )


class Callers:
    """Threads that share a number of calls; what became of each."""

    def __init__(self, url, seed):
        self.outcomes = Counter()
        self.wrong = []
        self.done = 0
        self._url = url
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed}{k}"),)) for k in range(CALLERS)
        ]

    def start(self):
        for thread in self._threads:
            thread.start()

    def join(self):
        for thread in self._threads:
            thread.join()

    def _run(self, chance):
        session = requests.Session()
        while True:
            with self._lock:
                if self.done >= CALLS:
                    return
                self.done += 1
                number = self.done
            outcome = self._call(session, chance, f"call-{number}")
            with self._lock:
                self.outcomes[outcome] += 1

    def _call(self, session, chance, word):
        name = chance.choice(("hosted", "hosted", "strange", "strange", "fleeting"))
        path = {"strange": chance.choice(("/seen", "/zipped", "/big?mb=1"))}.get(name, f"/{word}")
        body = word.encode() * chance.choice((1, 1, 1, 3000))
        data = iter([body]) if chance.random() < 0.2 else body
        # Some do not wait for their answer.
        limit_s = 0.01 if chance.random() < 0.03 else 60
        try:
            reply = session.post(f"{self._url}/function/{name}{path}", data=data, timeout=limit_s)
        except requests.Timeout:
            return "left" if limit_s < 1 else "timeout"
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            wait_until(lambda: answers(f"{self._url}/healthz"), timeout_s=30)
            return "broken off"
        if reply.status_code == 200:
            self._check(name, path, word, body, reply)
        return reply.status_code

    def _check(self, name, path, word, body, reply):
        right = {
            "/zipped": lambda: reply.text.startswith("squeezed"),
            "/big?mb=1": lambda: len(reply.content) == 2**20,
            "/seen": lambda: json.loads(reply.content)["size"] == len(body),
        }.get(path, lambda: (reply.json()["path"], reply.json()["body"]) == (f"/{word}", body.decode()))
        if not right():
            self.wrong.append((name, path, word, reply.content[:200]))


@pytest.mark.timeout(1800)
def test_nothing_is_lost_or_left_whatever_happens_meanwhile(tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    supervisor = start_platform(tmp_path)
    try:
        running = connect(tmp_path)
        for spec in specs(chance):
            running.gateway.deploy(spec)
        gateways_kills = [CALLS // 3, 2 * CALLS // 3]
        callers = Callers(running.endpoints.gateway_url, seed)
        callers.start()
        gateway = running.service("local.gateway")
        while callers.done < CALLS:
            time.sleep(0.2)
            if gateways_kills and callers.done > gateways_kills[0]:
                gateways_kills.pop(0)
                gateway.kill()
                assert wait_until(lambda g=gateway: not alive(g) and running.gateway.healthy(), timeout_s=30)
                (gateway,) = children_with(running.supervisor, "local.gateway")[:1]
            else:
                disturb(running, gateway, chance)
        callers.join()
        sys.stdout.write(f"{dict(callers.outcomes)}\n")
        assert callers.wrong == []
        assert sum(callers.outcomes.values()) == CALLS
        assert callers.outcomes.keys() <= SAID | {"left", "broken off"}, callers.outcomes
        assert callers.outcomes[200] > 0.8 * CALLS, callers.outcomes
        # Of a gateway's two deaths, all that was on its way to it.
        assert callers.outcomes["broken off"] <= 40 + 0.02 * CALLS
        check_nothing_is_left(running, gateway, tmp_path)
    finally:
        supervisor.stop()


def disturb(running, gateway, chance):
    what = chance.choice(("kill", "scale", "deploy", "nothing"))
    replicas = [each for each in gateway.children() if alive(each)]
    if what == "kill" and replicas:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(replicas).pid, signal.SIGKILL)
    elif what == "scale":
        running.gateway.scale(chance.choice(("hosted", "strange", "fleeting")), chance.choice((0, 1, 2)))
    elif what == "deploy":
        running.gateway.deploy(chance.choice(list(specs(chance))))


def check_nothing_is_left(running, gateway, state):
    """Files, processes, memory; and the witnesses agree."""
    names = ("hosted", "strange", "fleeting")
    assert wait_until(lambda: all(running.in_flight(name) == 0 for name in names), timeout_s=60)
    # At rest: the surplus has gone by then, and nothing changes any more between one look and the next.
    at_rest = lambda: running.counts("fleeting") == (0, 0) and all(at_rest_with_one(running, name) for name in names)  # noqa: E731
    assert wait_until(at_rest, timeout_s=60), [running.gateway.function(name) for name in names]
    there = set().union(*(ready_by_events(running.events(name)) for name in names))
    assert {each.name for each in (state / "tmp").iterdir()} == there
    assert wait_until(lambda: len([each for each in gateway.children() if alive(each)]) == len(there), timeout_s=30)
    strays = [each for each in psutil.process_iter() if temporary_folder(each).startswith(f"{state}/tmp/")]
    assert len(strays) == len(there)
    assert list((state / "queue").iterdir()) == []
    text = requests.get(running.metrics_url(), timeout=30).text
    for name in names:
        label = f'function_name="{name}.openfaas-fn"'
        assert value(text, "gateway_function_invocation_started", label) == value(
            text, "gateway_function_invocation_total", label
        )
        assert value(text, "fave_queue_length", label) == 0
    # Its own sockets, logs and pipes, and idle connections to replicas.
    assert wait_until(lambda: gateway.num_fds() < 60, timeout_s=30), gateway.num_fds()
    assert gateway.memory_info().rss < 150 * 2**20


def at_rest_with_one(running, name):
    status = running.gateway.function(name)
    ready = len(ready_by_events(running.events(name)))
    return (status.replicas, status.available_replicas, status.draining) in {
        (0, 0, 0),
        (1, 1, 0),
    } and ready == status.replicas


def ready_by_events(events):
    started, ready = Counter(), set()
    for event in events:
        if event["event"] == "start":
            started[event["replica_id"]] += 1
        elif event["event"] == "ready":
            ready.add(event["replica_id"])
        elif "replica_id" in event:
            started[event["replica_id"]] -= 1
            ready.discard(event["replica_id"])
    # Each replica has begun once, and ended once or is still there.
    assert {replica for replica, count in started.items() if count} == ready
    return ready


def temporary_folder(process):
    try:
        return process.environ().get("TMPDIR", "")
    except psutil.Error:
        return ""


def value(text, metric, label):
    lines = (line for line in text.splitlines() if line.startswith(f"{metric}{{") and label in line)
    return sum(float(line.rpartition(" ")[2]) for line in lines)
