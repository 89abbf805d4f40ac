"""Convert ResNet weights of torchvision, timm and this package's classifiers, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

from torch import Tensor

from shakedrop_det.checkpoint.conventions import CONVENTIONS, SHAKEDROP, STRIDE_KEY
from shakedrop_det.checkpoint.state_dict import COUNTER, StateDict, load_exactly
from shakedrop_det.modeling.fold import fold

from .architecture import build_timm, build_torchvision
from .resnet_names import detectron2_to_torchvision
from .sources import STOCK, Source, backbone_state, build_backbone
from .verification import (
    check_differences,
    detectron2_features,
    largest_differences,
    torchvision_features,
)

TARGETS = ("detectron2", "torchvision", "timm")


@dataclass(frozen=True)
class Conversion:
    """Converted weights, verified to compute the same as their source.

    Attributes:
        content: contents for :func:`.weight_files.write_weights`.
        num_tensors: number of converted tensors.
        left_out: names of the source's tensors that were not converted.
        differences: largest difference by stage, see :func:`.verification.largest_differences`.
    """

    content: dict[str, Any]
    num_tensors: int
    left_out: tuple[str, ...]
    differences: dict[str, float]


def convert(
    source: Source, *, target: str, images: Sequence[Tensor], folded: bool = False
) -> Conversion:
    """Convert weights to the format of a library, and check that both networks compute the same.

    Args:
        source: see :func:`.sources.open_source`.
        target: one of :data:`TARGETS`.
        images: images to compare on, (N, 3, H, W) each and normalized.
        folded: whether to fold ShakeDrop's test scale into the weights for detectron2, too.

    Raises:
        ValueError: if the target has no such network, or its outputs differ.
    """
    if target == "detectron2":
        return to_detectron2(source, images=images, folded=folded)
    return to_torchvision(source, library=target, images=images)


def to_detectron2(source: Source, *, images: Sequence[Tensor], folded: bool = False) -> Conversion:
    """Convert to a checkpoint for ``MODEL.WEIGHTS`` of this package or of stock detectron2.

    Its keys are those of :class:`detectron2.modeling.backbone.ResNet`, with ``linear.*`` for the
    classifier, as in :class:`shakedrop_det.modeling.ImageClassifier`. It also records the
    conventions that :class:`.checkpointer.Checkpointer` compares.

    Args and errors: see :func:`convert`.
    """
    state, settings = source.state, source.shakedrop
    if folded:
        state, settings = folded_state(source), STOCK
    state = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
    backbone = build_backbone(source.architecture, source.conventions, settings)
    load_exactly(backbone, backbone_state(state))
    differences = largest_differences(source.features, detectron2_features(backbone, state), images)
    check_differences(differences)
    content = {
        "model": state,
        "__author__": source.name,
        "matching_heuristics": True,
        CONVENTIONS: source.conventions,
        SHAKEDROP: settings,
    }
    counters = tuple(key for key in source.state if key.endswith(COUNTER))
    return Conversion(content, len(state), (*source.left_out, *counters), differences)


def to_torchvision(source: Source, *, library: str, images: Sequence[Tensor]) -> Conversion:
    """Convert to a state dict that a ResNet of torchvision or timm loads strictly.

    ShakeDrop's test scale is folded into the weights, see :func:`shakedrop_det.fold`.

    Args:
        library: "torchvision" or "timm", whose network verifies the result. The names are the same.
        source, images: see :func:`convert`.

    Raises:
        ValueError: see :func:`convert`.
    """
    if source.architecture.is_bottleneck and source.conventions[STRIDE_KEY]:
        raise ValueError(
            f"{source.name} has {STRIDE_KEY} True, but the ResNets of {library} have their stride "
            "in the 3x3 convolution, and would compute something else with these weights"
        )
    state = detectron2_to_torchvision(folded_state(source)).state
    build = build_torchvision if library == "torchvision" else build_timm
    network = build(source.architecture)
    load_exactly(network, state)
    has_classifier = source.num_classes is not None
    features = torchvision_features(network, has_classifier=has_classifier)
    differences = largest_differences(source.features, features, images)
    check_differences(differences)
    return Conversion(state, len(state), source.left_out, differences)


def folded_state(source: Source) -> StateDict:
    """Return the weights for stock blocks, with the test scale folded into the last norm of each.

    Raises:
        ValueError: if the blocks have no final ReLU.
    """
    if not source.shakedrop["MODEL.SHAKEDROP.ENABLED"]:
        return dict(source.state)
    if source.shakedrop.get("MODEL.SHAKEDROP.ERASE_RELU"):
        raise ValueError(
            f"{source.name} was trained with MODEL.SHAKEDROP.ERASE_RELU True: its blocks lack the "
            "final ReLU of the blocks of torchvision, timm and stock detectron2, so no weights "
            "make those compute the same"
        )
    network = build_backbone(source.architecture, source.conventions, source.shakedrop)
    load_exactly(network, backbone_state(source.state))
    return {**source.state, **fold(network).state_dict()}
