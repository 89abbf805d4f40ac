"""Other methods of perturbing a residual block, for comparison."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from shakedrop_det.layers import survival_probs
from shakedrop_det.modeling.residual_branch import BottleneckBranch


class _PublicScale(torch.autograd.Function):
    """The common formulation: a Function that scales, followed by an addition and a ReLU. The gate
    is read back from a tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, survival_prob: float) -> Tensor:
        gate = torch.empty(1, device=x.device).bernoulli_(survival_prob)
        ctx.save_for_backward(gate)
        if gate.item() == 0:
            alpha = torch.empty(x.shape[0], 1, 1, 1, device=x.device, dtype=x.dtype)
            return alpha.uniform_(-1, 1).expand_as(x) * x
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gate,) = ctx.saved_tensors
        if gate.item() == 0:
            beta = torch.empty(grad.shape[0], 1, 1, 1, device=grad.device, dtype=grad.dtype)
            return beta.uniform_(0, 1).expand_as(grad) * grad, None
        return grad, None


def public_junction(
    shortcut: Tensor, residual: Tensor, norm: nn.Module, *, survival_prob: float, relu: bool = True
) -> Tensor:
    """Compute the junction as public implementations do."""
    out = shortcut + _PublicScale.apply(norm(residual), survival_prob)
    return F.relu(out) if relu else out


class PublicBlock(BottleneckBranch, BottleneckBlock):
    """A bottleneck block with :func:`public_junction`."""

    survival_prob = 0.5

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        residual, p = self.residual(x), self.survival_prob
        return public_junction(shortcut, residual, nn.Identity(), survival_prob=p)


class StochasticDepthBlock(BottleneckBranch, BottleneckBlock):
    """A bottleneck block with torchvision's ``StochasticDepth`` before the addition."""

    survival_prob = 0.5

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        residual = StochasticDepth(1 - self.survival_prob, "batch")(self.residual(x))
        return F.relu_(residual + shortcut)


class AdditionBlock(BottleneckBranch, BottleneckBlock):
    """A bottleneck block without its last norm, whose junction is an addition and a ReLU.

    It computes something else, but shows the time that the cheapest junction would take.
    """

    survival_prob = 1.0

    def forward(self, x: Tensor) -> Tensor:
        conv = self.last_conv
        out = F.conv2d(self.residual_input(x), conv.weight, None, conv.stride, conv.padding)
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


def replace_bottlenecks(
    module: nn.Module, block_type: type[nn.Module], survival_prob: float
) -> nn.Module:
    """Convert stock bottlenecks to another block type, in place, with linearly decaying p_l."""
    blocks: list[Any] = [m for m in module.modules() if type(m) is BottleneckBlock]
    probs = survival_probs(len(blocks), survival_prob=survival_prob)
    for block, probability in zip(blocks, probs, strict=True):
        block.__class__ = block_type
        block.survival_prob = probability
    return module
