"""Networks for small images: ResNets and ResNeXts, Wide ResNets, PyramidNets, and networks with two
residual branches per block."""

from .backbones import (
    build_shake_shake_backbone,
    build_shakedrop_cifar_resnet_backbone,
    build_shakedrop_pyramidnet_backbone,
    build_shakedrop_resnet_cifar_stem_backbone,
    build_shakedrop_wide_resnet_backbone,
)
from .pyramid_blocks import PyramidBasicBlock, PyramidBottleneckBlock
from .shaken_two_branch import ShakenTwoBranchBlock
from .two_branch_blocks import TwoBranchBlock
from .wide_blocks import WideBlock

__all__ = [
    "PyramidBasicBlock",
    "PyramidBottleneckBlock",
    "ShakenTwoBranchBlock",
    "TwoBranchBlock",
    "WideBlock",
    "build_shake_shake_backbone",
    "build_shakedrop_cifar_resnet_backbone",
    "build_shakedrop_pyramidnet_backbone",
    "build_shakedrop_resnet_cifar_stem_backbone",
    "build_shakedrop_wide_resnet_backbone",
]
