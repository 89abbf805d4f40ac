"""Comparing two networks stage by stage."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

import torch
from detectron2.modeling.backbone import ResNet
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor

from shakedrop_det.checkpoint.state_dict import StateDict
from shakedrop_det.data import ClassificationMapper

from .architecture import STAGES

Features = Callable[[Tensor], dict[str, Tensor]]
"""From normalized images (N, 3, H, W) to the output of each stage, and "linear", class scores."""

TOLERANCE = 1e-4
"""How far a stage's output may be off, relative to its largest value."""


def detectron2_features(network: ResNet, state: StateDict) -> Features:
    """What a ResNet of detectron2 computes.

    Args:
        network: in test mode, with the stem and all stages among its outputs.
        state: may hold the weights of a classifier, ``linear.*``, on top of it.
    """

    def compute(images: Tensor) -> dict[str, Tensor]:
        features = dict(network(images))
        if "linear.weight" in state:
            pooled = features["res5"].mean(dim=(2, 3))
            features["linear"] = F.linear(pooled, state["linear.weight"], state["linear.bias"])
        return features

    return compute


def torchvision_features(network: nn.Module, *, has_classifier: bool) -> Features:
    """What a ResNet of torchvision or timm computes.

    Args:
        network: in test mode.
        has_classifier: whether its output is class scores.
    """
    outputs = {"maxpool": "stem", **{f"layer{i}": stage for i, stage in enumerate(STAGES, 1)}}
    if has_classifier:
        outputs["fc"] = "linear"
    return create_feature_extractor(network, outputs)


@torch.no_grad()
def largest_differences(
    source: Features, target: Features, images: Sequence[Tensor]
) -> dict[str, float]:
    """The largest difference in each stage, relative to the largest value of the source there.

    Args:
        source, target: of two networks.
        images: normalized, (N, 3, H, W) each.

    Raises:
        ValueError: if a stage gives nothing but zeros, which shows nothing, or there are no images.
    """
    if not images:
        raise ValueError("The two networks need at least one image to be compared on")
    found: dict[str, list[Tensor]] = {}
    for image in images:
        expected, got = source(image), target(image)
        for stage, value in expected.items():
            scale = value.abs().max()
            if scale == 0:
                raise ValueError(
                    f"{stage} of the source gives nothing but zeros on an image: its weights are "
                    "not those of a trained network, and cannot be verified"
                )
            found.setdefault(stage, []).append((got[stage] - value).abs().max() / scale)
    # Of torch's: Python's max() may lose a difference that is not a number.
    return {stage: float(torch.stack(values).max()) for stage, values in found.items()}


def check_differences(differences: dict[str, float]) -> None:
    """Stop if a stage differs by more than :data:`TOLERANCE`.

    Raises:
        ValueError: listing all stages.
    """
    if all(difference < TOLERANCE for difference in differences.values()):
        return
    raise ValueError(
        f"The converted network computes something else than its source; largest differences, "
        f"where {TOLERANCE:g} is allowed:\n{table(differences)}\nThe source may have something "
        "that its weights do not tell, such as blurred or average pooling, another stride or "
        "another eps of its norms"
    )


def table(differences: dict[str, float]) -> str:
    """One line per stage."""
    return "\n".join(f"  {stage:<8}{difference:.1e}" for stage, difference in differences.items())


def random_images(size: int) -> list[Tensor]:
    """One image of noise, the same on each call."""
    return [torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))]


def read_images(paths: Sequence[str], conventions: Mapping[str, Any]) -> list[Tensor]:
    """Photographs as a network sees them in evaluation: 224 pixels wide and high, normalized.

    Args:
        paths: of image files.
        conventions: ``INPUT.FORMAT``, ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD``.

    Raises:
        UnreadableImageError: if a file is no image, naming it.
    """
    mapper = ClassificationMapper(
        is_train=False,
        image_format=conventions["INPUT.FORMAT"],
        pixel_mean=conventions["MODEL.PIXEL_MEAN"],
    )
    mean = torch.tensor(conventions["MODEL.PIXEL_MEAN"]).view(-1, 1, 1)
    std = torch.tensor(conventions["MODEL.PIXEL_STD"]).view(-1, 1, 1)
    images = (mapper({"file_name": path, "label": 0})["image"] for path in paths)
    return [((image - mean) / std)[None] for image in images]
