"""Means over seeds, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean of independent runs, with its confidence interval.

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


def estimate_mean(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """The mean of independent values, and Student's interval for what it estimates.

    Args:
        values: one per run.
        confidence: probability, in (0, 1), that such an interval holds the expectation, for values
            with a normal distribution.

    Raises:
        ValueError: for another confidence.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence!r}")
    count = len(values)
    mean = float(np.mean(values)) if count else math.nan
    if count < 2:
        return Estimate(mean, math.nan, math.nan, count)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * error
    return Estimate(mean, mean - half, mean + half, count)


def estimate_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], *, confidence: float = 0.95
) -> Estimate:
    """The mean difference to a baseline, of runs with the same seed, and its interval.

    Pairs share their initial weights and the order of their images, so their difference varies less
    than the runs do.

    Args:
        values: by seed.
        baseline: by seed; seeds that only one of them has are left out.
        confidence: see :func:`estimate_mean`.

    Raises:
        ValueError: see :func:`estimate_mean`.
    """
    both = sorted(values.keys() & baseline.keys())
    differences = [values[seed] - baseline[seed] for seed in both]
    return estimate_mean(differences, confidence=confidence)
