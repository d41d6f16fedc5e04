"""Schedules: the right distributions, the same everywhere, one arrival at a time, each to exactly one process."""

import statistics
import tracemalloc
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fave.errors import ConfigError
from fave.settings import Duration
from fave.traffic import gaps, loads
from fave.traffic.arrivals import (
    Modulation,
    Traffic,
    generate,
    read_csv,
    seed_for,
    sha256,
    stream,
    take_share,
    write_csv,
)
from fave.traffic.loads import traffic_of

pytestmark = pytest.mark.unit

N = 4000
LONG = Duration(400)
POISSON = Traffic(model="poisson", requests=N, duration=LONG)
BURSTS = Traffic(model="bursts", requests=20, duration=Duration(12), bursts=4, burst_length=Duration(1))
ON_OFF = Traffic(model="on-off", requests=N, duration=LONG, on_mean=Duration(2), off_mean=Duration(8))


def renewal(model, cv):
    return Traffic(model=model, cv=cv, requests=N, duration=LONG)


def gaps_of(schedule):
    """In units of the mean gap that was asked for."""
    return [(b - a) / 1e6 * N / LONG for a, b in pairwise(schedule)]


def dispersion(schedule, window_s):
    """Variance over mean of the counts in windows: 1 for a Poisson process."""
    counts = [0] * int(LONG / window_s)
    for at_us in schedule:
        counts[int(at_us / 1e6 / window_s)] += 1
    return statistics.pvariance(counts) / statistics.fmean(counts)


def cdf_of(model, cv):
    """The same laws by scipy's hand."""
    if model == "gamma":
        return stats.gamma(1 / cv**2, scale=cv**2).cdf
    if model == "lognormal":
        sigma = statistics.math.sqrt(statistics.math.log(1 + cv**2))
        return stats.lognorm(sigma, scale=statistics.math.exp(-(sigma**2) / 2)).cdf
    if model == "weibull":
        k = gaps.weibull_shape(cv)
        return stats.weibull_min(k, scale=1 / statistics.math.gamma(1 + 1 / k)).cdf
    p, rate1, rate2 = gaps.hyperexponential_branches(cv)
    one, two = stats.expon(scale=1 / rate1).cdf, stats.expon(scale=1 / rate2).cdf
    return lambda x: p * one(x) + (1 - p) * two(x)


GOLDEN = {
    "steady": "890a3c4e153c0ac3",
    "paced": "301a0d2752afc514",
    "moderate": "8ebcc315cbdaf478",
    "bursty": "d202e2f28d704817",
    "on-off": "80c4a90ab6b7d444",
    "heavy-tail": "f72abcc455cc4b75",
}


@pytest.mark.parametrize(("load", "digest"), sorted(GOLDEN.items()))
def test_the_same_seed_gives_the_same_schedule_everywhere(load, digest):
    """Golden digests, whatever the machine: if one changes, published schedules become irreproducible."""
    traffic = traffic_of(load, rate_per_s=20, duration=Duration(100))
    assert sha256(stream(traffic, seed_for(1, load, 0)))[:16] == digest


def test_another_block_or_load_has_another_schedule():
    assert len({sha256(stream(POISSON, seed_for(*key))) for key in ((1, "a", 0), (1, "a", 1), (1, "b", 0))}) == 3


def test_poisson_gaps_are_exponential_and_counts_are_not_dispersed():
    schedule = generate(POISSON, 7)
    assert len(schedule) == N
    assert stats.kstest(gaps_of(schedule), "expon").pvalue > 0.01
    assert stats.kstest([at_us / 1e6 / LONG for at_us in schedule], "uniform").pvalue > 0.01
    assert 0.8 < dispersion(schedule, 1) < 1.2


def test_paced_arrivals_are_evenly_spaced_from_zero():
    assert generate(Traffic(model="paced", requests=4, duration=Duration(8)), 1) == (0, 2_000_000, 4_000_000, 6_000_000)
    paced = generate(Traffic(model="paced", requests=N, duration=LONG), 1)
    assert max(abs(gap - 1) for gap in gaps_of(paced)) < 2e-5
    assert dispersion(paced, 1) == 0


@pytest.mark.parametrize("model", sorted(gaps.RENEWAL))
@pytest.mark.parametrize("cv", [1.7, 4.0])
def test_gaps_have_the_law_that_was_asked_for(model, cv):
    schedule = generate(renewal(model, cv), 11)
    # Schedules have microseconds, and a gamma law of this spread has two gaps in five below that: what lies above ten.
    least, cdf = 10.5e-6 * N / LONG, cdf_of(model, cv)
    above = [gap for gap in gaps_of(schedule) if gap > least]
    assert stats.kstest(above, lambda x: (cdf(x) - cdf(least)) / (1 - cdf(least))).pvalue > 0.01
    assert len(above) / len(schedule) == pytest.approx(1 - cdf(least), abs=0.03)
    # Over long windows the dispersion of a renewal process' counts tends to cv².
    assert 0.4 * cv**2 < dispersion(schedule, 20) < 2 * cv**2


