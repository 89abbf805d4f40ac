"""Convert the config of a folded network, to one of stock detectron2 if possible."""

from __future__ import annotations

from typing import Iterator

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, ROI_HEADS_REGISTRY

from shakedrop_det.config import add_training_config

STOCK_NAMES = {
    "build_shakedrop_resnet_backbone": "build_resnet_backbone",
    "build_shakedrop_resnet_deeplab_backbone": "build_resnet_deeplab_backbone",
    "build_shakedrop_resnet_fpn_backbone": "build_resnet_fpn_backbone",
    "build_shakedrop_retinanet_resnet_fpn_backbone": "build_retinanet_resnet_fpn_backbone",
    "ShakeDropRes5ROIHeads": "Res5ROIHeads",
}
"""Stock detectron2's counterparts of what this package registers."""

WITHOUT_LAST_RELU = (
    "build_shakedrop_pyramidnet_backbone",
    "build_shakedrop_wide_resnet_backbone",
    "build_shake_shake_backbone",
)
"""Builders of blocks that have no final ReLU for ``ERASE_RELU`` to remove."""


def deployed_config(cfg: CfgNode) -> tuple[CfgNode, tuple[str, ...]]:
    """Return the config of the network that folded weights are for.

    Args:
        cfg: config of the network that :func:`shakedrop_det.fold` was, or will be, applied to.

    Returns:
        tuple: the config, and the reasons why stock detectron2 cannot build it. Without reasons,
        the config has no names or keys of this package. Otherwise this package builds the network,
        with a residual scale of 1.
    """
    deployed = cfg.clone()
    deployed.defrost()
    reasons = tuple(_not_in_stock(cfg))
    if _erases_relu(cfg):
        deployed.MODEL.SHAKEDROP.SURVIVAL_PROB = 1.0
    else:
        deployed.MODEL.SHAKEDROP.ENABLED = False
    if not reasons:
        for node in (deployed.MODEL.BACKBONE, deployed.MODEL.ROI_HEADS):
            node.NAME = STOCK_NAMES.get(node.NAME, node.NAME)
        with_ours = get_cfg()
        add_training_config(with_ours)
        _remove_added_keys(deployed, with_ours, get_cfg())
    return deployed, reasons


def _erases_relu(cfg: CfgNode) -> bool:
    is_set = cfg.MODEL.SHAKEDROP.ENABLED and cfg.MODEL.SHAKEDROP.ERASE_RELU
    return is_set and cfg.MODEL.BACKBONE.NAME not in WITHOUT_LAST_RELU


def _not_in_stock(cfg: CfgNode) -> Iterator[str]:
    if _erases_relu(cfg):
        yield (
            "MODEL.SHAKEDROP.ERASE_RELU True: the residual blocks lack the final ReLU that all "
            "blocks of stock detectron2 have"
        )
    named = [
        ("MODEL.META_ARCHITECTURE", META_ARCH_REGISTRY, cfg.MODEL.META_ARCHITECTURE),
        ("MODEL.BACKBONE.NAME", BACKBONE_REGISTRY, cfg.MODEL.BACKBONE.NAME),
    ]
    if cfg.MODEL.META_ARCHITECTURE != "ImageClassifier":
        named.append(("MODEL.ROI_HEADS.NAME", ROI_HEADS_REGISTRY, cfg.MODEL.ROI_HEADS.NAME))
    for key, registry, name in named:
        is_ours = registry.get(name).__module__.startswith("shakedrop_det.")
        if is_ours and name not in STOCK_NAMES:
            yield f"{key} {name}: stock detectron2 has no counterpart"


def _remove_added_keys(node: CfgNode, with_ours: CfgNode, stock: CfgNode) -> None:
    """Remove the keys that only ``with_ours`` has; keep the keys of other projects."""
    for key in list(node):
        if key in stock:
            if isinstance(stock[key], CfgNode):
                _remove_added_keys(node[key], with_ours[key], stock[key])
        elif key in with_ours:
            del node[key]
