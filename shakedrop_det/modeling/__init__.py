"""Shaken residual blocks, backbones, heads and the image classifier."""

from .backbone import (
    build_shakedrop_resnet_backbone,
    build_shakedrop_resnet_deeplab_backbone,
    build_shakedrop_resnet_fpn_backbone,
    build_shakedrop_retinanet_resnet_fpn_backbone,
)
from .blocks import (
    SHAKEN_BLOCKS,
    ShakenBasicBlock,
    ShakenBlock,
    ShakenBottleneckBlock,
    ShakenDeformBottleneckBlock,
)
from .cifar_backbone import build_shakedrop_cifar_resnet_backbone
from .classifier import ImageClassifier
from .lazy import resnext_stages, shaken_resnet, shaken_stage
from .res5_head import ShakeDropRes5ROIHeads
from .shake import BlockSampler, shake, without_noise

__all__ = [
    "SHAKEN_BLOCKS",
    "BlockSampler",
    "ImageClassifier",
    "ShakeDropRes5ROIHeads",
    "ShakenBasicBlock",
    "ShakenBlock",
    "ShakenBottleneckBlock",
    "ShakenDeformBottleneckBlock",
    "build_shakedrop_cifar_resnet_backbone",
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
