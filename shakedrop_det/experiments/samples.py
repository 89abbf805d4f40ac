"""Estimate how many more images the baseline needs to reach the accuracy of a variant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .statistics import CONFIDENCE, Estimate

_DRAWS = 4000


def images_factor(
    baseline: Mapping[int, Mapping[int, float]], values: Mapping[int, float], num_images: int
) -> Estimate:
    """Estimate the factor by which the baseline needs more images to reach the same accuracy.

    The baseline's mean accuracy is interpolated linearly over the logarithm of the number of
    images, after replacing it by its running maximum. The interval is a 95 % percentile bootstrap
    over the seeds: they are drawn with replacement, and all accuracies of a seed are drawn
    together.

    Args:
        baseline: accuracies of the baseline, by number of images and seed.
        values: accuracies of the variant, by seed.
        num_images: number of images that the variant was trained on.

    Returns:
        Estimate: the factor. It is infinite if the accuracy exceeds the baseline's with the most
        images, and 0 if it is below the baseline's with the fewest.
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
