"""Compute the outputs of a network for an image, and compare them with those of another."""

from __future__ import annotations

import math
import os
from typing import Any, Callable, Mapping

import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from shakedrop_det.conversion.verification import TOLERANCE
from shakedrop_det.data import ClassificationMapper, DetectionMapper

NOISE_SIZE = 224


def example_image(cfg: CfgNode, path: str | None = None) -> Tensor:
    """Return an image preprocessed as for evaluation.

    Args:
        cfg: config of the network, for its ``INPUT`` keys.
        path: path of an image file; None for noise, which is the same on each call.

    Returns:
        Tensor: pixels from 0 to 255, (C, H, W), float32.

    Raises:
        FileNotFoundError: if the file does not exist.
        UnreadableImageError: if the file is not an image, naming it.
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
    return mapper({"file_name": path, "label": 0})["image"].float()


def bottom_up(model: nn.Module) -> nn.Module:
    """Return the backbone of a detector, segmenter or classifier."""
    backbone: Any = model.backbone
    if isinstance(backbone, nn.ModuleDict):  # a classifier's
        backbone = backbone["bottom_up"]
    return backbone


def normalized(model: nn.Module, image: Tensor) -> Tensor:
    """Return the pixels that a model passes to its backbone, (1, C, H, W).

    Args:
        model: a detector, segmenter or classifier.
        image: (C, H, W), see :func:`example_image`.
    """
    network: Any = model
    if hasattr(model, "preprocess_image"):
        pixels = network.preprocess_image([{"image": image}])
        return pixels if isinstance(pixels, Tensor) else pixels.tensor
    # SemanticSegmentor, PanopticDeepLab and ProposalNetwork do this in their forward method.
    pixels = (image - network.pixel_mean) / network.pixel_std
    return ImageList.from_tensors([pixels], network.backbone.size_divisibility).tensor


def needs_proposals(model: nn.Module) -> bool:
    """Return whether a model takes proposals with each image, as Fast R-CNN does."""
    return isinstance(model, GeneralizedRCNN) and model.proposal_generator is None


def example_input(model: nn.Module, image: Tensor) -> dict[str, Any]:
    """Return an image as input of a model, with proposals if the model does not make them."""
    height, width = image.shape[1:]
    example = {"image": image, "height": height, "width": width}
    if needs_proposals(model):
        boxes = torch.tensor([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.25, 0.25, 1, 0.75]])
        boxes = boxes * torch.tensor([width, height, width, height])
        example["proposals"] = Instances(
            (height, width),
            proposal_boxes=Boxes(boxes),
            objectness_logits=torch.zeros(len(boxes)),
        )
    return example


@torch.no_grad()
def features(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Compute the feature maps of the backbone, and of the res5 head if the detector has one.

    Args:
        model: a detector, segmenter or classifier in eval mode.
        image: (C, H, W), see :func:`example_image`.
    """
    found = dict(bottom_up(model)(normalized(model, image)))
    heads: Any = getattr(model, "roi_heads", None)
    if getattr(heads, "res5", None) is not None:
        # Applied to the whole feature map, since regions depend on the detections.
        found["roi_heads.res5"] = heads.res5(found[heads.in_features[0]])
    return found


@torch.no_grad()
def outputs(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Run a model on an image, and return its outputs as tensors by name.

    Args:
        model: a detector, segmenter or classifier in eval mode.
        image: (C, H, W), see :func:`example_image`.
    """
    (output,) = model([example_input(model, image)])
    found: dict[str, Tensor] = {}
    for name, value in output.items():
        if isinstance(value, Instances):
            for field, content in value.get_fields().items():
                found[field] = getattr(content, "tensor", content)
        else:  # A panoptic segmentation is a tuple of a tensor and a list of segments.
            found[name] = value[0] if isinstance(value, tuple) else value
    return found


def relative_differences(
    expected: Mapping[str, Tensor], got: Mapping[str, Tensor]
) -> dict[str, float]:
    """Return the largest difference in each tensor, relative to the largest expected value."""
    return {
        name: difference / max(float(expected[name].abs().max()), 1e-12)
        for name, difference in absolute_differences(expected, got).items()
    }


def absolute_differences(
    expected: Mapping[str, Tensor], got: Mapping[str, Tensor]
) -> dict[str, float]:
    """Return the largest difference in each tensor, in its own unit.

    It is infinite if the shapes differ. For masks, it is the fraction of pixels that differ.
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
    """Check that feature maps differ by no more than rounding errors.

    Args:
        differences: differences as returned by :func:`relative_differences`.

    Raises:
        ValueError: if one of them is too large, listing all of them.
    """
    if all(difference < TOLERANCE for difference in differences.values()):
        return
    listed = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    raise ValueError(
        "The network without ShakeDrop computes other features than the network with it: they "
        f"differ by more than {TOLERANCE:g} of their largest value: {listed}. Nothing was written"
    )


def listed(differences: Mapping[str, float]) -> str:
    """Format the differences, one line per tensor."""
    width = max(map(len, differences), default=0)
    return "\n".join(f"  {name:<{width}}  {value:.1e}" for name, value in differences.items())
