"""Survival probabilities against eq. 5 in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakedrop_det.layers import survival_probs

BLOCKS = {18: 8, 34: 16, 50: 16, 101: 33, 152: 50}


@pytest.mark.parametrize("depth", BLOCKS)
def test_each_block_of_each_depth_has_the_probability_of_the_equation(depth) -> None:
    length = BLOCKS[depth]
    expected = [1 - Fraction(block, length) * Fraction(1, 2) for block in range(1, length + 1)]
    assert list(survival_probs(length, survival_prob=0.5)) == pytest.approx(
        [float(p) for p in expected], abs=1e-15
    )


@given(length=st.integers(1, 300), survival_prob=st.floats(0, 1))
def test_linear_decay_ends_at_the_given_probability_in_equal_steps(length, survival_prob) -> None:
    probs = survival_probs(length, survival_prob=survival_prob)
    assert probs[-1] == pytest.approx(survival_prob, abs=1e-12)
    steps = [a - b for a, b in zip((1.0, *probs), probs, strict=False)]
    assert steps == pytest.approx([(1 - survival_prob) / length] * length, abs=1e-12)


def test_constant_decay_is_the_same_everywhere() -> None:
    assert survival_probs(5, survival_prob=0.3, decay="constant") == (0.3,) * 5


def test_a_probability_of_one_perturbs_no_block() -> None:
    assert survival_probs(50, survival_prob=1.0) == (1.0,) * 50


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"num_blocks": 0, "survival_prob": 0.5}, "num_blocks must be at least 1, got 0"),
        (
            {"num_blocks": 3, "survival_prob": 0.5, "decay": "cosine"},
            "decay must be one of linear, constant, got 'cosine'",
        ),
    ],
)
def test_bad_arguments_are_named(kwargs, message) -> None:
    with pytest.raises(ValueError, match=message):
        survival_probs(**kwargs)
