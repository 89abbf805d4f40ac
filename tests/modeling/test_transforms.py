"""torch.func over shaken blocks with each norm."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.backbone.resnet import BasicBlock
from torch import Tensor, nn

from shakedrop_det import shake

from ..paper_form import paper_form
from .networks import group_norm, randomize_norms
from .usual_formulation import UsualBlock

FIXED = {"alpha": (0.5, 0.5), "beta": (0.75, 0.75), "survival_prob": 0.0, "decay": "constant"}
NORMS = {"FrozenBN": "FrozenBN", "GN": group_norm, "none": ""}


def stack(norm: str, **settings) -> nn.Module:
    blocks = nn.Sequential(*(BasicBlock(4, 4, norm=NORMS.get(norm, norm)) for _ in range(2)))
    randomize_norms(blocks)
    return shake(blocks, paper_form(**FIXED, **settings)).double().train()


def batch() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 4, 5, 5, dtype=torch.float64, generator=generator)


def loss(network: nn.Module, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    return torch.func.functional_call(network, parameters, (x,)).square().sum()


@pytest.mark.parametrize("gate_level", ["batch", "image"])
@pytest.mark.parametrize("level", ["batch", "image", "channel", "pixel"])
@pytest.mark.parametrize("norm", NORMS)
def test_gradients_of_each_sample_under_noise_equal_the_loop(norm, level, gate_level) -> None:
    network = stack(norm, level=level, gate_level=gate_level)
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def gradient(parameters: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
        return torch.func.grad(lambda p: loss(network, p, x[None]))(parameters)

    together = torch.func.vmap(gradient, (None, 0), randomness="different")(parameters, batch())
    for i, x in enumerate(batch()):
        network.zero_grad()
        network(x[None]).square().sum().backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(together[name][i], parameter.grad)


@pytest.mark.parametrize("level", ["batch", "image", "channel", "pixel"])
@pytest.mark.parametrize("norm", [*NORMS, "BN"])
def test_func_grad_equals_backward(norm, level) -> None:
    network = stack(norm, level=level)
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    # Statistics that move must be arguments, as with stock BatchNorm.
    buffers = {name: b.clone() for name, b in network.named_buffers()}
    got = torch.func.grad(lambda p, b: loss(network, {**p, **b}, batch()))(parameters, buffers)
    network(batch()).square().sum().backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad)


def test_samples_draw_apart_from_each_other() -> None:
    spec = paper_form(alpha=(-1, 1), survival_prob=0.0, decay="constant")
    network = shake(nn.Sequential(BasicBlock(4, 4, norm="FrozenBN")), spec).train()
    same = batch().float()[:1].expand(6, -1, -1, -1)
    out = torch.func.vmap(lambda x: network(x[None]), randomness="different")(same)
    assert len({o.sum().item() for o in out}) > 3


def test_the_usual_formulation_is_none_for_torch_func() -> None:
    """Or the tests above would tell nothing."""
    block = UsualBlock(4, 4, norm="FrozenBN").double()
    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.grad(lambda x: block(x).sum())(batch())
