"""Estimate how many more images the baseline needs to reach the accuracy of a variant."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .statistics import Estimate, estimate_difference, student_interval

_STEPS = 4000
"""Number of factors that the interval is looked for among: 0.1 % apart if they span 50."""


def num_images(setting: str) -> int:
    """Return the number of images, with which the name of a setting must begin.

    Raises:
        ValueError: if the name does not begin with a number.
    """
    first = setting.partition(" ")[0]
    if not first.isdecimal():
        raise ValueError(
            f"as_images needs settings that begin with the number of images, such as '200 images'; "
            f"got {setting!r}"
        )
    return int(first)


def images_factor(
    baseline: Mapping[int, Mapping[int, float]], values: Mapping[int, float], num_images: int
) -> Estimate:
    """Estimate the factor by which the baseline needs more images to reach the same accuracy.

    The baseline's accuracy is interpolated linearly over the logarithm of the number of images. The
    factor is above 1 exactly if the variant is more accurate than the baseline with as many images.
    Therefore its p-value is that of the paired t-test of the accuracies, and its interval consists
    of the numbers of images at which such a test does not reject that both are equally accurate
    (Fieller 1954). Both account for the errors of the variant and of the baseline, whose accuracies
    of a seed may be correlated. A bootstrap over so few seeds would be too narrow, and averaging
    the logarithms of one factor per seed would be biased, because the curve is not straight.

    Args:
        baseline: accuracies of the baseline, by number of images and seed.
        values: accuracies of the variant, by seed.
        num_images: number of images that the variant was trained on, one of the baseline's.

    Returns:
        Estimate: the factor. It is infinite if the accuracy exceeds the baseline's with the most
        images, and 0 if it is below the baseline's with the fewest. So are the ends of the interval
        if the baseline's curve does not reach them. All are NaN with fewer than two seeds.
    """
    numbers = sorted(baseline)
    shared = set(values).intersection(*(baseline[number] for number in numbers))
    seeds = sorted(shared)
    if len(numbers) < 2 or len(seeds) < 2:
        return Estimate(math.nan, math.nan, math.nan, len(seeds))
    # Logarithms of the factors: those of the baseline's settings, and many between.
    known = np.log(numbers) - np.log(num_images)
    logs = np.union1d(np.linspace(known[0], known[-1], _STEPS), known)
    curves = [np.interp(logs, known, [baseline[n][seed] for n in numbers]) for seed in seeds]
    gains = np.array([values[seed] for seed in seeds])[:, None] - curves
    low, high = student_interval(gains)
    here = int(np.searchsorted(logs, 0.0))
    mean = _crossing(gains.mean(axis=0), logs, here)
    first = _first(low <= 0, logs, logs[-1])
    last = _first(high[::-1] >= 0, logs[::-1], logs[0])
    return Estimate(
        mean=math.exp(mean),
        low=0.0 if low[0] <= 0 else math.exp(min(first, mean)),
        high=math.inf if high[-1] >= 0 else math.exp(max(last, mean)),
        count=len(seeds),
        p_value=estimate_difference(
            {seed: values[seed] for seed in seeds}, baseline[num_images]
        ).p_value,
    )


def _crossing(gains: np.ndarray, logs: np.ndarray, here: int) -> float:
    """Return where the gain over the baseline's curve vanishes, from ``here`` to the side on which
    more images must compensate for a gain, or fewer for a loss."""
    step, end = (1, math.inf) if gains[here] > 0 else (-1, -math.inf)
    side, places = gains[here::step] * step, logs[here::step]
    index = int(np.argmax(side <= 0))
    if side[index] > 0:
        return end
    before = max(index - 1, 0)
    # Interpolate between the last positive and the first other gain.
    return float(np.interp(0.0, [side[index], side[before]], [places[index], places[before]]))


def _first(holds: np.ndarray, logs: np.ndarray, otherwise: float) -> float:
    return float(logs[np.argmax(holds)] if holds.any() else otherwise)
