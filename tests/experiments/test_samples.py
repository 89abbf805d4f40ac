"""How many times as many images the baseline needs: curves whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from shakedrop_det.experiments.samples import images_factor

SEEDS = range(1, 9)


def curve(noise: float = 0.0) -> dict[int, dict[int, float]]:
    """Ten points more for each doubling of the images."""
    rng = np.random.default_rng(0)
    return {
        number: {seed: 10 * math.log2(number) + noise * rng.normal() for seed in SEEDS}
        for number in (100, 200, 400, 800)
    }


def test_ten_points_are_worth_twice_the_images() -> None:
    values = {seed: 10 * math.log2(100) + 10 for seed in SEEDS}
    found = images_factor(curve(), values, 100)
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2, 2))
    half = {seed: value + 5 for seed, value in values.items()}
    assert images_factor(curve(), half, 100).mean == pytest.approx(2**1.5)


def test_worse_than_the_baseline_is_worth_fewer() -> None:
    values = {seed: 10 * math.log2(400) - 10 for seed in SEEDS}
    assert images_factor(curve(), values, 400).mean == pytest.approx(0.5)


def test_beyond_the_curve_there_is_no_number() -> None:
    above, below = (dict.fromkeys(SEEDS, value) for value in (200.0, 0.0))
    assert images_factor(curve(), above, 100).mean == math.inf
    assert images_factor(curve(), below, 100).mean == 0


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    baseline, rng = curve(noise=3.0), np.random.default_rng(1)
    values = {seed: 10 * math.log2(200) + 7 + 3 * rng.normal() for seed in SEEDS}
    found = images_factor(baseline, values, 200)
    table = np.array([[baseline[number][seed] for seed in SEEDS] for number in baseline])

    def factor(indices: np.ndarray) -> float:
        needed = np.interp(
            np.mean([values[SEEDS[i]] for i in indices]),
            table[:, indices].mean(axis=1),
            np.log(list(baseline)),
        )
        return math.exp(needed) / 200

    expected = stats.bootstrap(
        (np.arange(len(SEEDS)),), factor, vectorized=False, n_resamples=4000, method="percentile"
    ).confidence_interval
    assert found.mean == pytest.approx(factor(np.arange(len(SEEDS))))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.03)
    assert found.low < found.mean < found.high and found.p_value < 0.05


def test_seeds_that_are_not_in_all_curves_are_left_out() -> None:
    baseline = curve()
    del baseline[400][3]
    values = {seed: 10 * math.log2(200) for seed in SEEDS}
    assert images_factor(baseline, values, 100).count == 7
    assert math.isnan(images_factor(baseline, {1: 3.0}, 100).mean)
