"""ShakeDropSpec: what it accepts, refuses and expects."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakedrop_det.layers import ShakeDropSpec


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
        ("fuse", "all"),
        ("skip", True),
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
    spec = ShakeDropSpec(alpha=(low, low + width))
    assert spec.expected_scale(p) == pytest.approx(p + (1 - p) * (low + width / 2), abs=1e-9)
    assert spec.test_scale(p) == spec.expected_scale(p)


def test_the_inverted_form_has_test_scale_one() -> None:
    assert ShakeDropSpec(inverted=True).test_scale(0.5) == 1.0


@pytest.mark.parametrize("alpha, survival_prob", [((-1, 1), 0.0), ((0, 0), 0.0), ((-3, -1), 0.5)])
def test_the_inverted_form_refuses_to_divide_by_zero_or_less(alpha, survival_prob) -> None:
    with pytest.raises(ValueError, match="inverted needs a positive expected scale"):
        ShakeDropSpec(alpha=alpha, survival_prob=survival_prob, inverted=True)


def test_lists_of_integers_become_tuples_of_floats() -> None:
    spec = ShakeDropSpec(alpha=[-1, 1], survival_prob=1)  # type: ignore[arg-type]
    assert spec.alpha == (-1.0, 1.0) and isinstance(spec.alpha[0], float)
    assert isinstance(spec.survival_prob, float)
