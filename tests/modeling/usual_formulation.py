"""ShakeDrop as public implementations have it, to show that a test tells it from this package's.

A Function of its own scales the residual. It draws gate and coefficients by itself, in float32,
looks at the gate with ``item()``, and keeps what it needs in ``forward``.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling.backbone.resnet import BasicBlock
from torch import Tensor
from torch.nn import functional as F


class UsualScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, survival_prob: float) -> Tensor:
        gate = torch.empty(1).bernoulli_(survival_prob)
        ctx.save_for_backward(gate)
        if gate.item() == 0:
            return torch.empty(x.shape[0]).uniform_(-1, 1).view(-1, 1, 1, 1) * x
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gate,) = ctx.saved_tensors
        if gate.item() == 0:
            return torch.rand(grad.shape[0]).view(-1, 1, 1, 1) * grad, None
        return grad, None


class UsualBlock(BasicBlock):
    survival_prob = 0.0

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu_(self.conv1(x)))
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(shortcut + UsualScale.apply(out, self.survival_prob))
