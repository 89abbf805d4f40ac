"""Shake-Shake's equations, by the junction and the scales of ShakeDrop."""

from __future__ import annotations

import pytest
import torch

from shakedrop_det.layers import Scales, complement, draw_scales, junction

from ..paper_form import paper_form
from .equations import random_map

SHAKE_SHAKE = {
    "alpha": (0, 1),
    "beta": (0, 1),
    "survival_prob": 0.0,
    "decay": "constant",
    "branches": "shake_shake",
}


@pytest.mark.parametrize("level, images", [("batch", 1), ("image", 4)])
def test_two_junctions_with_complementary_scales_follow_the_equations(level, images) -> None:
    """Forward y = x + a F1 + (1 - a) F2; backward dF1 = B dy, dF2 = (1 - B) dy."""
    x, f1, f2 = (random_map(4, 3, 5, 5, seed=seed) for seed in range(3))
    torch.manual_seed(0)
    spec = paper_form(**SHAKE_SHAKE, level=level)
    scales = draw_scales(spec, 0.0, False, f1.shape, f1.device)
    a, b = (scale.double().expand(images, 1, 1, 1) for scale in scales)
    assert ((a > 0) & (a < 1)).all() and not torch.equal(a, b)
    out = junction(junction(x, f1, scales, relu=False), f2, complement(scales), relu=False)
    dy = torch.randn_like(out)
    dx, d1, d2 = torch.autograd.grad(out, (x, f1, f2), dy)
    torch.testing.assert_close(out, x + a * f1 + (1 - a) * f2, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(dx, dy)
    torch.testing.assert_close(d1, b * dy, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(d2, (1 - b) * dy, rtol=1e-6, atol=1e-6)


def test_the_complement_of_a_scale_of_one_drops_the_branch_whatever_it_holds() -> None:
    x, f = torch.randn(2, 3, 4, 4), torch.full((2, 3, 4, 4), float("inf"))
    for one in (1.0, torch.ones(2, 1, 1, 1)):
        assert torch.equal(junction(x, f, complement(Scales(one, one)), relu=False), x)


@pytest.mark.parametrize(
    "field, value",
    [
        ("survival_prob", 0.5),
        ("decay", "linear"),
        ("inverted", True),
        ("level", "pixel"),
        ("level", "channel"),
    ],
)
def test_what_shake_shake_has_no_room_for_is_refused(field, value) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be .* 'shake_shake', got {value!r}"):
        paper_form(**{**SHAKE_SHAKE, field: value})
