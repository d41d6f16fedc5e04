from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fave.arrivals import Traffic, generate, read_csv, seed_for, sha256, share, write_csv
from fave.errors import ConfigError
from fave.settings import Duration

pytestmark = pytest.mark.unit

POISSON = Traffic(model="poisson", requests=2000, duration=Duration(100))
BURSTS = Traffic(model="bursts", requests=20, duration=Duration(12), bursts=4, burst_length=Duration(1))


def test_the_same_seed_gives_the_same_schedule_everywhere():
    """A golden digest: if it changes, every published schedule becomes irreproducible."""
    schedule = generate(POISSON, seed_for(1, "steady", 0))
    assert schedule == generate(POISSON, seed_for(1, "steady", 0))
    assert sha256(schedule) == "02cf92fb0be099c6f2e635eb34e8696b26fb1e95cc7591dbbc49040c9e6e2f74"
    assert schedule != generate(POISSON, seed_for(1, "steady", 1))


def test_poisson_gaps_are_exponential_and_counts_are_not_dispersed():
    schedule = generate(POISSON, 7)
    gaps = [(b - a) / 1e6 for a, b in pairwise(schedule)]
    assert stats.kstest(gaps, "expon", args=(0, 100 / 2000)).pvalue > 0.01
    counts = [sum(1 for t in schedule if second <= t / 1e6 < second + 1) for second in range(100)]
    index_of_dispersion = stats.tvar(counts) / stats.tmean(counts)
    assert 0.7 < index_of_dispersion < 1.3


def test_paced_arrivals_are_evenly_spaced_from_zero():
    assert generate(Traffic(model="paced", requests=4, duration=Duration(8)), 1) == (0, 2_000_000, 4_000_000, 6_000_000)


def test_bursts_stay_within_their_windows_and_share_the_requests():
    schedule = generate(BURSTS, 3)
    windows = [int(t / 1e6 // 3) for t in schedule]
    assert all(t / 1e6 % 3 < 1 for t in schedule)
    assert [windows.count(i) for i in range(4)] == [5, 5, 5, 5]


@given(st.integers(1, 300), st.integers(1, 7), st.integers(0, 2**32))
def test_every_arrival_goes_to_exactly_one_process(requests, slots, seed):
    schedule = generate(Traffic(model="poisson", requests=requests, duration=Duration(10)), seed)
    assert list(schedule) == sorted(schedule)
    shares = [share(schedule, slot, slots) for slot in range(slots)]
    assert sorted(k for part in shares for k, _ in part) == list(range(requests))


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests": 0, "duration": Duration(1)},
        {"requests": 1, "duration": Duration(0)},
        {"requests": 1, "duration": Duration(1), "model": "bursts"},
        {"requests": 1, "duration": Duration(4), "model": "bursts", "bursts": 4, "burst_length": Duration(2)},
    ],
)
def test_traffic_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"requests|duration|burst"):
        Traffic(**{"model": "poisson", **wrong})


def test_a_schedule_survives_its_file(tmp_path):
    schedule = generate(BURSTS, 3)
    write_csv(tmp_path / "s.csv", schedule)
    assert read_csv(tmp_path / "s.csv") == schedule


@pytest.mark.parametrize("lines", ["0,5\n1,4\n", "0,5\n2,6\n", "0,-1\n", "0\n", "0,x\n"])
def test_a_malformed_schedule_is_refused_with_its_line(tmp_path, lines):
    path = tmp_path / "s.csv"
    path.write_text("k,at_us\n" + lines, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"s\.csv:[23]"):
        read_csv(path)
