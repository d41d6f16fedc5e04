"""Distributions of the gap between two arrivals, scaled to mean 1, drawn from a stream of uniforms alone.

`random.Random.random()` is stable across Python versions and machines, `gammavariate` and the like need not be: so the
transformations stand here. Formulas: inverse transforms; gamma by Marsaglia and Tsang (TOMS 26(3), 2000); normals by
Box and Muller (1958); hyperexponential with balanced means (Allen, 1990).
"""

from __future__ import annotations

import math
from collections.abc import Callable

Draw = Callable[[], float]
Sampler = Callable[[Draw], float]
_WEIBULL_SHAPES = (0.1, 50.0)


def exponential(draw: Draw) -> float:
    return -math.log1p(-draw())


def gamma(cv: float) -> Sampler:
    """Gamma with shape 1 / cv²."""
    shape = 1 / cv**2
    # Marsaglia and Tsang's method wants a shape of at least 1; U^(1/shape) brings a larger one down by 1.
    d = (shape if shape >= 1 else shape + 1) - 1 / 3
    c = 1 / math.sqrt(9 * d)

    def sample(draw: Draw) -> float:
        while True:
            x = _normal(draw)
            v = (1 + c * x) ** 3
            if v > 0 and math.log1p(-draw()) < 0.5 * x * x + d - d * v + d * math.log(v):
                break
        boost = 1.0 if shape >= 1 else (1 - draw()) ** (1 / shape)
        return d * v * boost / shape

    return sample


def lognormal(cv: float) -> Sampler:
    """Lognormal with sigma² = ln(1 + cv²), mu = -sigma² / 2."""
    variance = math.log1p(cv**2)
    sigma = math.sqrt(variance)
    return lambda draw: math.exp(sigma * _normal(draw) - variance / 2)


def weibull_shape(cv: float) -> float:
    """The k for which Gamma(1 + 2/k) / Gamma(1 + 1/k)² = 1 + cv², by bisection."""
    low, high = _WEIBULL_SHAPES
    for _ in range(100):
        middle = (low + high) / 2
        ratio = math.lgamma(1 + 2 / middle) - 2 * math.lgamma(1 + 1 / middle)
        low, high = (middle, high) if ratio > math.log1p(cv**2) else (low, middle)
    return (low + high) / 2


def weibull(cv: float) -> Sampler:
    shape = weibull_shape(cv)
    mean = math.gamma(1 + 1 / shape)
    return lambda draw: exponential(draw) ** (1 / shape) / mean


def hyperexponential_branches(cv: float) -> tuple[float, float, float]:
    """p, rate1, rate2 of two exponential branches with balanced means p / rate1 = (1 - p) / rate2 = 1/2; cv over 1."""
    p = (1 + math.sqrt((cv**2 - 1) / (cv**2 + 1))) / 2
    return p, 2 * p, 2 * (1 - p)


def hyperexponential(cv: float) -> Sampler:
    p, rate1, rate2 = hyperexponential_branches(cv)

    def sample(draw: Draw) -> float:
        rate = rate1 if draw() < p else rate2
        return exponential(draw) / rate

    return sample


def _normal(draw: Draw) -> float:
    radius = math.sqrt(-2 * math.log1p(-draw()))
    return radius * math.cos(2 * math.pi * draw())


# By model: how a sampler is made, and the coefficients of variation it can have.
RENEWAL: dict[str, tuple[Callable[[float], Sampler], float, float]] = {
    "gamma": (gamma, 0.01, 10.0),
    "lognormal": (lognormal, 0.01, 20.0),
    "weibull": (weibull, 0.05, 20.0),
    "hyperexponential": (hyperexponential, 1.0, 20.0),
}
