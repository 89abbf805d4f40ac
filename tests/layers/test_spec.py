"""ShakeDropSpec and its schedule: what is accepted, refused and expected."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakedrop_det.layers import ShakeDropSpec, survival_probs


@pytest.mark.parametrize(
    "field, value",
    [
        ("alpha", (1, 0)),
        ("alpha", 0.5),
        ("alpha", (0, 1, 2)),
        ("alpha", (0, float("nan"))),
        ("beta", (float("-inf"), 0)),
        ("beta", ("0", "1")),
        ("survival_prob", 1.5),
        ("survival_prob", -0.1),
        ("survival_prob", "0.5"),
        ("survival_prob", True),
        ("decay", "cosine"),
        ("level", "Image"),
        ("gate_level", "pixel"),
        ("erase_relu", 1),
        ("inverted", "yes"),
        ("skip", "never"),
    ],
)
def test_a_bad_value_is_refused_with_its_field_and_itself(field, value) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must be .*got {re.escape(repr(value))}"):
        ShakeDropSpec(**{field: value})


@given(
    low=st.floats(-3, 3),
    width=st.floats(0, 3),
    p=st.floats(0, 1),
)
def test_the_expected_scale_is_that_of_the_equation(low, width, p) -> None:
    spec = ShakeDropSpec(alpha=(low, low + width), inverted=False)
    assert spec.expected_scale(p) == pytest.approx(p + (1 - p) * (low + width / 2), abs=1e-9)
    assert spec.test_scale(p) == spec.expected_scale(p)


def test_the_inverted_form_has_test_scale_one() -> None:
    assert ShakeDropSpec(inverted=True).test_scale(0.5) == 1.0


def test_the_defaults_compute_at_test_time_what_stock_weights_are_used_to() -> None:
    spec = ShakeDropSpec()
    assert (spec.survival_prob, spec.inverted, spec.erase_relu) == (0.9, True, False)
    assert spec.test_scale(spec.survival_prob) == 1.0


@pytest.mark.parametrize("alpha, survival_prob", [((-1, 1), 0.0), ((0, 0), 0.0), ((-3, -1), 0.5)])
def test_the_inverted_form_refuses_to_divide_by_zero_or_less(alpha, survival_prob) -> None:
    with pytest.raises(ValueError, match="inverted needs a positive expected scale"):
        ShakeDropSpec(alpha=alpha, survival_prob=survival_prob, inverted=True)


def test_lists_of_integers_become_tuples_of_floats() -> None:
    spec = ShakeDropSpec(alpha=[-1, 1], survival_prob=1)  # type: ignore[arg-type]
    assert spec.alpha == (-1.0, 1.0) and isinstance(spec.alpha[0], float)
    assert isinstance(spec.survival_prob, float)


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


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.int64(1), 1])
def test_numbers_of_numpy_are_numbers(value) -> None:
    assert ShakeDropSpec(survival_prob=value).survival_prob == float(value)


@pytest.mark.parametrize("alpha", [(0.0, 0.0), (1.0, 1.0)])
def test_shake_shake_needs_both_branches(alpha) -> None:
    settings = {"survival_prob": 0.0, "decay": "constant", "inverted": False}
    with pytest.raises(ValueError, match=r"alpha must not be \[.*\] with branches 'shake_shake'"):
        ShakeDropSpec(alpha=alpha, branches="shake_shake", **settings)
    ShakeDropSpec(alpha=(0.5, 0.5), branches="shake_shake", **settings)
