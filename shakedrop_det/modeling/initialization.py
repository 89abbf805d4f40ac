"""Initialization of residual networks that are trained from scratch."""

from __future__ import annotations

from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, DeformBottleneckBlock
from torch import nn

from shakedrop_det.modeling.cifar.pyramid_blocks import PyramidBasicBlock, PyramidBottleneckBlock
from shakedrop_det.modeling.cifar.two_branch_blocks import BasicResidual, BottleneckResidual

_TWO_CONVS = (BasicBlock, PyramidBasicBlock, BasicResidual)
_THREE_CONVS = (
    BottleneckBlock,
    DeformBottleneckBlock,
    PyramidBottleneckBlock,
    BottleneckResidual,
)


def zero_init_residual(module: nn.Module) -> nn.Module:
    """Let each residual block begin as the identity, in place.

    The weight of the last norm of each branch becomes 0. See "Accurate, Large Minibatch SGD:
    Training ImageNet in 1 Hour", section 5.1.

    Args:
        module: holds residual blocks, under ShakeDrop or not, of detectron2, of PyramidNet or of
            two branches.

    Returns:
        nn.Module: ``module``.

    Raises:
        ValueError: if a branch ends in no norm with a weight to train.
    """
    for name, branch in module.named_modules():
        if not isinstance(branch, (*_TWO_CONVS, *_THREE_CONVS)):
            continue
        last_conv = branch.conv2 if isinstance(branch, _TWO_CONVS) else branch.conv3
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
