"""Initialization of residual networks that are trained from scratch."""

from __future__ import annotations

from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, DeformBottleneckBlock
from torch import nn


def zero_init_residual(module: nn.Module) -> nn.Module:
    """Let each residual block of detectron2 begin as the identity, in place.

    The weight of the last norm of each branch becomes 0. See "Accurate, Large Minibatch SGD:
    Training ImageNet in 1 Hour", section 5.1.

    Args:
        module: holds residual blocks of detectron2, under ShakeDrop or not.

    Returns:
        nn.Module: ``module``.

    Raises:
        ValueError: if a branch ends in no norm with a weight to train.
    """
    for name, block in module.named_modules():
        if not isinstance(block, (BasicBlock, BottleneckBlock, DeformBottleneckBlock)):
            continue
        last_conv = block.conv2 if isinstance(block, BasicBlock) else block.conv3
        weight = getattr(last_conv.norm, "weight", None)
        if not isinstance(weight, nn.Parameter):
            raise ValueError(
                f"MODEL.RESNETS.ZERO_INIT_RESIDUAL needs a trainable norm at the end of each "
                f"residual branch, but {name} has {type(last_conv.norm).__name__}: set "
                "MODEL.RESNETS.NORM to BN and MODEL.BACKBONE.FREEZE_AT to 0, or "
                "ZERO_INIT_RESIDUAL to False"
            )
        nn.init.zeros_(weight)
    return module
