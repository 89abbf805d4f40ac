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
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2, 2), rel=1e-3)
    half = {seed: value + 5 for seed, value in values.items()}
    assert images_factor(curve(), half, 100).mean == pytest.approx(2**1.5)


def test_worse_than_the_baseline_is_worth_fewer() -> None:
    values = {seed: 10 * math.log2(400) - 10 for seed in SEEDS}
    assert images_factor(curve(), values, 400).mean == pytest.approx(0.5)


def test_beyond_the_curve_there_is_no_number() -> None:
    above, below = (dict.fromkeys(SEEDS, value) for value in (200.0, 0.0))
    assert images_factor(curve(), above, 100).mean == math.inf
    assert images_factor(curve(), below, 100).mean == 0


def experiment(
    rng: np.random.Generator, *, seeds: int, factor: float
) -> tuple[dict[int, dict[int, float]], dict[int, float]]:
    """Draw a baseline and a variant that is worth ``factor`` times the images at 200. The curve
    flattens, and the accuracies of a seed are correlated."""
    of_seed = dict(enumerate(rng.normal(0.0, 1.5, seeds)))
    numbers = (100, 200, 400, 800)
    means = [90 - 60 * (100 / number) ** 0.7 for number in numbers]

    def draw(mean: float) -> dict[int, float]:
        return {seed: mean + base + 2 * rng.normal() for seed, base in of_seed.items()}

    baseline = {number: draw(mean) for number, mean in zip(numbers, means, strict=True)}
    return baseline, draw(float(np.interp(math.log(200 * factor), np.log(numbers), means)))


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
def test_what_changes_nothing_is_found_to_change_something_in_one_of_twenty_experiments(
    seeds: int,
) -> None:
    rng = np.random.default_rng(seeds)
    drawn = [experiment(rng, seeds=seeds, factor=1.0) for _ in range(600)]
    found = [images_factor(*each, 200) for each in drawn]
    assert np.mean([each.p_value < 0.05 for each in found]) == pytest.approx(0.05, abs=0.025)
    assert all((each.p_value >= 0.05) is (each.low <= 1 <= each.high) for each in found)


@pytest.mark.parametrize("factor", [0.6, 1.5, 3.5])
def test_nineteen_of_twenty_intervals_hold_the_factor(factor: float) -> None:
    """Also of those that the curve ends in, such as most of those of 3.5."""
    rng = np.random.default_rng(0)
    drawn = [experiment(rng, seeds=4, factor=factor) for _ in range(600)]
    found = [images_factor(*each, 200) for each in drawn]
    assert all((each.p_value >= 0.05) is (each.low <= 1 <= each.high) for each in found)
    held = [each.low <= factor <= each.high for each in found]
    assert np.mean(held) == pytest.approx(0.95, abs=0.025)
    assert all(each.low <= each.mean <= each.high for each in found)
    assert any(math.isinf(each.high) for each in found) is (factor == 3.5)


def test_the_p_value_is_that_of_the_gain_with_as_many_images() -> None:
    baseline, values = experiment(np.random.default_rng(1), seeds=5, factor=1.5)
    test = stats.ttest_rel(list(values.values()), list(baseline[200].values()))
    assert images_factor(baseline, values, 200).p_value == pytest.approx(test.pvalue)


@pytest.mark.parametrize("gain", [4.0, -4.0])
def test_a_curve_that_falls_is_crossed_on_the_side_of_the_gain(gain: float) -> None:
    """Else a gain could be worth fewer images."""
    curve = {100: 60.0, 200: 50.0, 400: 40.0, 800: 70.0}
    baseline = {number: {1: value - 1, 2: value + 1} for number, value in curve.items()}
    found = images_factor(baseline, {1: 50 + gain, 2: 50.1 + gain}, 200)
    assert (found.mean > 1) is (gain > 0) and (found.mean == 0) is (gain < 0)


@pytest.mark.parametrize("number, beyond", [(800, 1), (400, 2), (100, 8)])
def test_above_the_whole_curve_is_more_than_the_factor_of_most_images(
    number: int, beyond: float
) -> None:
    """That the curve ends there says nothing about the factors above it."""
    baseline = curve(0.5)
    values = {seed: 10 * math.log2(800) + 10 + 0.1 * seed for seed in SEEDS}
    found = images_factor(baseline, values, number)
    assert found.p_value < 0.05 and found.mean == found.high == math.inf
    assert beyond < found.low == pytest.approx(beyond)


@pytest.mark.parametrize("number, beyond", [(100, 1), (200, 0.5), (800, 0.125)])
def test_below_the_whole_curve_is_less_than_the_factor_of_fewest_images(
    number: int, beyond: float
) -> None:
    values = {seed: 10 * math.log2(100) - 10 + 0.1 * seed for seed in SEEDS}
    found = images_factor(curve(0.5), values, number)
    assert found.p_value < 0.05 and found.mean == found.low == 0
    assert beyond > found.high == pytest.approx(beyond)


@pytest.mark.parametrize("gain", [3.0, -3.0])
def test_noise_elsewhere_on_the_curve_leaves_the_side_of_the_gain(gain: float) -> None:
    """Where a test with as many images finds it; a test at the noisy end finds nothing."""
    baseline = curve(0.1)
    for number in (100, 800):
        baseline[number] = {s: value + 90 * math.cos(s) for s, value in baseline[number].items()}
    values = {seed: 10 * math.log2(200) + gain for seed in SEEDS}
    found = images_factor(baseline, values, 200)
    assert found.p_value < 0.05 and (found.low > 1) is (gain > 0) and (found.high < 1) is (gain < 0)


@pytest.mark.parametrize("count", [2, 5, 6])
def test_equal_gains_exclude_that_nothing_changed_if_the_sign_test_does(count: int) -> None:
    values = {seed: 10 * math.log2(100) + 10 for seed in range(1, count + 1)}
    found = images_factor(curve(), values, 100)
    assert (found.low > 1) is (found.p_value < 0.05) is (count == 6)
    assert found.mean == pytest.approx(2) and found.high == pytest.approx(2, rel=1e-3)


def test_seeds_that_are_not_in_all_curves_are_left_out() -> None:
    baseline = curve()
    del baseline[400][3]
    values = {seed: 10 * math.log2(200) for seed in SEEDS}
    assert images_factor(baseline, values, 100).count == 7
    assert math.isnan(images_factor(baseline, {1: 3.0}, 100).mean)
