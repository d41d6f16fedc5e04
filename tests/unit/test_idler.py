"""When FAVE's idler scales to zero: by what a gateway counts, in made-up looks."""

from __future__ import annotations

import pytest

from platforms.idler import Due, due, idle_timeouts_s, looked, signs
from platforms.model import Counts

pytestmark = pytest.mark.unit

ONE, NONE = {"f": Counts(1, 1)}, {"f": Counts(0, 0)}


def counters(started, finished):
    codes = {"gateway_function_invocation_total{f,200}": finished - 1, "gateway_function_invocation_total{f,500}": 1}
    return {"gateway_function_invocation_started{f}": started} | codes | {"gateway_service_count{f}": 1}


def looks(*each, timeout_s=4.0):
    """(at, counts, counters) one after another: what is due after the last."""
    uses = {}
    for at_s, counts, counted in each:
        uses = looked(uses, counts, counted, {"f": timeout_s}, at_s)
    return due(uses, counts, at_s)


def test_calls_are_told_by_what_was_started_and_not_finished():
    assert signs(counters(5, 3)) == {"f": (5, 2)}
    assert signs({"gateway_function_invocation_started{f}": 1}) == {"f": (1, 1)}


def test_a_function_is_idle_once_nothing_was_started_for_its_timeout():
    quiet = counters(3, 3)
    assert looks((0, ONE, quiet), (3.9, ONE, quiet)) == []
    assert looks((0, ONE, quiet), (4, ONE, quiet)) == [Due("f", 4, 4.0)]
    assert looks((0, ONE, quiet), (2, ONE, counters(4, 4)), (4, ONE, counters(4, 4))) == [], "it was called in between"


def test_what_is_unfinished_is_in_use_however_long():
    assert looks((0, ONE, counters(4, 3)), (90, ONE, counters(4, 3))) == []


def test_a_replica_that_came_up_is_use_because_who_waits_at_zero_is_not_counted_yet():
    quiet = counters(3, 3)
    assert looks((0, NONE, quiet), (9, ONE, quiet), (12, ONE, quiet)) == []
    assert looks((0, NONE, quiet), (9, ONE, quiet), (13, ONE, quiet)) == [Due("f", 4, 4.0)]
    assert looks((0, NONE, quiet), (9, NONE, quiet)) == [], "there is nobody to go"


def test_a_new_policy_counts_from_when_it_came():
    quiet = counters(3, 3)
    uses = looked({}, ONE, quiet, {}, 0)
    uses = looked(uses, ONE, quiet, {}, 60)
    uses = looked(uses, ONE, quiet, {"f": 4.0}, 61)
    assert due(uses, ONE, 62) == []
    assert due(uses, ONE, 65) == [Due("f", 4, 4.0)]


def test_only_functions_that_may_go_to_zero_have_a_timeout():
    label = "com.openfaas.scale."
    labels = {"f": {f"{label}zero": "true", f"{label}zero-duration": "1500ms"}, "g": {f"{label}zero-duration": "4s"}}
    assert idle_timeouts_s(labels | {"h": {}}) == {"f": 1.5}
