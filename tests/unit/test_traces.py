"""Recorded traffic is replayed as it was recorded; what is malformed is named with its line."""

import random
import statistics

import pytest

from fave.errors import ConfigError
from fave.settings import Duration
from fave.traffic.arrivals import Traffic, generate
from fave.traffic.traces import Trace

pytestmark = pytest.mark.unit

HEADER_2019 = "HashOwner,HashApp,HashFunction,Trigger," + ",".join(map(str, range(1, 1441)))
HEADER_2021 = "app,func,end_timestamp,duration"


def counts(**by_minute):
    """1440 cells; `m3=7` is seven in minute 3."""
    return ",".join(str(by_minute.get(f"m{minute}", 0)) for minute in range(1, 1441))


@pytest.fixture
def file(tmp_path):
    def write(*lines):
        path = tmp_path / "trace.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    return write


def times_s(trace, duration_s=86400):
    return [at_us / 1e6 for at_us in generate(Traffic(model="replay", duration=Duration(duration_s), trace=trace), 1)]


def test_azure_2019_counts_lie_in_their_minutes(file):
    path = file(HEADER_2019, f"o,a,f1,http,{counts(m1=3, m5=200)}", f"o,a,f2,timer,{counts(m2=10)}")
    found = times_s(Trace(file=path, format="azure2019"))
    assert [int(at // 60) for at in found] == [0] * 3 + [1] * 10 + [4] * 200
    assert found == sorted(found)
    within = [at % 60 for at in found if at > 200]
    assert statistics.fmean(within) == pytest.approx(30, abs=5)


def test_azure_2019_can_be_spaced_evenly_within_the_minute_and_chosen_by_function(file):
    path = file(HEADER_2019, f"o,a,f1,http,{counts(m1=3)}", f"o,a,f2,timer,{counts(m2=10)}")
    trace = Trace(file=path, format="azure2019", functions=("f1",), within_minute="even")
    assert times_s(trace) == [10.0, 30.0, 50.0]


def test_azure_2021_arrivals_are_ends_minus_durations(file):
    path = file(HEADER_2021, "a,f,10.0,9.5", "a,f,11.0,0.5", "a,g,12.0,1.0", "a,f,12.5,12.0", "a,f,13.0,14.0")
    trace = Trace(file=path, format="azure2021", functions=("f",))
    # In order of arrival; the one that began before the trace is left out.
    assert times_s(trace) == [0.5, 0.5, 10.5]


def test_timestamps_begin_at_zero_and_are_scaled(file):
    path = file("timestamp,what", "100,x", "101,x", "104,x", "110,x")
    assert times_s(Trace(file=path, format="timestamps")) == [0, 1, 4, 10]
    assert times_s(Trace(file=path, format="timestamps", speed=2)) == [0, 0.5, 2, 5]
    assert times_s(Trace(file=path, format="timestamps", start=Duration(1))) == [0, 3, 9]
    assert times_s(Trace(file=path, format="timestamps"), duration_s=5) == [0, 1, 4]


def test_thinning_keeps_a_share_and_the_clock(file):
    path = file("timestamp", *map(str, range(4000)))
    found = times_s(Trace(file=path, format="timestamps", keep=0.25))
    assert len(found) == pytest.approx(1000, abs=100)
    assert max(found) > 3900


def test_only_the_beginning_of_a_long_trace_is_read(tmp_path):
    """A trace may be larger than memory: what comes after the run's end is not even looked at."""
    path = tmp_path / "t.csv"
    path.write_text("timestamp\n0\n1\n2\nthis is not a number\n", encoding="utf-8")
    assert times_s(Trace(file=str(path), format="timestamps"), duration_s=2) == [0, 1]


@pytest.mark.parametrize(
    ("form", "lines", "message"),
    [
        ("timestamps", ["timestamp", "1", "x"], r"trace\.csv:3: timestamp 'x'"),
        ("timestamps", ["timestamp", "1", "-2"], r"trace\.csv:3: timestamp '-2'"),
        ("timestamps", ["timestamp", "5", "4"], r"trace\.csv:3: 4 comes after 5"),
        ("timestamps", ["timestamp", "inf"], r"trace\.csv:2: timestamp 'inf'"),
        ("timestamps", ["a,b", "1,2"], "no column timestamp"),
        ("timestamps", ["1.5", "2.5"], "is no header"),
        ("timestamps", ["timestamp"], "no invocation"),
        ("azure2021", [HEADER_2021, "a,f,10"], r"trace\.csv:2: 3 cells instead of 4"),
        ("azure2021", [HEADER_2021, "a,f,-1,0"], r"trace\.csv:2: end_timestamp '-1'"),
        ("azure2021", ["app,func", "a,f"], "no column end_timestamp, duration"),
        ("azure2019", [HEADER_2019, "o,a,f,http,1,2"], r"trace\.csv:2: 6 cells instead of 1444"),
        ("azure2019", [HEADER_2019, f"o,a,f,http,{counts(m1=-3)}"], r"trace\.csv:2: minute 1: '-3' is not a count"),
    ],
)
def test_a_malformed_trace_is_refused_with_its_line(file, form, lines, message):
    with pytest.raises(ConfigError, match=message):
        times_s(Trace(file=file(*lines), format=form))


def test_a_function_that_is_not_in_the_trace_is_named(file):
    path = file(HEADER_2021, "a,f,10.0,9.5")
    with pytest.raises(ConfigError, match="no function that begins with g"):
        times_s(Trace(file=path, format="azure2021", functions=("g",)))


def test_a_trace_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.csv: cannot be read"):
        times_s(Trace(file="nowhere.csv", format="timestamps"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"speed": 0}, "speed: 0"),
        ({"keep": 1.5}, "keep: 1.5"),
        ({"functions": ("f",)}, "a file of timestamps names none"),
        ({"within_minute": "even"}, "only azure2019"),
        ({"file": ""}, "which recording"),
    ],
)
def test_a_trace_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Trace(**{"file": "t.csv", "format": "timestamps"} | wrong)


def test_seeds_only_matter_where_chance_does(file):
    path = file("timestamp", *map(str, range(50)))
    traffic = Traffic(model="replay", duration=Duration(100), trace=Trace(file=path, format="timestamps"))
    seeds = [random.Random(1).randrange(10**6) for _ in range(2)]
    assert generate(traffic, seeds[0]) == generate(traffic, seeds[1] + 1)
