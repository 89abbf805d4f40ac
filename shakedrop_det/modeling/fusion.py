"""What may be computed in another way than by calling each module."""

from __future__ import annotations

from typing import Optional

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from shakedrop_det.layers import frozen_affine
from shakedrop_det.layers.junction import KNOWN_NORMS
from shakedrop_det.layers.scales import can_read


def is_plain(conv: nn.Module) -> bool:
    """Whether a convolution of detectron2 may run in another way, and its norm apart from it.

    That is not so for subclasses, quantized modules and weights of another kind, which may compute
    anything, or where somebody hooked convolution or norm to see it run. Nor is it for a norm that
    the junction does not know: one that waits for other processes has to run when it does there.
    """
    if type(conv) is not Conv2d or conv.activation is not None or is_watched(conv):
        return False
    if type(conv.weight) not in (Tensor, nn.Parameter):
        return False
    return conv.norm is None or (type(conv.norm) in KNOWN_NORMS and not is_watched(conv.norm))


def conv_without_norm(conv: Conv2d, x: Tensor) -> Tensor:
    """What ``conv`` hands to its norm."""
    return _conv2d(conv, x, conv.weight, conv.bias)


def conv_with_frozen_norm(conv: Conv2d, x: Tensor) -> Tensor:
    """What ``conv`` gives, its FrozenBatchNorm2d being part of weight and bias."""
    weight, bias = frozen_affine(conv.norm)
    bias = bias.view(-1)
    if conv.bias is not None:
        bias = bias + conv.bias * weight.view(-1)
    return _conv2d(conv, x, conv.weight * weight.view(-1, 1, 1, 1), bias)


def _conv2d(conv: Conv2d, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    """As detectron2's Conv2d, which pads with zeros whatever its ``padding_mode``."""
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def can_join_conv(conv: Conv2d, x: Tensor) -> bool:
    """Whether :func:`conv_junction` can compute a convolution of ``x``, its norm and what follows.

    On a GPU, in compiled graphs and under autocast it is not used: there a junction by itself is
    one kernel.
    """
    return (
        has_separable_gradient(conv)
        and can_read(x)
        and keeps_dtype(x)
        and conv.weight.dtype == x.dtype
    )


def has_separable_gradient(conv: Conv2d) -> bool:
    """Whether the gradient through a convolution and its norm needs no output of it.

    So it is for FrozenBatchNorm2d; other norms need their input again in the backward pass.
    """
    frozen = type(conv.norm) is FrozenBatchNorm2d
    return frozen and conv.bias is None and not isinstance(conv.padding, str)


def keeps_dtype(x: Tensor) -> bool:
    """Whether a convolution of ``x`` gives its dtype, and not another because of autocast."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind):
        return True
    return not torch.is_autocast_enabled(kind) or x.dtype == torch.get_autocast_dtype(kind)


def is_watched(module: nn.Module) -> bool:
    """Whether somebody hooked a module to see it run, or replaced its ``forward``."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
        or _has_any_global_hook()
    )
