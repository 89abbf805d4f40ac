"""Backbone builders for ``MODEL.BACKBONE.NAME``: the stock ones, then :func:`shake`."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_resnet_backbone
from detectron2.modeling.backbone import fpn

from shakedrop_det.config import spec_from_config

from .advice import warn_of_frozen_norms
from .initialization import zero_init_residual
from .shake import shake


@BACKBONE_REGISTRY.register()
def build_shakedrop_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """:func:`detectron2.modeling.build_resnet_backbone` with ShakeDrop."""
    return shake_resnet(build_resnet_backbone(cfg, input_shape), cfg)


@BACKBONE_REGISTRY.register()
def build_shakedrop_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """:func:`detectron2.modeling.backbone.build_resnet_fpn_backbone` with ShakeDrop."""
    return shake_resnet(fpn.build_resnet_fpn_backbone(cfg, input_shape), cfg)


@BACKBONE_REGISTRY.register()
def build_shakedrop_retinanet_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """detectron2's ``build_retinanet_resnet_fpn_backbone`` with ShakeDrop."""
    return shake_resnet(fpn.build_retinanet_resnet_fpn_backbone(cfg, input_shape), cfg)


@BACKBONE_REGISTRY.register()
def build_shakedrop_resnet_deeplab_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """``build_resnet_deeplab_backbone`` of ``detectron2.projects.deeplab`` with ShakeDrop."""
    # Here, since not every build of detectron2 brings its projects along.
    from detectron2.projects.deeplab import build_resnet_deeplab_backbone

    return shake_resnet(build_resnet_deeplab_backbone(cfg, input_shape), cfg)


def num_residual_blocks(depth: int) -> int:
    """L of a whole ResNet (res2 to res5): its layers but for stem and classifier, by block."""
    return (depth - 2) // (2 if depth < 50 else 3)


def shake_resnet(backbone: Backbone, cfg: CfgNode) -> Backbone:
    """:func:`shake_backbone` for a newly built ResNet of four stages, res2 to res5.

    Raises:
        ValueError: if the config builds res5 in the head, without ShakeDrop.
    """
    shaken = shake_backbone(backbone, cfg, num_residual_blocks(cfg.MODEL.RESNETS.DEPTH))
    if cfg.MODEL.SHAKEDROP.ENABLED:
        _check_res5_head(cfg)
    return shaken


def shake_backbone(backbone: Backbone, cfg: CfgNode, num_blocks: int) -> Backbone:
    """What a config asks for of a newly built backbone: its initialization, and ShakeDrop.

    Args:
        backbone: with stock residual blocks.
        cfg: read are ``MODEL.SHAKEDROP``, ``MODEL.RESNETS.ZERO_INIT_RESIDUAL`` and
            ``SOLVER.CLIP_GRADIENTS``.
        num_blocks: L of the whole network, also if ``backbone`` ends early.

    Returns:
        Backbone: ``backbone``, changed in place.
    """
    spec = spec_from_config(cfg)
    if cfg.MODEL.RESNETS.ZERO_INIT_RESIDUAL:
        zero_init_residual(backbone)
    if not cfg.MODEL.SHAKEDROP.ENABLED:
        return backbone
    shake(backbone, spec, num_blocks)
    warn_of_frozen_norms(cfg, backbone)
    return backbone


def _check_res5_head(cfg: CfgNode) -> None:
    """A C4 detector runs res5 in its head. Left stock, that would lose noise and test scale."""
    ends_early = "res5" not in cfg.MODEL.RESNETS.OUT_FEATURES
    builds_heads = cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
    if builds_heads and ends_early and cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeads":
        raise ValueError(
            "MODEL.ROI_HEADS.NAME 'Res5ROIHeads' would build res5 without ShakeDrop; set it to "
            "'ShakeDropRes5ROIHeads'"
        )
