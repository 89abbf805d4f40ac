"""Compare two networks stage by stage."""

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
"""Maps normalized images (N, 3, H, W) to the output of each stage, and "linear", class scores."""

TOLERANCE = 1e-4
"""Largest difference allowed in a stage's output, relative to its largest value."""


def detectron2_features(network: ResNet, state: StateDict) -> Features:
    """Return a function that runs a ResNet of detectron2.

    Args:
        network: a network in eval mode that outputs the stem and all stages.
        state: weights of the network, with ``linear.*`` for an optional classifier on top.
    """

    def compute(images: Tensor) -> dict[str, Tensor]:
        features = dict(network(images))
        if "linear.weight" in state:
            pooled = features["res5"].mean(dim=(2, 3))
            features["linear"] = F.linear(pooled, state["linear.weight"], state["linear.bias"])
        return features

    return compute


def torchvision_features(network: nn.Module, *, has_classifier: bool) -> Features:
    """Return a function that runs a ResNet of torchvision or timm.

    Args:
        network: a network in eval mode.
        has_classifier: whether the network outputs class scores.
    """
    outputs = {"maxpool": "stem", **{f"layer{i}": stage for i, stage in enumerate(STAGES, 1)}}
    if has_classifier:
        outputs["fc"] = "linear"
    return create_feature_extractor(network, outputs)


@torch.no_grad()
def largest_differences(
    source: Features, target: Features, images: Sequence[Tensor]
) -> dict[str, float]:
    """Return the largest difference in each stage, relative to the source's largest value there.

    Args:
        source, target: functions that run the two networks.
        images: normalized images, (N, 3, H, W) each.

    Raises:
        ValueError: if there are no images, or a stage outputs only zeros, which proves nothing.
    """
    if not images:
        raise ValueError("Comparing two networks needs at least one image")
    found: dict[str, list[Tensor]] = {}
    for image in images:
        expected, got = source(image), target(image)
        for stage, value in expected.items():
            scale = value.abs().max()
            if scale == 0:
                raise ValueError(
                    f"{stage} of the source outputs only zeros for an image: its weights are not "
                    "those of a trained network, and cannot be verified"
                )
            found.setdefault(stage, []).append((got[stage] - value).abs().max() / scale)
    # torch's max() propagates NaN; Python's may lose it.
    return {stage: float(torch.stack(values).max()) for stage, values in found.items()}


def check_differences(differences: dict[str, float]) -> None:
    """Check that no stage differs by :data:`TOLERANCE` or more.

    Raises:
        ValueError: if a stage differs, listing all stages.
    """
    if all(difference < TOLERANCE for difference in differences.values()):
        return
    raise ValueError(
        "The converted network's outputs differ from those of its source; largest differences, "
        f"where {TOLERANCE:g} is allowed:\n{table(differences)}\nThe source may have properties "
        "that its weights do not show, such as blurred or average pooling, another stride or "
        "another eps of its norms"
    )


def table(differences: dict[str, float]) -> str:
    """Format the differences, one line per stage."""
    return "\n".join(f"  {stage:<8}{difference:.1e}" for stage, difference in differences.items())


def random_images(size: int) -> list[Tensor]:
    """Return one image of noise, the same on each call."""
    return [torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))]


def read_images(paths: Sequence[str], conventions: Mapping[str, Any]) -> list[Tensor]:
    """Read images and preprocess them as for evaluation: 224x224 pixels, normalized.

    Args:
        paths: paths of image files.
        conventions: ``INPUT.FORMAT``, ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD``.

    Raises:
        UnreadableImageError: if a file is not an image, naming it.
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
