"""Apply an overlay to a ``CfgNode``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

from .files import errors_of

_SHAKEN = {
    "build_resnet_backbone": "build_shakedrop_resnet_backbone",
    "build_resnet_fpn_backbone": "build_shakedrop_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone": "build_shakedrop_retinanet_resnet_fpn_backbone",
    "build_resnet_deeplab_backbone": "build_shakedrop_resnet_deeplab_backbone",
}
"""Our builders by the names of the stock builders, which ignore ``MODEL.SHAKEDROP``."""

_STOCK_RES5_HEAD, _RES5_HEAD = "Res5ROIHeads", "ShakeDropRes5ROIHeads"
_TWO_BRANCHES = "build_shake_shake_backbone"
_CIFAR = (
    "build_shakedrop_cifar_resnet_backbone",
    "build_shakedrop_pyramidnet_backbone",
    "build_shakedrop_wide_resnet_backbone",
    _TWO_BRANCHES,
)


def lay_over_cfg(cfg: CfgNode, overlay: str, values: Mapping[str, Any]) -> bool:
    """Merge the values of an overlay into a config, in place, and return whether they changed it.

    An overlay that sets ``MODEL.SHAKEDROP.ENABLED`` to True also replaces stock builders by ours,
    so that it takes effect on detectron2's own configs.

    Args:
        cfg: config to change; unchanged if the overlay is rejected.
        overlay: name of the overlay, for messages.
        values: nested values, as in the overlay's file.

    Raises:
        ValueError: if a key or value is invalid, or the overlay does not suit the config.
    """
    if "SHAKEDROP" not in cfg.MODEL:
        raise ValueError(
            f"overlay {overlay!r} needs MODEL.SHAKEDROP, which is missing: call "
            "shakedrop_det.add_shakedrop_config(cfg) right after detectron2.config.get_cfg()"
        )
    result = cfg.clone()
    with errors_of(f"overlay {overlay!r}", cfg):
        result.merge_from_other_cfg(CfgNode(dict(values)))
    model = values.get("MODEL", {})
    if model.get("SHAKEDROP", {}).get("ENABLED"):
        _exchange_builders(result.MODEL)
    reason = _misfit(result.MODEL, model)
    if reason:
        raise ValueError(f"overlay {overlay!r} does not suit this config: {reason}")
    changed: bool = result != cfg
    cfg.merge_from_other_cfg(result)
    return changed


def _exchange_builders(model: CfgNode) -> None:
    model.BACKBONE.NAME = _SHAKEN.get(model.BACKBONE.NAME, model.BACKBONE.NAME)
    if _head_holds_res5(model):
        model.ROI_HEADS.NAME = _RES5_HEAD


def _head_holds_res5(model: CfgNode) -> bool:
    """Whether this is a C4 detector. The head's name does not show it, since it is the default."""
    is_resnet = model.BACKBONE.NAME in ("build_resnet_backbone", _SHAKEN["build_resnet_backbone"])
    is_head = model.ROI_HEADS.NAME in (_STOCK_RES5_HEAD, _RES5_HEAD)
    return is_resnet and is_head and "res5" not in model.RESNETS.OUT_FEATURES


def _misfit(result: CfgNode, set_: Mapping[str, Any]) -> str:
    """Return why the ``MODEL`` of an overlay does not suit a config; empty if it does.

    Args:
        result: ``MODEL`` of the config with the overlay applied.
        set_: values that the overlay sets in ``MODEL``.
    """
    builder, resnets, shakedrop = result.BACKBONE.NAME, result.RESNETS, result.SHAKEDROP
    if "DEPTH" in set_.get("RESNETS", {}):
        if builder in _CIFAR:
            return f"MODEL.BACKBONE.NAME is {builder!r}, whose DEPTH counts other blocks"
        if resnets.DEPTH < 50:
            return _misfit_of_basic_blocks(result)
    if "BRANCHES" in set_.get("SHAKEDROP", {}) and builder != _TWO_BRANCHES:
        return f"it is for networks with two branches, but MODEL.BACKBONE.NAME is {builder!r}"
    if "ALPHA" in set_.get("SHAKEDROP", {}) and shakedrop.BRANCHES == "shake_shake":
        return "its ALPHA is not that of Shake-Shake: apply 'type_a' or 'type_b' before it"
    return ""


def _misfit_of_basic_blocks(result: CfgNode) -> str:
    """Return why an overlay does not suit ResNet-18 or -34; empty if it does."""
    resnets, wanted = result.RESNETS, "use a backbone of DEPTH 50 or more"
    depth = f"MODEL.RESNETS.DEPTH is {resnets.DEPTH}, whose basic blocks"
    if any(resnets.DEFORM_ON_PER_STAGE):
        return f"{depth} do not support deformable convolution (DEFORM_ON_PER_STAGE): {wanted}"
    if resnets.RES5_DILATION != 1:
        return f"{depth} do not support RES5_DILATION {resnets.RES5_DILATION}: {wanted}"
    if _head_holds_res5(result):
        return f"{depth} are not supported by the res5 head {result.ROI_HEADS.NAME}: {wanted}"
    if resnets.RES2_OUT_CHANNELS != 64:
        return f"{depth} need RES2_OUT_CHANNELS 64, got {resnets.RES2_OUT_CHANNELS}"
    return ""
