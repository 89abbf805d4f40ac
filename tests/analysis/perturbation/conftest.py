"""A small classifier under ShakeDrop, and images for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet

from shakedrop_det import ShakeDropSpec, shake
from shakedrop_det.analysis.perturbation import LabelledImages
from shakedrop_det.modeling.classification import ImageClassifier

Build = Callable[..., ImageClassifier]


@pytest.fixture
def classifier() -> Build:
    """``classifier(**spec)``: two residual blocks, three classes, in test mode."""

    def build(**spec: Any) -> ImageClassifier:
        torch.manual_seed(1)
        stem = BasicStem(3, 4, norm="BN")
        blocks = [BasicBlock(4, 4, norm="BN"), BasicBlock(4, 6, stride=2, norm="BN")]
        network = ResNet(stem, [[blocks[0]], [blocks[1]]], out_features=["res3"])
        if spec:
            shake(network, ShakeDropSpec(**{"inverted": False, "survival_prob": 0.0, **spec}))
        model = ImageClassifier(
            backbone=network,
            num_classes=3,
            in_feature="res3",
            pixel_mean=[0.0] * 3,
            pixel_std=[1.0] * 3,
        )
        torch.nn.init.normal_(model.linear.weight)
        return model.eval()

    return build


@pytest.fixture
def data() -> LabelledImages:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn((12, 3, 16, 16), generator=generator)
    return LabelledImages(images, torch.arange(12) % 3)