@pytest.mark.parametrize(("model", "cv"), [("gamma", 0.5), ("weibull", 0.5), ("lognormal", 0.5)])
def test_gaps_can_also_vary_less_than_a_poisson_process(model, cv):
    schedule = generate(renewal(model, cv), 5)
    assert stats.kstest(gaps_of(schedule), cdf_of(model, cv)).pvalue > 0.01
    assert dispersion(schedule, 5) < 0.6


@pytest.mark.parametrize(
    ("cv", "shape", "k", "sigma", "p"),
    [(1.7, 0.346, 0.617, 1.166, 0.8485), (2.9, 0.119, 0.42, 1.497, 0.9437), (4, 0.0625, 0.349, 1.683, 0.9697)],
)
def test_parameters_are_those_of_the_methodology(cv, shape, k, sigma, p):
    assert 1 / cv**2 == pytest.approx(shape, abs=5e-4)
    assert gaps.weibull_shape(cv) == pytest.approx(k, abs=5e-4)
    assert statistics.math.sqrt(statistics.math.log(1 + cv**2)) == pytest.approx(sigma, abs=5e-4)
    assert gaps.hyperexponential_branches(cv) == pytest.approx((p, 2 * p, 2 - 2 * p), abs=2e-4)


@pytest.mark.parametrize("model", sorted(gaps.RENEWAL))
def test_a_renewal_process_starts_in_equilibrium(model):
    """One that began with a gap of its own would have (cv² - 1) / 2 = 7.5 arrivals too many."""
    traffic = Traffic(model=model, cv=4.0, requests=20, duration=Duration(20))
    mean = statistics.fmean(len(generate(traffic, seed)) for seed in range(400))
    assert 16 < mean < 24


def test_on_off_traffic_comes_in_clusters_with_silence_between():
    schedule = generate(ON_OFF, 3)
    assert dispersion(schedule, 5) > 10
    silences = [gap for gap in gaps_of(schedule) if gap > 20]
    assert len(silences) > 20
    # Within a burst it is a Poisson process of five times the mean rate: the gaps below a silence are exponential.
    within = [gap for gap in gaps_of(schedule) if gap < 2]
    assert stats.kstest(within, stats.truncexpon(b=2 * 5, scale=1 / 5).cdf).pvalue > 0.01


def test_a_modulated_poisson_process_also_arrives_while_off():
    traffic = Traffic(
        model="on-off", requests=N, duration=LONG, on_mean=Duration(5), off_mean=Duration(5), off_share=0.25
    )
    counts = [len(generate(traffic, seed)) for seed in range(20)]
    assert statistics.fmean(counts) == pytest.approx(N, rel=0.1)
    assert max(gaps_of(generate(traffic, 1))) < 60


def test_bursts_stay_within_their_windows_and_share_the_requests():
    schedule = generate(BURSTS, 3)
    windows = [int(t / 1e6 // 3) for t in schedule]
    assert all(t / 1e6 % 3 < 1 for t in schedule)
    assert [windows.count(i) for i in range(4)] == [5, 5, 5, 5]


def test_a_ramp_and_a_wave_change_the_rate_and_keep_the_number():
    ramp = Traffic(model="poisson", requests=N, duration=LONG, modulation=Modulation(shape="ramp", start=0.2))
    schedule = generate(ramp, 1)
    assert len(schedule) == N
    # Half of the time has the mean of 0.2 and 1: 0.6 of half of the arrivals.
    assert sum(at_us < 200e6 for at_us in schedule) == pytest.approx(0.3 * N, rel=0.1)
    wave = Modulation(shape="sinusoidal", amplitude=0.9, period=Duration(100))
    schedule = generate(Traffic(model="poisson", requests=N, duration=LONG, modulation=wave), 1)
    assert len(schedule) == N
    by_quarter = [sum(at_us % 100e6 // 25e6 == quarter for at_us in schedule) / N for quarter in range(4)]
    high, low = 0.25 + 0.9 / 3.1416 / 2, 0.25 - 0.9 / 3.1416 / 2
    assert by_quarter == pytest.approx([high, high, low, low], abs=0.02)
    # On its own clock it is still the process it was.
    operational = [wave.elapsed(at_us / 1e6, LONG) for at_us in schedule]
    assert stats.kstest([time_s / LONG for time_s in operational], "uniform").pvalue > 0.01


@pytest.mark.parametrize("load", sorted(set(loads.NAMES) - {"replay"}))
def test_generation_streams(load):
    """The first arrivals of ten million come at once, and in next to no memory."""
    traffic = traffic_of(load, rate_per_s=1000, duration=Duration(10_000))
    tracemalloc.start()
    first = list(islice(stream(traffic, 1), 1000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert first == sorted(first)
    assert peak < 1_000_000


@given(st.integers(1, 300), st.integers(1, 7), st.integers(0, 2**32))
def test_every_arrival_goes_to_exactly_one_process(requests, slots, seed):
    schedule = generate(Traffic(model="poisson", requests=requests, duration=Duration(10)), seed)
    assert list(schedule) == sorted(schedule)
    shares = [take_share(iter(schedule), slot, slots) for slot in range(slots)]
    found = sorted((part.k_of(i), at_us) for part in shares for i, at_us in enumerate(part.at_us))
    assert found == list(enumerate(schedule))
    assert {(part.total, part.sha256) for part in shares} == {(requests, sha256(schedule))}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"requests": 0}, "requests: 0"),
        ({"duration": Duration(0)}, "duration: must be longer"),
        ({"model": "bursts"}, "bursts: model 'bursts' needs"),
        ({"duration": Duration(4), "model": "bursts", "bursts": 4, "burst_length": Duration(2)}, "burst_length: must"),
        ({"cv": 2.0}, "cv: only for model"),
        ({"model": "gamma", "cv": 0.0}, "cv: 0 must be over"),
        ({"model": "hyperexponential", "cv": 1.0}, "cv: 1 must be over 1"),
        ({"model": "on-off"}, "on_mean, off_mean"),
        ({"on_mean": Duration(1)}, "on_mean, off_mean, off_share: only for"),
        ({"model": "replay"}, "trace: model 'replay' needs one"),
        ({"model": "replay", "requests": 1}, "requests: the trace says"),
    ],
)
def test_traffic_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Traffic(
            **{"model": "poisson", "requests": 1 if wrong.get("model") != "replay" else 0, "duration": Duration(9)}
            | wrong
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": "sinusoidal"},
        {"shape": "sinusoidal", "period": Duration(5), "amplitude": 1.5},
        {"shape": "ramp"},
        {"shape": "ramp", "start": 3},
        {"shape": "ramp", "start": 0.5, "amplitude": 0.5},
        {"shape": "sinusoidal", "period": Duration(5), "amplitude": 0.5, "start": 0.5},
    ],
)
def test_a_modulation_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"period|amplitude|start"):
        Modulation(**wrong)


