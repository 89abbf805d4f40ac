"""Fold a checkpoint and its config, and check that the outputs stay the same."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Any, Iterable

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from shakedrop_det.checkpoint.classes import CLASSES, check_number_of_classes
from shakedrop_det.checkpoint.contents import check_finite
from shakedrop_det.checkpoint.conventions import (
    CONVENTIONS,
    PIXEL_KEYS,
    SHAKEDROP,
    STRIDE_KEY,
    check_pixel_conventions,
    conventions_in,
    doubt_about_scales,
    pixel_conventions,
    shakedrop_in,
    shakedrop_remedy,
    shakedrop_settings,
)
from shakedrop_det.checkpoint.other_names import (
    refuse_library,
    refuse_torchvision,
    without_wrapping_model,
)
from shakedrop_det.checkpoint.state_dict import load_exactly
from shakedrop_det.checkpoint.weight_files import read_weights
from shakedrop_det.modeling import ShakenBlock, fold
from shakedrop_det.utils.addresses import local_file
from shakedrop_det.utils.config_errors import errors_of_config

from .comparison import (
    absolute_differences,
    check_features,
    example_image,
    features,
    outputs,
    relative_differences,
)
from .deployed_config import deployed_config


@dataclass(frozen=True)
class FoldedCheckpoint:
    """A checkpoint without ShakeDrop.

    Attributes:
        content: contents for :func:`shakedrop_det.checkpoint.weight_files.write_weights`.
        cfg: config of the network that loads the checkpoint strictly.
        not_stock: reasons why stock detectron2 cannot build the config; empty if it can.
        feature_differences: difference in each feature map, relative to its largest value.
        output_differences: difference in each output, in its own unit such as pixels; infinite if
            the number of detections differs.
        num_detections: number of detections in the image; None for networks without detections.
    """

    content: dict[str, Any]
    cfg: CfgNode
    not_stock: tuple[str, ...]
    feature_differences: dict[str, float]
    output_differences: dict[str, float]
    num_detections: int | None


def fold_checkpoint(
    cfg: CfgNode,
    *,
    image_file: str | None = None,
    use_ema: bool = True,
    allow_pickle: bool = False,
) -> FoldedCheckpoint:
    """Fold the network of ``MODEL.WEIGHTS``, see :func:`shakedrop_det.fold`, and compare the two.

    Args:
        cfg: config that the weights were trained with.
        image_file: path of an image to compare on; None for noise.
        use_ema, allow_pickle: see :func:`load_model`.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_model`; also if no block has ShakeDrop, or
            the outputs of the folded network differ.
    """
    model, extra = _load(cfg, use_ema=use_ema, allow_pickle=allow_pickle)
    folded_cfg, not_stock = deployed_config(cfg)
    folded = build_on_cpu(folded_cfg)
    state = fold(copy.deepcopy(model)).state_dict()
    folded.load_state_dict(state, strict=True)
    image = example_image(cfg, image_file)
    feature_differences = relative_differences(features(model, image), features(folded, image))
    check_features(feature_differences)
    expected, got = outputs(model, image), outputs(folded, image)
    return FoldedCheckpoint(
        content={
            "model": state,
            CONVENTIONS: pixel_conventions(cfg),
            SHAKEDROP: shakedrop_settings(folded),
            **{key: extra[key] for key in (CLASSES,) if key in extra},
        },
        cfg=folded_cfg,
        not_stock=not_stock,
        feature_differences=feature_differences,
        output_differences=absolute_differences(expected, got),
        num_detections=len(expected["pred_boxes"]) if "pred_boxes" in expected else None,
    )


def load_model(cfg: CfgNode, *, use_ema: bool = True, allow_pickle: bool = False) -> nn.Module:
    """Build the network of a config in eval mode on the CPU, and load ``MODEL.WEIGHTS`` strictly.

    Args:
        cfg: config that the weights were trained with.
        use_ema, allow_pickle: see :func:`shakedrop_det.checkpoint.weight_files.read_weights`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if a weight is missing, unexpected or of another shape, or if the file records
            training with other ShakeDrop settings or pixel conventions.
    """
    return _load(cfg, use_ema=use_ema, allow_pickle=allow_pickle)[0]


def _load(cfg: CfgNode, *, use_ema: bool, allow_pickle: bool) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network, and the contents of the file other than weights."""
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("MODEL.WEIGHTS is empty; set it to the checkpoint to deploy")
    refuse_library(cfg.MODEL.WEIGHTS)
    path = local_file(cfg.MODEL.WEIGHTS, key="MODEL.WEIGHTS")
    file = read_weights(path, allow_pickle=allow_pickle, use_ema=use_ema)
    check_number_of_classes(file.extra.get(CLASSES), cfg, source=path)
    model = build_on_cpu(cfg)
    model_state = model.state_dict()
    state = without_wrapping_model(file.state, model_state)
    refuse_torchvision(state, model_state, source=path)
    check_finite(state, model_state, source=path)
    load_exactly(model, state)
    has_bottlenecks = any(".conv3." in key for key in state)
    keys: Iterable[str] = (key for key in PIXEL_KEYS if has_bottlenecks or key != STRIDE_KEY)
    conventions = conventions_in(file.extra, source=path)
    check_pixel_conventions(conventions, pixel_conventions(cfg), source=path, keys=keys)
    settings = shakedrop_in(file.extra, source=path)
    remedy = shakedrop_remedy(settings, shakedrop_settings(model))
    if remedy:
        raise ValueError(
            f"the weights in {path!r} were trained with other ShakeDrop settings than those of "
            f"this config, which would change the residual scale; set {remedy}"
        )
    doubt = doubt_about_scales(settings, shakedrop_settings(model), source=path)
    if doubt:
        logging.getLogger(__name__).warning(doubt)
    return model, file.extra


def build_on_cpu(cfg: CfgNode) -> nn.Module:
    """Build the network of a config on the CPU, in eval mode."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    with errors_of_config(cfg):
        return build_model(cfg).eval()


def without_shakedrop(model: nn.Module) -> nn.Module:
    """Return a copy of a network in eval mode, folded if it has blocks with ShakeDrop."""
    duplicate = copy.deepcopy(model).eval()
    is_shaken = any(isinstance(module, ShakenBlock) for module in duplicate.modules())
    return fold(duplicate) if is_shaken else duplicate
