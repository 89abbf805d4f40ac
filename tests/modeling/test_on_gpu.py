"""Training steps on a GPU, against the same steps on a CPU."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shakedrop_det import shake

from ..paper_form import paper_form
from .networks import group_norm, images, narrow_resnet, run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

NORMS = {"FrozenBN": "FrozenBN", "BN": "BN", "GN": group_norm}
FIXED = {"alpha": (0.5, 0.5), "beta": (0.75, 0.75), "survival_prob": 0.5}
SETTINGS = {
    "final ReLU": {},
    "EraseReLU": {"erase_relu": True},
    "RandomDrop": {"alpha": (0, 0), "beta": (0, 0)},
    "inverted": {"inverted": True},
}


def network(norm: str, **settings) -> nn.Module:
    return shake(narrow_resnet(18, norm=NORMS[norm]), paper_form(**{**FIXED, **settings}))


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_step_is_that_of_the_cpu(norm, setting) -> None:
    """Gates are drawn on the CPU in both cases, and all else is fixed. In float32, norms of two
    values would magnify what is rounded."""
    model = network(norm, **SETTINGS[setting]).double().train()
    expected = run(copy.deepcopy(model), images().double())
    got = run(model.cuda(), images().double().cuda())
    for name, value in expected.items():
        torch.testing.assert_close(got[name].cpu(), value, rtol=1e-6, atol=1e-6, msg=name)


@pytest.mark.parametrize("level", ["batch", "image", "channel", "pixel"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("norm", NORMS)
def test_mixed_precision_trains_in_either_layout(norm, dtype, layout, level) -> None:
    stock = narrow_resnet(18, norm=NORMS[norm]).cuda().to(memory_format=layout)
    spec = paper_form(**FIXED | {"alpha": (-1, 1), "beta": (0, 1), "level": level})
    model = shake(copy.deepcopy(stock), spec).train()
    x = images().cuda().contiguous(memory_format=layout)
    with torch.autocast("cuda", dtype):
        out, expected = (net(x)["res5"] for net in (model, stock))
    out.float().square().mean().backward()
    # Autocast normalizes groups in float32.
    assert out.dtype == expected.dtype == (torch.float32 if norm == "GN" else dtype)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
