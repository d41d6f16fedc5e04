"""Traces and schedules as spreadsheets, loggers and people write them: read and told, or refused with the line."""

import gzip
import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fave.errors import ConfigError
from fave.settings import Duration
from fave.traffic import arrivals, csv_file, traces
from fave.traffic.arrivals import Traffic, generate, read_csv, stream, take_share
from fave.traffic.traces import Trace, recognised

pytestmark = pytest.mark.unit

TIMES_S = [0.0, 0.25, 1.5, 7.0]


@pytest.fixture
def written(tmp_path):
    def write(content, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def of(path, form="timestamps", **more):
    return Trace(file=str(path), format=form, **more)


def times_s(trace, duration_s=86400):
    traffic = Traffic(model="replay", duration=Duration(duration_s), trace=trace)
    return [at_us / 1e6 for at_us in generate(traffic, 1)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("timestamp\n10\n10.25\n11.5\n17\n", "column 'timestamp' in seconds, one column"),
        ("Timestamp\n10\n10.25\n11.5\n17", "column 'Timestamp' in seconds, one column"),
        ("when\r\n10\r\n10.25\r\n11.5\r\n17\r\n", "column 'when' in seconds, one column"),
        ("\ntimestamp,x\n\n10,a\n10.25,b\n,\n11.5,c\n  ,\n17,d\n\n", "cells between commas"),
        ("timestamp;x\n10,0;a\n10,25;b\n11,5;c\n17;d\n", "cells between semicolons, decimal commas"),
        ("x\ttimestamp\na\t10\nb\t10,25\nc\t11,5\nd\t17\n", "cells between tabs, decimal commas"),
        ("timestamp\n10\n10,25\n11,5\n17,0\n", "one column, decimal commas"),
        ('"timestamp","x, y"\n"10","a, b"\n"10.25",""\n"11.5","c"\n"17",d\n', "cells between commas"),
        ("\ufefftimestamp;x\n10;a\n10.25;b\n11.5;c\n17;d\n", "cells between semicolons, byte-order mark"),
        ('\ufeff"timestamp";"x"\n10;a\n10.25;b\n11.5;c\n17;d\n', "byte-order mark"),
        (gzip.compress(b"timestamp\n10\n10.25\n11.5\n17\n", mtime=0), "one column, gzip"),
        ("timestamp_ms\n10000\n10250\n11500\n17000\n", "column 'timestamp_ms' in milliseconds"),
        ("x;timestamp_ms\n;0\n;250,0\n;1500\n;7000\n", "in milliseconds, cells between semicolons, decimal commas"),
        ("timestamp_us,x\n0,\n250000,\n1500000,\n7000000,\n", "in microseconds"),
        ("arrival_ns\n0\n250000000\n1500000000\n7000000000\n", "column 'arrival_ns' in nanoseconds"),
        ("timestamp_s\n1e1\n10.25\n1.15e1\n17.\n", "column 'timestamp_s' in seconds"),
        ("timestamp\n1732442400\n1732442400.25\n1732442401.5\n1732442407\n", "in seconds, one column"),
        ("timestamp\n1732442400000\n1732442400250\n1732442401500\n1732442407000\n", "in milliseconds (by their size)"),
        ("timestamp\n1732442400000000\n1732442400250000\n1732442401500000\n1732442407000000\n", "microseconds (by "),
        ("t\n1732442400000000000\n1732442400250000000\n1732442401500000000\n1732442407000000000\n", "nanoseconds (by "),
        ("timestamp\n2024-11-24T10:00:00Z\n2024-11-24T10:00:00.25Z\n2024-11-24T10:00:01.5Z\n2024-11-24T12:00:07+02:00\n",
         "column 'timestamp' ISO 8601 with a zone"),
        ("timestamp;x\n2024-11-24 10:00:00,000;\n2024-11-24 10:00:00,25;\n"
         "2024-11-24 10:00:01,5;\n2024-11-24 10:00:07;\n",
         "ISO 8601 without a zone, taken as UTC"),
        ("timestamp\n2024-10-27T02:59:59.5+02:00\n2024-10-27T02:59:59.75+02:00\n2024-10-27T02:00:01+01:00\n"
         "2024-10-27T02:00:06.5+01:00\n", "ISO 8601 with a zone"),
    ],
)  # fmt: skip
def test_timestamps_are_read_as_they_are_written_and_it_is_told(written, content, said):
    trace = of(written(content))
    assert times_s(trace) == pytest.approx(TIMES_S, abs=2e-6)
    assert said in recognised(trace)


def test_the_azure_formats_are_read_from_a_spreadsheet_too(written):
    minutes = ";".join(map(str, range(1, 1441)))
    counts = ";".join(["2", *["0"] * 1438, " 3 "])
    path = written(
        gzip.compress(
            f"\ufeffHashOwner;HashApp;HashFunction;Trigger;{minutes}\r\no;a;f;http;{counts}\r\n".encode(), mtime=0
        )
    )
    trace = of(path, "azure2019", within_minute="even")
    assert times_s(trace, 86400)[:2] == [15.0, 45.0]
    assert len(times_s(trace)) == 5
    assert recognised(trace) == "azure2019, cells between semicolons, gzip, byte-order mark"
    path = written("app;func;end_timestamp;duration\na;f;1,5;0,5\na;f;10;0,25\n")
    assert times_s(of(path, "azure2021")) == [1.0, 9.75]
    assert recognised(of(path, "azure2021")) == "azure2021, cells between semicolons, decimal commas, times in seconds"


