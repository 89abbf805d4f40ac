"""The outputs of a network for an image, and their difference from those of another."""

from __future__ import annotations

import math
import os
from typing import Any, Callable, Mapping

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor, nn

from shakedrop_det.conversion.verification import TOLERANCE
from shakedrop_det.data import ClassificationMapper, DetectionMapper

NOISE_SIZE = 224


def example_image(cfg: CfgNode, path: str | None = None) -> Tensor:
    """An image as the network gets it in evaluation.

    Args:
        cfg: of the network, whose ``INPUT`` keys are followed.
        path: of an image file; None for noise, the same on each call.

    Returns:
        Tensor: pixels from 0 to 255, (C, H, W), float32.

    Raises:
        FileNotFoundError: if there is no such file.
        UnreadableImageError: if it is no image, naming it.
    """
    channels = len(cfg.MODEL.PIXEL_MEAN)
    if path is None:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(channels, NOISE_SIZE, NOISE_SIZE, generator=generator) * 255
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no image {path!r}")
    is_classifier = cfg.MODEL.META_ARCHITECTURE == "ImageClassifier"
    mapper: Callable[[dict[str, Any]], dict[str, Any]] = (
        ClassificationMapper(cfg, False) if is_classifier else DetectionMapper(cfg, False)
    )
    image = mapper({"file_name": path, "label": 0})["image"].float()
    if len(image) != channels:
        raise ValueError(
            f"MODEL.PIXEL_MEAN has {channels} channels, and {path!r} has {len(image)} in "
            f"INPUT.FORMAT {cfg.INPUT.FORMAT!r}: leave --image out, for an image of noise"
        )
    return image


@torch.no_grad()
def features(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """The feature maps of a detector's or classifier's backbone, and of a C4 detector's res5 head.

    Args:
        model: in test mode.
        image: (C, H, W), see :func:`example_image`.
    """
    pixels = model.preprocess_image([{"image": image}])  # type: ignore[operator]
    pixels = pixels if isinstance(pixels, Tensor) else pixels.tensor
    backbone: Any = model.backbone
    if isinstance(backbone, nn.ModuleDict):  # of a classifier
        backbone = backbone["bottom_up"]
    found = dict(backbone(pixels))
    heads: Any = getattr(model, "roi_heads", None)
    if getattr(heads, "res5", None) is not None:
        # Of the whole feature map: regions are as the detector finds them.
        found["roi_heads.res5"] = heads.res5(found[heads.in_features[0]])
    return found


@torch.no_grad()
def outputs(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """What a detector or classifier says about an image, as tensors by name.

    Args:
        model: in test mode.
        image: (C, H, W), see :func:`example_image`.
    """
    (output,) = model([{"image": image}])
    found: dict[str, Tensor] = {}
    for name, value in output.items():
        if isinstance(value, Instances):
            for field, content in value.get_fields().items():
                found[field] = getattr(content, "tensor", content)
        else:  # The second part of a panoptic segmentation are records of its segments.
            found[name] = value[0] if isinstance(value, tuple) else value
    return found


def relative_differences(
    expected: Mapping[str, Tensor], got: Mapping[str, Tensor]
) -> dict[str, float]:
    """The largest difference of each tensor, relative to the largest value expected there."""
    return {
        name: difference / max(float(expected[name].abs().max()), 1e-12)
        for name, difference in absolute_differences(expected, got).items()
    }


def absolute_differences(
    expected: Mapping[str, Tensor], got: Mapping[str, Tensor]
) -> dict[str, float]:
    """The largest difference of each tensor, in its own unit.

    It is infinite where shapes differ, and for masks the part of the pixels that differ.
    """
    return {name: _difference(value, got[name]) for name, value in expected.items()}


def _difference(expected: Tensor, got: Tensor) -> float:
    if got.shape != expected.shape:
        return math.inf
    difference = (got.double() - expected.double()).abs()
    if not difference.numel():
        return 0.0
    return float(difference.mean() if expected.dtype == torch.bool else difference.max())


def check_features(differences: Mapping[str, float]) -> None:
    """Stop if a feature map differs by more than rounding does.

    Args:
        differences: of :func:`relative_differences`.

    Raises:
        ValueError: listing all of them.
    """
    if all(difference < TOLERANCE for difference in differences.values()):
        return
    listed = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    raise ValueError(
        "The network without ShakeDrop computes other features than the one with it, by more than "
        f"{TOLERANCE:g} of their largest value: {listed}. Nothing was written"
    )


def listed(differences: Mapping[str, float]) -> str:
    """One line per tensor."""
    width = max(map(len, differences), default=0)
    return "\n".join(f"  {name:<{width}}  {value:.1e}" for name, value in differences.items())
