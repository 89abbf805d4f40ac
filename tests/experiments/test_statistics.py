"""Means over seeds and their intervals, against scipy's own tests and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shakedrop_det.experiments import estimate_difference, estimate_mean

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9).filter(lambda v: np.std(v) > 1e-3)


@given(VALUES, st.floats(0.5, 0.999))
def test_the_interval_is_that_of_the_t_test(values, confidence) -> None:
    found = estimate_mean(values, confidence=confidence)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    assert found.count == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert found.excludes_zero == (expected.low > 0 or expected.high < 0)


@given(VALUES, st.data())
def test_the_difference_is_that_of_the_paired_t_test(values, data) -> None:
    others = data.draw(st.lists(st.floats(-9, 9), min_size=len(values), max_size=len(values)))
    if np.std(np.subtract(values, others)) < 1e-3:
        return
    found = estimate_difference(dict(enumerate(values)), dict(enumerate(others)))
    expected = stats.ttest_rel(values, others).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-6, abs=1e-6)


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
    estimates = [estimate_mean(row) for row in draws]
    covered = np.mean([e.low <= 3.0 <= e.high for e in estimates])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_fewer_than_two_runs_have_no_interval() -> None:
    one = estimate_mean([4.0])
    assert (one.mean, one.count) == (4.0, 1)
    assert math.isnan(one.low) and math.isnan(one.high) and not one.excludes_zero
    assert math.isnan(estimate_mean([]).mean)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_that_is_none_is_refused(confidence) -> None:
    with pytest.raises(ValueError, match=rf"in \(0, 1\), got {confidence}"):
        estimate_mean([1.0, 2.0], confidence=confidence)
