"""Estimating how many more images the baseline needs for the accuracy of a variant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .statistics import CONFIDENCE, Estimate

_DRAWS = 4000


def images_factor(
    baseline: Mapping[int, Mapping[int, float]], values: Mapping[int, float], num_images: int
) -> Estimate:
    """How many times as many images the baseline needs for the same accuracy.

    The baseline's mean accuracy is interpolated linearly over the logarithm of the number of
    images, and made to ascend where it does not. The interval holds 95 % of what comes out if the
    seeds are drawn again, with replacement (the percentile bootstrap); accuracies of a seed are
    drawn together.

    Args:
        baseline: accuracies by number of images and seed.
        values: accuracies, by seed, of the variant with ``num_images`` images.
        num_images: see there.

    Returns:
        Estimate: of the factor. Infinity where the accuracy is above the baseline's with the most
        images, 0 where it is below that with the fewest.
    """
    numbers = sorted(baseline)
    shared = set(values).intersection(*(baseline[number] for number in numbers))
    seeds = sorted(shared)
    if len(numbers) < 2 or len(seeds) < 2:
        return Estimate(math.nan, math.nan, math.nan, len(seeds))
    curves = np.array([[baseline[number][seed] for seed in seeds] for number in numbers])
    targets = np.array([values[seed] for seed in seeds])

    def factor(draw: np.ndarray) -> float:
        needed = _images_for(targets[draw].mean(), numbers, curves[:, draw].mean(axis=1))
        return needed / num_images

    rng = np.random.default_rng(0)
    draws = [factor(draw) for draw in rng.integers(len(seeds), size=(_DRAWS, len(seeds)))]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], method="inverted_cdf")
    part_below = float(np.mean([draw <= 1 for draw in draws]))
    return Estimate(
        mean=factor(np.arange(len(seeds))),
        low=float(low),
        high=float(high),
        count=len(seeds),
        p_value=min(2 * min(part_below, 1 - part_below) + 1 / _DRAWS, 1.0),
    )


def _images_for(accuracy: float, numbers: Sequence[int], curve: np.ndarray) -> float:
    ascending = np.maximum.accumulate(curve)
    if accuracy < ascending[0]:
        return 0.0
    if accuracy > ascending[-1]:
        return math.inf
    return float(np.exp(np.interp(accuracy, ascending, np.log(numbers))))
