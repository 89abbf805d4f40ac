"""Means over seeds, and their confidence intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean of independent runs, with its 95 % confidence interval.

    Attributes:
        mean: in the unit of the values; NaN of none.
        low, high: ends of the interval; NaN of fewer than two values.
        count: number of values.
    """

    mean: float
    low: float
    high: float
    count: int

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
        interval = stats.ttest_1samp(values, popmean=0.0).confidence_interval(0.95)
    return Estimate(float(np.mean(values)), float(interval.low), float(interval.high), len(values))


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
