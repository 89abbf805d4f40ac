"""What a dropped residual branch need not compute, or not yet.

Both functions give every parameter a gradient, zero or not: a parameter without one would stop
DistributedDataParallel, which waits for all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn

from .conv_junction import ConvGeometry, scaled_conv_gradients


def skip_branch(shortcut: Tensor, parameters: Sequence[Tensor], *, relu: bool) -> Tensor:
    """``act(x)``, with zero gradients for the parameters of a branch that did not run.

    Right where both scales of the branch are 0 for the whole batch (RandomDrop).

    Args:
        shortcut: x, of any shape.
        parameters: those of the residual branch.
        relu: whether a ReLU follows.
    """
    return _SkippedBranch.apply(shortcut, relu, *parameters)


class _SkippedBranch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shortcut: Tensor, relu: bool, *parameters: Tensor) -> Tensor:
        out = shortcut.relu() if relu else shortcut.clone()
        ctx.relu = relu
        ctx.save_for_backward(*((out,) if relu else ()), *parameters)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        saved = list(ctx.saved_tensors)
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, saved.pop(0), 0)
        zeros = (
            torch.zeros_like(parameter) if needed else None
            for parameter, needed in zip(saved, ctx.needs_input_grad[2:], strict=True)
        )
        return grad, None, *zeros


def postpone_branch(
    shortcut: Tensor,
    x: Tensor,
    branch: Callable[..., Tensor],
    parameters: Sequence[Tensor],
    *,
    relu: bool,
) -> Tensor:
    """``act(shortcut)``, with the gradients of a branch that runs in the backward pass only.

    Right where the forward scale of the branch is 0 for the whole batch, and its backward scale is
    not. Nothing in the branch is kept from one pass to the other but its input.

    Args:
        shortcut: (N, C, H, W).
        x: the input of the branch.
        branch: gives, from ``x`` and the parameters, a tensor of the shape of ``shortcut``, of any
            value, whose gradients are to flow into them. It is called with aliases of them, under
            the autocast of this call.
        parameters: all that the branch holds.
        relu: whether a ReLU follows.
    """
    autocast = _Autocast.of(x.device)
    return _PostponedBranch.apply(shortcut, x, branch, autocast, relu, *parameters)


class _Autocast(NamedTuple):
    """Whether and to what autocast casts on some kind of device."""

    device: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def of(cls, device: torch.device) -> Optional["_Autocast"]:
        kind = device.type
        if not torch.amp.is_autocast_available(kind):
            return None
        return cls(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))

    def restored(self) -> contextlib.AbstractContextManager[Any]:
        """It is so again within this context."""
        if not self.enabled and not torch.is_autocast_enabled(self.device):
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.enabled)


class _PostponedBranch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        shortcut: Tensor,
        x: Tensor,
        branch: Callable[..., Tensor],
        autocast: Optional[_Autocast],
        relu: bool,
        *parameters: Tensor,
    ) -> Tensor:
        out = shortcut.relu() if relu else shortcut.clone()
        ctx.branch, ctx.autocast = branch, autocast
        # With the parameters torch sees whether somebody changed them in between.
        ctx.save_for_backward(x, out if relu else None, *parameters)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        x, output, *parameters = ctx.saved_tensors
        if output is not None:
            grad = torch.ops.aten.threshold_backward(grad, output, 0)
        needed = ctx.needs_input_grad[1], *ctx.needs_input_grad[5:]
        autocast = contextlib.nullcontext() if ctx.autocast is None else ctx.autocast.restored()
        with torch.enable_grad(), autocast:
            # Without the hooks of the tensors, which run on the whole gradient.
            aliases = [
                tensor.view_as(tensor).requires_grad_() if wanted else tensor.detach()
                for tensor, wanted in zip((x, *parameters), needed, strict=True)
            ]
            residual = ctx.branch(*aliases)
        inputs = [alias for alias, wanted in zip(aliases, needed, strict=True) if wanted]
        if not residual.requires_grad:  # only the shortcut takes a gradient
            return grad, *[None] * (4 + len(parameters))
        found = iter(
            torch.autograd.grad(
                residual, inputs, grad, allow_unused=True, create_graph=torch.is_grad_enabled()
            )
        )
        grad_x, *grads = (next(found) if wanted else None for wanted in needed)
        return grad, grad_x, None, None, None, *grads


def unseen_conv(conv: nn.Conv2d, x: Tensor, *, scale: Tensor, weight: Tensor) -> Tensor:
    """``w conv(x)`` whose value nobody reads, and whose gradient is multiplied by ``t``.

    The gradients of a convolution do not depend on its output.

    Args:
        conv: without bias, its padding given in pixels.
        x: its input, (N, C, H, W).
        scale: t, broadcastable to the output.
        weight: w, (1, C, 1, 1).

    Returns:
        Tensor: zeros of the output's shape, which take no memory.
    """
    return _UnseenConv.apply(x, conv.weight, scale, weight, ConvGeometry.of(conv))


class _UnseenConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        conv_weight: Tensor,
        scale: Tensor,
        weight: Tensor,
        geometry: ConvGeometry,
    ) -> Tensor:
        ctx.geometry = geometry
        ctx.save_for_backward(x, conv_weight, scale, weight)
        return x.new_zeros(()).expand(geometry.output_size(x, conv_weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        x, conv_weight, scale, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_x, grad_weight = scaled_conv_gradients(
            grad, x, conv_weight, ctx.geometry, scale, weight, needed
        )
        if grad_weight is not None:
            grad_weight = grad_weight.to(conv_weight.dtype)
        return grad_x, grad_weight, None, None, None
