"""Means over seeds, and their confidence intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean of independent runs, with its 95 % confidence interval.

    Attributes:
        mean: in the unit of the values; NaN of none.
        low, high: ends of the interval; NaN of fewer than two values.
        count: number of values.
        p_value: of the two-sided t test of the hypothesis that the expectation is 0; NaN where
            there is no interval.
        detectable: the smallest expectation that this test, with this many values and this
            spread, detects with 80 % power; NaN where there is no interval.
    """

    mean: float
    low: float
    high: float
    count: int
    p_value: float = math.nan
    detectable: float = math.nan

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside of the interval."""
        return self.low > 0 or self.high < 0


def estimate_mean(values: Sequence[float]) -> Estimate:
    """The mean of independent values, and Student's interval for what it estimates.

    Of values with a normal distribution, 95 % of such intervals hold their expectation.

    Args:
        values: one per run.
    """
    if len(values) < 2:
        return Estimate(values[0] if values else math.nan, math.nan, math.nan, len(values))
    with warnings.catch_warnings():
        # scipy warns of values that are all the same, as those of runs can be.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_1samp(values, popmean=0.0)
    interval = test.confidence_interval(CONFIDENCE)
    return Estimate(
        mean=float(np.mean(values)),
        low=float(interval.low),
        high=float(interval.high),
        count=len(values),
        # scipy returns NaN if all values are 0, which is no evidence against 0.
        p_value=1.0 if not np.any(values) else float(test.pvalue),
        detectable=detectable_mean(float(np.std(values, ddof=1)), len(values)),
    )


def detectable_mean(deviation: float, count: int) -> float:
    """The expectation that a t test detects with 80 % power.

    The test is two-sided at 5 %; detection in the wrong direction does not count. Its statistic has
    the noncentral t distribution.

    Args:
        deviation: standard deviation of the values.
        count: their number, at least 2.

    Returns:
        float: not negative, in the unit of the deviation.
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
    """The p-values of a family of tests, adjusted so that the probability of any false rejection is
    at most the level (Holm 1979).

    Args:
        p_values: of the tests. NaN, of a test that could not be made, stays and counts.
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
    """The mean difference to a baseline, of runs with the same seed: the paired t-test's interval.

    Pairs share their initial weights and the order of their images, so their difference varies less
    than the runs do.

    Args:
        values: by seed.
        baseline: by seed; seeds that only one of them has are left out.
    """
    return estimate_mean(
        [values[seed] - baseline[seed] for seed in values.keys() & baseline.keys()]
    )