MINUTES = ",".join(map(str, range(1, 1441)))
HEADER_2019 = f"HashOwner,HashApp,HashFunction,Trigger,{MINUTES}\n"


@pytest.mark.parametrize("count", ["²", "\u0663", "\uff11", "1.0", "-1", "+1", "1e3", "", "1_0", "9" * 5000])
def test_a_count_has_the_digits_0_to_9_alone(written, count):
    path = written(f"{HEADER_2019}o,a,f,http,{','.join(['0', count, *['0'] * 1438])}\n")
    with pytest.raises(ConfigError, match=r"t\.csv:2: minute 2: .* is not a count \(digits 0 to 9\)"):
        times_s(of(path, "azure2019"))


@pytest.mark.parametrize(
    "number", ["²", "\u0663", "\uff11", "1_000", "nan", "inf", "-1", "1e999", "0x1", "--1", "1,5", '"1,000"']
)
def test_a_number_has_the_digits_0_to_9_alone(written, number):
    for content in (f"timestamp,x\n0,\n{number},\n", f"app,func,end_timestamp,duration\na,f,3,1\na,f,{number},0\n"):
        path = written(content)
        with pytest.raises(ConfigError, match=r"t\.csv:3: "):
            times_s(of(path, "timestamps" if content.startswith("t") else "azure2021"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"t\.csv: is empty\n  hint: a CSV file begins with the names"),
        (b"\n\n", "is empty"),
        ("timestamp\n1\n".encode("utf-16"), r"t\.csv:1: is UTF-16\n  hint: save it as CSV in UTF-8"),
        ("timestamp\n1\n".encode("utf-16-le"), "holds a NUL byte"),
        (b"timestamp,x\n1,\xe4\n2,\n", r"t\.csv:2: byte 0xe4 is not UTF-8 \(is it Latin-1\?\)\n  hint: save it"),
        (b"timestamp\r1\r2\r", r"t\.csv:1: a carriage return within the line\n  hint: end lines with LF or CRLF"),
        (b"timestamp\n1\n\0\n", r"t\.csv:3: holds a NUL byte"),
        (b"timestamp\n" + b"1" * (2**20 + 2**16), r"t\.csv:2: is longer than 1048576 bytes"),
        (b'timestamp,x\n1,"a\n2,b\n', r"t\.csv:\d+: unexpected end of data"),
        (b'timestamp,x\n1,"a"b\n', r"t\.csv:2: "),
        (b"timestamp,x\n1,a\n2\n", r"t\.csv:3: 1 cells instead of 2"),
        (b"timestamp,x\n1,5,a\n", r"t\.csv:2: 3 cells instead of 2"),
        (b"timestamp;x\n1.5;a\n2,5;b\n", r"t\.csv:2: timestamp '1\.5' .*\n  hint: decimals have a comma"),
        (b"timestamp;x\n1.234,5;a\n", r"t\.csv:2: timestamp '1\.234,5'"),
        (b"timestamp\n1\n2024-11-24T10:00:00Z\n", r"t\.csv:3: timestamp '2024"),
        (b"timestamp\n2024-11-24T10:00:00Z\n17\n", r"t\.csv:3: '17' is no time like 2024"),
        (b"timestamp\n2024-11-24T10:00:00Z\n2024-11-24T10:00:01\n", r"t\.csv:3: .* has no zone, unlike the first row"),
        (b"timestamp\n2024-11-24T10:00:00\n2024-11-24T10:00:01Z\n", r"t\.csv:3: .* has a zone, unlike the first row"),
        (b"timestamp\n2024-11-24T10:00:00Z\n2024-11-24T10:60:01Z\n", r"t\.csv:3: .* is no time like"),
        (b"timestamp\n2024-11-24T10:00:01Z\n2024-11-24T10:00:00Z\n", "timestamps must ascend"),
        (b"2024-11-24T10:00:00Z\n2024-11-24T10:00:01Z\n", "is no header"),
        (b"1,5\n2,5\n", r"no column timestamp|is no header"),
        (b"timestamp,timestamp\n1,2\n", "column timestamp is there more than once"),
        (b"timestamp_ms,timestamp_us\n1,2\n", "which of these columns"),
        (b"timestamp|x\n1|2\n", r"t\.csv:2: "),
        (gzip.compress(b"timestamp\n" + b"1\n" * 100_000, mtime=0)[:-20], "cannot be read"),
        (gzip.compress(b"timestamp\n1\n", mtime=0)[:-3] + b"abc", "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_apart_is_refused_with_line_and_remedy(written, content, said):
    with pytest.raises(ConfigError, match=said):
        times_s(of(written(content)))


def test_a_decimal_comma_that_comes_late_is_refused_and_not_misread(written):
    """Beyond the rows that were looked at nothing new may come."""
    rows = "".join(f"{k};x\n" for k in range(csv_file.LOOKED_AT + 10))
    with pytest.raises(ConfigError, match=r"t\.csv:112: timestamp '200,5'.*\n  hint: decimals have a point"):
        times_s(of(written(f"timestamp;x\n{rows}200,5;x\n")))


def test_a_folder_and_a_file_that_is_not_there_are_named(tmp_path):
    for path in (tmp_path, tmp_path / "absent.csv", tmp_path / "nul\0.csv"):
        with pytest.raises(ConfigError, match="cannot be read"):
            recognised(of(path))
    with pytest.raises(ConfigError, match="holds a NUL byte"):
        recognised(of("/dev/zero"))


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=30).map(sorted),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_however_it_is_written_the_schedule_is_the_same(
    tmp_path_factory, times_ms, separator, end, mark, packed, quoted
):
    quote = '"' if quoted else ""
    point = "." if separator == "," else ","
    rows = [f"{ms // 1000}{point}{ms % 1000:03}" for ms in times_ms]
    lines = [
        separator.join(f"{quote}{cell}{quote}" for cell in row)
        for row in [("timestamp", "x"), *((r, "y") for r in rows)]
    ]
    content = (b"\xef\xbb\xbf" if mark else b"") + end.join([*lines, ""]).encode()
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    found = list(traces.replay(of(path), float("inf"), lambda: 0.5))
    assert found == pytest.approx([(ms - times_ms[0]) / 1000 for ms in times_ms], abs=1e-6)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_long_trace_is_streamed(tmp_path, packed):
    path = tmp_path / "t.csv"
    with gzip.open(path, "wt", compresslevel=1) if packed else path.open("w") as file:
        file.write("timestamp;x\n")
        file.writelines(f"{k},5;abcdefgh\n" for k in range(60_000))
    traffic = Traffic(model="replay", duration=Duration(10**6), trace=of(path))
    tracemalloc.start()
    count = sum(1 for _ in stream(traffic, 1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 800_000  # sixty thousand floats alone would be more


@pytest.mark.parametrize(
    "content",
    [
        "k,at_us\n0,0\n1,250000\n2,250000\n",
        "\ufeffk;at_us\r\n0;0\r\n1;250000\r\n\r\n2;250000\r\n",
        '"at_us"\t"k"\n0\t0\n250000\t1\n250000\t2\n',
        gzip.compress(b"k,at_us\n0,0\n1,250000\n2,250000\n", mtime=0),
    ],
)
def test_a_schedule_may_come_from_a_spreadsheet(written, content):
    assert list(read_csv(written(content))) == [0, 250_000, 250_000]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("0,0\n1,5\n", "no column k, at_us"),
        ("k,at_us\n0,²\n", r"t\.csv:2: k '0', at_us '²' is not arrival 0"),
        ("k,at_us\n0,\u0663\n", r"t\.csv:2: "),
        ("k,at_us\n\u0660,3\n", r"t\.csv:2: "),
        ("k,at_us\n0,1.5\n", r"t\.csv:2: "),
        ("k,at_us\n0,1\n2,5\n", r"t\.csv:3: k '2', at_us '5' is not arrival 1"),
        ("k,at_us\n0," + "9" * 5000, r"t\.csv:2: "),
        ("", "is empty"),
    ],
)
def test_a_schedule_that_is_none_is_refused_with_its_line(written, content, said):
    with pytest.raises(ConfigError, match=said):
        list(read_csv(written(content)))


def test_more_arrivals_than_a_run_may_have_are_refused_wherever_they_come_from(written, monkeypatch):
    """With a smaller limit, so that the test need not make ten million."""
    monkeypatch.setattr(arrivals, "MOST_ARRIVALS", 100)
    path = written("timestamp\n" + "".join(f"{k}\n" for k in range(101)))
    said = r"more than 100 arrivals in its first 100\.0 s"
    with pytest.raises(ConfigError, match=said):
        times_s(of(path))
    assert len(times_s(of(path), duration_s=100)) == 100
    schedule = written("k,at_us\n" + "".join(f"{k},{k * 10**6}\n" for k in range(101)))
    with pytest.raises(ConfigError, match=said):
        take_share(read_csv(schedule), 0, 1)
    with pytest.raises(ConfigError, match="more than 100 arrivals"):
        take_share(itertools.repeat(7), 1, 4)


def test_minutes_with_more_arrivals_than_a_run_may_have_are_refused_before_they_are_drawn(written):
    row = ",".join(["5000000", "5000001", *["0"] * 1438])
    path = written(f"{HEADER_2019}o,a,f,http,{row}\n")
    with pytest.raises(ConfigError, match=r"10,000,001 arrivals in the run, up to 5,000,001 in a minute"):
        times_s(of(path, "azure2019"))
    bomb = written(f"{HEADER_2019}o,a,f,http,{','.join(['9' * 15] * 1440)}\n", "bomb.csv")
    for more in ({}, {"keep": 1e-14}):
        with pytest.raises(ConfigError, match="arrivals in the run"):
            times_s(of(bomb, "azure2019", **more), duration_s=1)
