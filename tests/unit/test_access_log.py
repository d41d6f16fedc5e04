"""What servers write of each request, as arrivals."""

import gzip
import itertools
import json
import math
import random

import pytest

from fave.errors import ConfigError
from fave.settings import Duration
from fave.traffic import access_log
from fave.traffic.arrivals import Traffic, generate
from fave.traffic.traces import Trace, format_of, recognised, replay

pytestmark = pytest.mark.unit

COMMON = '10.0.0.1 - bob [24/Nov/2026:10:00:0{s} +0000] "GET {path} HTTP/1.1" 200 512'


def trace(path, **more):
    return Trace(file=str(path), format=format_of(path), **more)


def times(path, duration_s=1000, **more):
    return list(replay(trace(path, **more), duration_s, random.Random(1).random))


def written(tmp_path, *lines, name="access.log"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_whole_seconds_are_spread_within_their_second_and_that_is_said(tmp_path):
    path = written(tmp_path, *(COMMON.format(s=s, path="/a") for s in (3, 1, 1, 5)))
    assert recognised(trace(path)) == (
        "log, access log (Common or Combined Log Format), no durations: an arrival is the stamp, "
        "whole seconds, spread uniformly"
    )
    found = times(path)
    assert found == sorted(found)
    assert found[0] == 0
    assert all(2 * k - 1 <= at <= 2 * k + 1 for k, at in zip((0, 1, 2), found[1:], strict=True))
    assert len({at % 1 for at in found[1:]}) == 3


def test_an_arrival_is_the_stamp_less_the_duration_and_sorted(tmp_path):
    """A line is written when its request ends: the slow one came first."""
    path = written(
        tmp_path,
        COMMON.format(s=2, path="/quick") + ' "-" "curl" 0.500',
        COMMON.format(s=5, path="/slow") + ' "-" "curl" 4.000',
    )
    assert "an arrival is the stamp less the duration" in recognised(trace(path))
    first, second = (5 - 4, 2 - 0.5)
    found = times(path)
    assert found[0] == 0
    assert found[1] == pytest.approx(second - first, abs=1.0), "within the second that the stamp leaves open"


@pytest.mark.parametrize(
    ("lines", "said", "gaps"),
    [
        (['{"time": "2026-11-24T10:00:00.25Z", "path": "/a"}', '{"time": "2026-11-24T10:00:01.5Z", "path": "/a"}'],
         "field 'time' as a date", [0, 1.25]),
        (['{"ts": 1700000000123, "duration_ms": 123}', '{"ts": 1700000001100, "duration_ms": 100}'],
         "field 'ts' in milliseconds, durations from 'duration_ms'", [0, 1.0]),
        (['{"msec": "1700000000.500", "request_time": "-"}', '{"msec": "1700000002.500", "request_time": "0.5"}'],
         "field 'msec' in seconds, durations from 'request_time'", [0, 1.5]),
    ],
)  # fmt: skip
def test_json_lines_are_read_by_the_usual_names_of_their_fields(tmp_path, lines, said, gaps):
    path = written(tmp_path, *lines)
    assert said in recognised(trace(path))
    assert times(path) == pytest.approx(gaps)


def test_only_paths_that_are_asked_for_count(tmp_path):
    lines = [COMMON.format(s=s, path=path) for s, path in enumerate(("/api/a?x=1", "/static/b", "/api/c"))]
    assert len(times(written(tmp_path, *lines), functions=("/api",))) == 2
    with pytest.raises(ConfigError, match="no request of /none"):
        times(written(tmp_path, *lines), functions=("/none",))


def test_a_compressed_log_is_read_as_it_is(tmp_path):
    path = tmp_path / "access.log.gz"
    path.write_bytes(gzip.compress("\n".join(COMMON.format(s=s, path="/") for s in range(4)).encode()))
    assert recognised(trace(path)).endswith("gzip")
    assert len(times(path)) == 4


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ((COMMON.format(s=1, path="/"), "what is this?"), "access.log:2: is no line of an access log: 'what is this?'"),
        (('{"when": 1}',), "access.log:1: no field has a time"),
        (('{"ts": 1.5}', '{"ts": "late"}'), "access.log:2: its time or duration cannot be read"),
        (('{"ts": 1.5}', "{"), "access.log:2: is no JSON object"),
    ],
)
def test_what_is_no_log_is_told_with_its_line(tmp_path, lines, says):
    with pytest.raises(ConfigError) as caught:
        times(written(tmp_path, *lines))
    assert says in str(caught.value)


def test_of_a_long_recording_each_seed_replays_another_window_at_its_own_speed(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("timestamp\n" + "\n".join(str(k * k / 100) for k in range(1000)))
    traffic = Traffic(model="replay", trace=trace(path, anywhere=True), duration=Duration(60))
    one, again, other = (generate(traffic, seed) for seed in (1, 1, 2))
    assert one == again != other
    assert all(0 <= at < 60_000_000 for at in one)
    gaps = {round((b - a) / 1e6, 2) for a, b in itertools.pairwise(one)}
    assert all((gap * 100 - 1) % 2 == pytest.approx(0, abs=0.02) for gap in gaps), "the recording's own gaps"


@pytest.mark.parametrize(
    ("asked", "rest", "path", "took_s"),
    [
        ('GET /a?q=\\"x\\" HTTP/1.1', ' "-" "curl"', '/a?q=\\"x\\"', None),
        ("GET /a HTTP/1.1", ' "-" "Mozilla/4.0 (Windows NT 5.1) Opera 8.50"', "/a", None),
        ("GET /a HTTP/1.1", ' "-" "Opera 8.50" 0.250', "/a", 0.25),
        ("GET http://h/a HTTP/1.1", " 1.5", "/a", 1.5),
        ("-", "", "-", None),
    ],
)
def test_lines_as_servers_write_them(tmp_path, asked, rest, path, took_s):
    line = f'::1 - - [24/Nov/2026:10:00:01 +0000] "{asked}" 400 -{rest}'
    log = access_log.recognise(written(tmp_path, line))
    entry = log.entry(line, 1)
    assert entry.path == path
    assert math.isnan(entry.took_s) if took_s is None else entry.took_s == took_s


@pytest.mark.parametrize(
    ("line", "path", "took_s"),
    [
        ({"ts": 1.5, "request": {"uri": "/a"}, "upstream_response_time": ""}, "/a", None),
        ({"ts": 1.5, "url": "https://h/a", "upstream_response_time": "0.5, 0.25"}, "/a", 0.75),
    ],
)
def test_json_as_servers_write_it(tmp_path, line, path, took_s):
    entry = access_log.recognise(written(tmp_path, json.dumps(line))).entry(json.dumps(line), 1)
    assert entry.path == path
    assert math.isnan(entry.took_s) if took_s is None else entry.took_s == took_s


def test_a_window_is_not_empty_as_long_as_others_are_not(tmp_path):
    """A day that is busy for ten seconds at each end."""
    path = tmp_path / "t.csv"
    path.write_text("timestamp\n" + "\n".join(map(str, [*range(10), *range(86_390, 86_400)])))
    traffic = Traffic(model="replay", trace=trace(path, anywhere=True), duration=Duration(60))
    assert all(len(generate(traffic, seed)) for seed in range(3))
