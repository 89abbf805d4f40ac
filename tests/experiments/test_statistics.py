"""Means over seeds and their intervals, against published figures and by simulation."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from shakedrop_det.experiments import estimate_difference, estimate_mean
from shakedrop_det.experiments.statistics import detectable_mean, holm, student_interval

# Student (1908), "The probable error of a mean": additional hours of sleep with two drugs, the data
# set `sleep` of R, whose t.test gives the intervals.
FIRST = dict(enumerate([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]))
SECOND = dict(enumerate([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]))


def test_students_own_example() -> None:
    found = estimate_mean(list(SECOND.values()))
    assert (found.mean, found.count) == (pytest.approx(2.33), 10)
    assert (found.low, found.high) == pytest.approx((0.8976775, 3.7623225), abs=5e-8)


def test_the_difference_is_that_of_the_paired_test_in_students_own_example() -> None:
    found = estimate_difference(SECOND, FIRST)
    assert found.mean == pytest.approx(1.58)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858), abs=5e-8)
    assert found.half_width == pytest.approx((2.4598858 - 0.7001142) / 2, abs=5e-8)
    assert found.excludes_zero
    assert estimate_difference(FIRST, SECOND).excludes_zero
    assert not estimate_mean(list(FIRST.values())).excludes_zero


def test_seeds_that_only_one_of_them_has_are_left_out() -> None:
    found = estimate_difference({1: 5.0, 2: 7.0, 9: 100.0}, {2: 4.0, 1: 4.0, 8: -100.0})
    assert (found.mean, found.count) == (2.0, 2)


def test_pairs_tell_more_than_the_runs_by_themselves() -> None:
    """Where the seeds differ by 10 and the variants by 1, only the differences show it."""
    baseline = {1: 10.0, 2: 20.0, 3: 30.0}
    values = {1: 11.1, 2: 20.9, 3: 31.0}
    assert estimate_difference(values, baseline).excludes_zero
    assert estimate_mean(list(values.values())).low < estimate_mean(list(baseline.values())).high


def test_nineteen_of_twenty_intervals_hold_the_expectation() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 5))
    estimates = [estimate_mean(row) for row in draws.tolist()]
    covered = np.mean([e.low <= 3.0 <= e.high for e in estimates])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_runs_that_agree_have_an_interval_of_no_length_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate_mean([0.0, 0.0, 0.0])
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)
    assert not found.excludes_zero


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_values_that_agree_are_judged_by_their_signs_alone(count: int) -> None:
    """They are rounded, so their spread, which is 0, says nothing. Four of five numbers are not
    exact in binary, so such values may differ in their last digits."""
    found = estimate_mean([float(number) + 0.3 - number for number in range(count)])
    assert found.p_value == stats.binomtest(count, count).pvalue
    assert (found.p_value < 0.05) is (count >= 6)
    assert found.low == found.high == found.mean and not found.excludes_zero
    assert estimate_mean([0.5] * count).excludes_zero is False


@pytest.mark.parametrize("values", [[1e-14] * 8, [7.1e-15, 1.4e-14, 7.2e-15, 7.1e-15, 7e-15]])
def test_what_rounding_leaves_of_zero_counts_as_zero(values: list[float]) -> None:
    """Such as a difference of differences."""
    found = estimate_mean(values)
    assert found.p_value == 1.0 and not found.excludes_zero
    assert estimate_mean([value + 0.3 for value in values], expected=0.3).p_value == 1.0


def test_intervals_of_several_expectations_are_those_of_each() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, (5, 3))
    each = [estimate_mean(column) for column in values.T.tolist()]
    low, high = student_interval(values)
    assert low == pytest.approx([estimate.low for estimate in each])
    assert high == pytest.approx([estimate.high for estimate in each])


def test_fewer_than_two_runs_have_no_interval() -> None:
    one = estimate_mean([4.0])
    assert (one.mean, one.count) == (4.0, 1)
    assert math.isnan(one.low) and math.isnan(one.high) and not one.excludes_zero
    assert math.isnan(estimate_mean([]).mean)


def test_the_p_value_is_that_of_the_paired_test_in_students_own_example() -> None:
    assert estimate_difference(SECOND, FIRST).p_value == pytest.approx(0.002833, abs=5e-7)
    assert estimate_mean([0.0, 0.0, 0.0]).p_value == 1.0


def test_another_expectation_can_be_tested() -> None:
    """The interval excludes an expectation exactly if its p-value is below 5 %."""
    values = [0.3, 0.9, 0.8, 0.4]
    estimate = estimate_mean(values)
    for expected, below in [(estimate.low - 1e-6, True), (estimate.low + 1e-6, False)]:
        tested = estimate_mean(values, expected=expected)
        assert (tested.mean, tested.low) == (estimate.mean, estimate.low)
        assert (tested.p_value < 0.05) is below
    assert estimate_mean([0.5, 0.5], expected=0.5).p_value == 1


def test_the_detectable_difference_is_that_of_published_sample_sizes() -> None:
    """Cohen, Statistical Power Analysis, and G*Power: 34 pairs for half a deviation, 15 for 0.8, at
    5 % and a power of 80 %."""
    assert detectable_mean(1.0, 34) < 0.5 < detectable_mean(1.0, 33)
    assert detectable_mean(1.0, 15) < 0.8 < detectable_mean(1.0, 14)
    assert detectable_mean(3.0, 10) == pytest.approx(3 * detectable_mean(1.0, 10))


@pytest.mark.parametrize("count", [2, 5, 8])
def test_four_of_five_experiments_find_the_detectable_difference(count: int) -> None:
    draws = np.random.default_rng(0).normal(detectable_mean(2.0, count), 2.0, (20000, count))
    found = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05
    assert np.mean(found) == pytest.approx(0.8, abs=0.01)


def test_an_estimate_says_what_it_could_have_detected() -> None:
    values = list(SECOND.values())
    expected = detectable_mean(float(np.std(values, ddof=1)), 10)
    assert estimate_mean(values).detectable == expected
    assert estimate_mean([1.0, 1.0]).detectable == 0


def test_holm_is_that_of_r() -> None:
    """p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") and of another order."""
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.5, 0.001, 0.9]) == pytest.approx([1.0, 0.003, 1.0])


def test_a_test_that_could_not_be_made_counts_in_its_family() -> None:
    adjusted = holm([0.04, math.nan, 0.01])
    assert (adjusted[0], adjusted[2]) == pytest.approx((0.08, 0.03)) and math.isnan(adjusted[1])
