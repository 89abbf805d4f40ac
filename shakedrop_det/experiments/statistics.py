"""Means over seeds, and their confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
POWER = 0.8

_ROUNDING = 1e-9
"""Part of their size by which equal values may differ."""

_RESIDUE = 1e-12
"""What rounding may leave of 0, where numbers of up to some thousands are subtracted."""


@dataclass(frozen=True)
class Estimate:
    """A mean over independent runs, with its 95 % confidence interval.

    Attributes:
        mean: mean in the unit of the values; NaN without values.
        low, high: ends of the interval; NaN with fewer than two values.
        count: number of values.
        p_value: p-value of the two-sided t-test of the hypothesis that the expectation is 0, or
            another value that :func:`estimate_mean` was given; NaN if there is no interval. If all
            values are equal up to rounding, it is that of the sign test.
        detectable: smallest distance from that value that this test detects with 80 % power, given
            this number of values and their spread; NaN if there is no interval.
    """

    mean: float
    low: float
    high: float
    count: int
    p_value: float = math.nan
    detectable: float = math.nan

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def is_shown_with_interval(self) -> bool:
        """Whether there are three values or more. The interval of two extends to six times their
        distance on each side, so it says less than the values."""
        return self.count >= 3

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval. An interval without width excludes nothing: equal
        values, such as rounded accuracies, do not tell how much values spread."""
        return self.low < self.high and (self.low > 0 or self.high < 0)


def estimate_mean(values: Sequence[float], *, expected: float = 0.0) -> Estimate:
    """Estimate the expectation by the mean, with Student's 95 % confidence interval.

    The interval and the p-value are exact for independent, normally distributed values. Equal
    values are not of such a distribution, but rounded, like accuracies on a few images. Then the
    p-value is that of the sign test, which assumes no distribution: ``2 / 2**len(values)``. Their
    interval has no width, and values that differ from ``expected`` by rounding alone count as it.

    Args:
        values: one value per run.
        expected: expectation according to the hypothesis to test.
    """
    if len(values) < 2:
        return Estimate(values[0] if values else math.nan, math.nan, math.nan, len(values))
    mean = float(np.mean(values))
    if _are_equal(values):
        p_value = _equal_p_value(mean, len(values), expected)
        return Estimate(mean, mean, mean, len(values), p_value, detectable=0.0)
    test = stats.ttest_1samp(values, popmean=expected)
    interval = test.confidence_interval(CONFIDENCE)
    return Estimate(
        mean=mean,
        low=float(interval.low),
        high=float(interval.high),
        count=len(values),
        p_value=float(test.pvalue),
        detectable=detectable_mean(float(np.std(values, ddof=1)), len(values)),
    )


def _are_equal(values: Sequence[float]) -> bool:
    return bool(np.ptp(values) <= max(_ROUNDING * np.max(np.abs(values)), _RESIDUE))


def _equal_p_value(value: float, count: int, expected: float) -> float:
    """Return the p-value of the sign test of equal values; those as expected do not count."""
    as_expected = math.isclose(value, expected, rel_tol=_ROUNDING, abs_tol=_RESIDUE)
    return 1.0 if as_expected else 2.0 ** (1 - count)


def student_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Student's 95 % confidence intervals of several expectations.

    Args:
        values: values of shape (count, N), with count at least 2.

    Returns:
        tuple: two arrays of shape (N,).
    """
    count = len(values)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * stats.sem(values)
    mean = values.mean(axis=0)
    return mean - half, mean + half


def detectable_mean(deviation: float, count: int) -> float:
    """Return the smallest expectation that a t-test detects with 80 % power.

    The test is two-sided at the 5 % level; detection in the wrong direction does not count. Its
    statistic follows the noncentral t distribution.

    Args:
        deviation: standard deviation of the values.
        count: number of values, at least 2.

    Returns:
        float: non-negative, in the unit of ``deviation``.
    """
    return _detectable_noncentrality(count) * deviation / math.sqrt(count)


@cache
def _detectable_noncentrality(count: int) -> float:
    freedom = count - 1
    critical = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))

    def missing_power(noncentrality: float) -> float:
        return float(POWER - stats.nct.sf(critical, freedom, noncentrality))

    high = critical
    while missing_power(high) > 0:
        high *= 2
    return float(optimize.brentq(missing_power, 0.0, high))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of a family of tests so that the probability of any false rejection is at
    most the significance level (Holm 1979).

    Args:
        p_values: p-values of the tests. NaN marks an impossible test; it stays NaN and is counted.
    """
    order = np.argsort(p_values)  # NaN comes last.
    adjusted = np.full(len(p_values), math.nan)
    largest = 0.0
    for rank, index in enumerate(order):
        if math.isnan(p_values[index]):
            break
        largest = max(largest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = largest
    return [float(value) for value in adjusted]


def estimate_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Estimate:
    """Estimate the mean difference to a baseline by a paired t-test over seeds.

    Runs with the same seed share their initial weights and the order of their images, so their
    difference varies less than the runs do.

    Args:
        values: values by seed.
        baseline: values of the baseline by seed. Unpaired seeds are left out.
    """
    return estimate_mean(
        [values[seed] - baseline[seed] for seed in values.keys() & baseline.keys()]
    )
