"""Means over seeds and their intervals, against published figures and by simulation."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from shakedrop_det.experiments import estimate_difference, estimate_mean

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


def test_fewer_than_two_runs_have_no_interval() -> None:
    one = estimate_mean([4.0])
    assert (one.mean, one.count) == (4.0, 1)
    assert math.isnan(one.low) and math.isnan(one.high) and not one.excludes_zero
    assert math.isnan(estimate_mean([]).mean)
