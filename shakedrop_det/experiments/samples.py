"""Estimate how many more images the baseline needs to reach the accuracy of a variant."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .statistics import CONFIDENCE, Estimate, estimate_difference, student_interval

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
    Therefore its p-value is that of the paired t-test of the accuracies, and its interval reaches
    over the numbers of images at which such a test does not reject that both are equally accurate
    (Fieller 1954), on the side of 1 that the p-value leaves: it excludes 1 exactly if the p-value
    is below 5 %. Both account for the errors of the variant and of the baseline, whose accuracies
    of a seed may be correlated. A bootstrap over so few seeds would be too narrow, and averaging
    the logarithms of one factor per seed would be biased, because the curve is not straight.

    Args:
        baseline: accuracies of the baseline, by number of images and seed.
        values: accuracies of the variant, by seed.
        num_images: number of images that the variant was trained on, one of the baseline's.

    Returns:
        Estimate: the factor. It is infinite if the accuracy exceeds the baseline's with the most
        images, and 0 if it is below the baseline's with the fewest. The interval has no upper end
        (infinity) if the test does not find the variant below the baseline with the most images,
        and the lower end 0 if it does not find it above the one with the fewest. If it finds it
        above the whole curve, the lower end is the smallest number above the factor of the most
        images; if below, the upper end is the largest number below that of the fewest. All are NaN
        with fewer than two seeds.
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
    mean = math.exp(_crossing(gains.mean(axis=0), logs, here))
    pairs = estimate_difference({seed: values[seed] for seed in seeds}, baseline[num_images])
    # Factors that the test finds too small or too large.
    small, large = low > 0, high < 0
    if pairs.p_value >= 1 - CONFIDENCE:
        small[here] = large[here] = False  # Of equal gains, low and high are those of no test.
    elif pairs.mean > 0:
        small[: here + 1] = True
    else:
        large[here:] = True
    first, last = _ends(small, large, np.exp(logs))
    return Estimate(mean, min(first, mean), max(last, mean), len(seeds), pairs.p_value)


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


def _ends(small: np.ndarray, large: np.ndarray, factors: np.ndarray) -> tuple[float, float]:
    """Return the ends of the interval of factors that are neither too small nor too large."""
    not_small, not_large = factors[~small], factors[~large]
    first = not_small[0] if not_small.size else math.nextafter(factors[-1], math.inf)
    last = not_large[-1] if not_large.size else math.nextafter(factors[0], 0.0)
    return float(first if small[0] else 0.0), float(last if large[-1] else math.inf)