@pytest.mark.parametrize(
    ("load", "more", "message"),
    [
        ("stedy", {}, "did you mean 'steady'"),
        ("steady", {"rate_per_s": 0}, "rate 0/s must be over 0"),
        ("steady", {"rate_per_s": float("nan")}, "rate nan/s"),
        ("steady", {"rate_per_s": 1e6, "duration": Duration(10.1)}, r"rate 1e\+06/s over 10\.1s: 10,100,000 arrivals"),
        ("bursty", {"rate_per_s": float("inf")}, r"over 10\^18 arrivals; a run may have 10,000,000: lower the rate"),
        ("on-off", {"rate_per_s": 1e300, "duration": Duration(1e8)}, r"over 10\^18 arrivals"),
        ("steady", {"cv": 2.0}, "cv 2: only for the loads"),
        ("replay", {}, "trace: model 'replay' needs one"),
    ],
)
def test_a_load_that_cannot_be_is_refused(load, more, message):
    with pytest.raises(ConfigError, match=message):
        traffic_of(load, **{"rate_per_s": 1.0, "duration": Duration(10)} | more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"requests": 10_000_001}, "requests: 10,000,001 arrivals; a run may have 10,000,000: lower the rate"),
        ({"requests": 10**400}, "a run may have 10,000,000"),
        ({"rate_per_s": 1_000_001.0}, r"rate_per_s: 1e\+06 for 10s: 10,000,010 arrivals; a run may have 10,000,000"),
        ({"rate_per_s": float("inf")}, r"over 10\^18 arrivals"),
        ({"rate_per_s": float("nan")}, "no rate that could be sent"),
        ({"rate_per_s": -1.0}, "no rate that could be sent"),
        ({"model": "bursts", "requests": 10, "bursts": 10**9, "burst_length": Duration(1e-9)}, "at most 10,000,000"),
        ({"model": "on-off", "requests": 1, "on_mean": Duration(1e-9), "off_mean": Duration(1e-9)}, "too short to"),
    ],
)  # fmt: skip
def test_more_arrivals_than_a_run_may_have_are_refused_with_their_number(more, message):
    with pytest.raises(ValueError, match=message):
        Traffic(**{"model": "poisson", "duration": Duration(10)} | more)


def test_ten_million_arrivals_are_a_run():
    assert Traffic(model="paced", duration=Duration(10_000), rate_per_s=1000.0).requests == 10_000_000


def test_a_schedule_survives_its_file(tmp_path):
    schedule = generate(BURSTS, 3)
    write_csv(tmp_path / "s.csv", schedule)
    assert tuple(read_csv(tmp_path / "s.csv")) == schedule


@pytest.mark.parametrize("lines", ["0,5\n1,4\n", "0,5\n2,6\n", "0,-1\n", "0\n", "0,x\n"])
def test_a_malformed_schedule_is_refused_with_its_line(tmp_path, lines):
    path = tmp_path / "s.csv"
    path.write_text("k,at_us\n" + lines, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"s\.csv:[23]"):
        list(read_csv(path))
