"""What may be computed in another way than by calling each module, and what may be left out."""

from __future__ import annotations

from typing import Optional

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import _has_any_global_hook

from shakedrop_det.layers.frozen_junction import frozen_affine


def is_plain(conv: nn.Module) -> bool:
    """Whether a convolution of detectron2 may run in another way, and its norm apart from it.

    That is not so for subclasses, quantized modules and weights of another kind, which may compute
    anything, or where somebody hooked convolution or norm to see it run.
    """
    if type(conv) is not Conv2d or conv.activation is not None or _is_watched(conv):
        return False
    if type(conv.weight) not in (Tensor, nn.Parameter):
        return False
    return conv.norm is None or not _is_watched(conv.norm)


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


def can_skip_conv(conv: Conv2d, x: Tensor) -> bool:
    """Whether the gradient through a convolution and its (separable) norm needs no output of it.

    So it is for FrozenBatchNorm2d; other norms need their input again in the backward pass.
    """
    if type(conv.norm) is not FrozenBatchNorm2d or conv.bias is not None:
        return False
    return not isinstance(conv.padding, str) and keeps_dtype(x)


def keeps_dtype(x: Tensor) -> bool:
    """Whether a convolution of ``x`` gives its dtype, and not another because of autocast."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind):
        return True
    return not torch.is_autocast_enabled(kind) or x.dtype == torch.get_autocast_dtype(kind)


def branch_modules(block: nn.Module) -> list[nn.Module]:
    """All modules of a residual block's branch: all but those of the shortcut."""
    return [
        module
        for name, child in block.named_children()
        if name != "shortcut"
        for module in child.modules()
    ]


def can_skip_branch(block: nn.Module, x: Tensor, *, statistics: bool) -> bool:
    """Whether nobody notices if the branch of a block does not run in a step.

    Args:
        block: a residual block.
        x: its input, (N, C, H, W).
        statistics: whether running statistics that would have moved count as noticing.
    """
    if not keeps_dtype(x):
        return False
    modules = branch_modules(block)
    if any(_is_watched(module) for module in modules):
        return False
    return not (statistics and any(_gathers_statistics(module) for module in modules))


def _gathers_statistics(module: nn.Module) -> bool:
    return isinstance(module, _NormBase) and module.training and module.track_running_stats


def _is_watched(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
        or _has_any_global_hook()
    )
