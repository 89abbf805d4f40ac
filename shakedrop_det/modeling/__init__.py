"""Shaken residual blocks, backbones, heads and the image classifier."""

from .backbone import (
    build_shakedrop_resnet_backbone,
    build_shakedrop_resnet_deeplab_backbone,
    build_shakedrop_resnet_fpn_backbone,
    build_shakedrop_retinanet_resnet_fpn_backbone,
)
from .blocks import (
    ShakenBasicBlock,
    ShakenBlock,
    ShakenBottleneckBlock,
    ShakenDeformBottleneckBlock,
    ShakenPyramidBasicBlock,
    ShakenPyramidBottleneckBlock,
)
from .cifar_backbone import (
    build_shake_shake_backbone,
    build_shakedrop_cifar_resnet_backbone,
    build_shakedrop_pyramidnet_backbone,
)
from .classifier import ImageClassifier
from .known_blocks import SHAKEN_BLOCKS
from .lazy import resnext_stages, shaken_resnet, shaken_stage
from .pyramid_blocks import PyramidBasicBlock, PyramidBottleneckBlock
from .res5_head import ShakeDropRes5ROIHeads
from .shake import BlockSampler, shake, without_noise
from .shaken_two_branch import ShakenTwoBranchBlock
from .two_branch_blocks import TwoBranchBlock

__all__ = [
    "SHAKEN_BLOCKS",
    "BlockSampler",
    "ImageClassifier",
    "PyramidBasicBlock",
    "PyramidBottleneckBlock",
    "ShakeDropRes5ROIHeads",
    "ShakenBasicBlock",
    "ShakenBlock",
    "ShakenBottleneckBlock",
    "ShakenDeformBottleneckBlock",
    "ShakenPyramidBasicBlock",
    "ShakenPyramidBottleneckBlock",
    "ShakenTwoBranchBlock",
    "TwoBranchBlock",
    "build_shake_shake_backbone",
    "build_shakedrop_cifar_resnet_backbone",
    "build_shakedrop_pyramidnet_backbone",
    "build_shakedrop_resnet_backbone",
    "build_shakedrop_resnet_deeplab_backbone",
    "build_shakedrop_resnet_fpn_backbone",
    "build_shakedrop_retinanet_resnet_fpn_backbone",
    "resnext_stages",
    "shake",
    "shaken_resnet",
    "shaken_stage",
    "without_noise",
]
