"""The recipes of the classification stage, and the overlays on them, which change ShakeDrop
alone."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from shakedrop_det import model_zoo
from shakedrop_det.config import spec_from_config
from shakedrop_det.engine import epochs_to_iterations
from shakedrop_det.modeling import ShakenBlock

from .trees import differences, ours

CIFAR = [
    f"CIFAR-Classification/{network}_cifar10"
    for network in (
        "resnet_20",
        "resnet_56",
        "resnet_110",
        "resnet_164",
        "pyramidnet_110_alpha270",
        "pyramidnet_272_alpha200",
        "wide_resnet_28_10",
        "resnext_29_8x64d",
        "resnext_29_16x64d",
        "resnext_164_2x1x40d",
        "shake_shake_26_2x64d",
    )
]
PYRAMIDNET_CIFAR100 = "CIFAR-Classification/pyramidnet_110_alpha270_cifar100"
IMAGENET = [
    f"ImageNet-Classification/{network}"
    for network in (
        "resnet_50",
        "resnet_101",
        "resnet_152",
        "resnext_101_32x8d",
        "resnext_152_32x4d",
    )
]
ENABLED = "MODEL.SHAKEDROP.ENABLED"
PARAMETERS = {
    # He et al., CVPR 2016, table 6, and ECCV 2016, table 3.
    "resnet_20": 0.27,
    "resnet_56": 0.85,
    "resnet_110": 1.7,
    "resnet_164": 1.7,
    # Han et al., CVPR 2017, table 4.
    "pyramidnet_110_alpha270": 28.3,
    "pyramidnet_272_alpha200": 26.0,
    # Zagoruyko and Komodakis 2016, table 5, without the norms that ShakeDrop's authors add.
    "wide_resnet_28_10": 36.5,
    # Xie et al., CVPR 2017, table 7.
    "resnext_29_8x64d": 34.4,
    "resnext_29_16x64d": 68.1,
    # Gastaldi 2017, table 1.
    "shake_shake_26_2x64d": 11.7,
    # torchvision's weights; Xie et al., CVPR 2017, have no X-152.
    "resnet_50": 25.557032,
    "resnet_101": 44.549160,
    "resnet_152": 60.192808,
    "resnext_101_32x8d": 88.791336,
}
"""In millions, as published."""


@functools.lru_cache(maxsize=None)
def built(name: str, *overlays: str) -> nn.Module:
    """Backbone and classifier of a config, without memory for their weights."""
    cfg = model_zoo.get_config(f"{name}.yaml", overlays)
    with torch.device("meta"):
        backbone = build_backbone(cfg, ShapeSpec(channels=3))
        (feature,) = backbone.output_shape().values()
        linear = nn.Linear(feature.channels, cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES)
    assert list(backbone.output_shape()) == [cfg.MODEL.IMAGE_CLASSIFIER.IN_FEATURE]
    return nn.ModuleList([backbone, linear])


def blocks_of(network: nn.Module) -> list[ShakenBlock]:
    return [module for module in network.modules() if isinstance(module, ShakenBlock)]


def test_there_is_one_recipe_for_each_network_and_data_set_of_a_few_lines_over_a_base() -> None:
    folders = ("CIFAR-Classification", "ImageNet-Classification")
    found = {name for name in model_zoo.list() if name.split("/")[0] in folders}
    recipes = {f"{name}.yaml" for name in [*CIFAR, PYRAMIDNET_CIFAR100, *IMAGENET]}
    # That one evaluates converted weights.
    assert found == {*recipes, "ImageNet-Classification/resnet_18_converted.yaml"}
    for name in recipes:
        lines = Path(model_zoo.get_config_file(name)).read_text().splitlines()
        lines = [line for line in lines if not line.startswith("#")]
        assert lines[0].startswith("_BASE_: ") and len(lines) <= 26, name


@pytest.mark.parametrize("name", CIFAR + IMAGENET)
def test_a_recipe_trains_the_network_under_shakedrop_from_scratch(name) -> None:
    cfg = model_zoo.get_config(f"{name}.yaml")
    spec = spec_from_config(cfg)
    assert cfg.MODEL.SHAKEDROP.ENABLED and "survival_prob=" in repr(built(name))
    assert not cfg.MODEL.WEIGHTS and not spec.inverted and cfg.MODEL.BACKBONE.FREEZE_AT == 0
    if "shake_shake" not in name:
        assert (spec.beta, spec.survival_prob) == ((0, 1), 0.5)
        ends_in_relu = {block.ENDS_IN_RELU for block in blocks_of(built(name))}
        assert spec.alpha == ((0, 0) if ends_in_relu == {True} else (-1, 1))


@pytest.mark.parametrize("name", CIFAR + IMAGENET)
def test_vanilla_is_the_same_network_without_shakedrop(name) -> None:
    assert differences(ours(f"{name}.yaml", "vanilla"), ours(f"{name}.yaml")) == {ENABLED}
    vanilla = built(name, "vanilla")
    assert "survival_prob=" not in repr(vanilla)
    shapes = {key: value.shape for key, value in vanilla.state_dict().items()}
    assert shapes == {key: value.shape for key, value in built(name).state_dict().items()}


@pytest.mark.parametrize(
    "network, overlays, settings",
    [
        ("resnet_110", ["random_drop"], {"alpha": (0, 0), "beta": (0, 0), "erase_relu": False}),
        ("resnet_110", ["erase_relu"], {"alpha": (-1, 1), "beta": (0, 1), "erase_relu": True}),
        ("shake_shake_26_2x64d", ["type_a"], {"branches": "sum", "alpha": (-1, 1)}),
        ("shake_shake_26_2x64d", ["type_b"], {"branches": "each", "alpha": (-1, 1)}),
        (
            "shake_shake_26_2x64d",
            ["type_a", "random_drop"],
            {"branches": "sum", "alpha": (0, 0), "beta": (0, 0), "decay": "linear"},
        ),
    ],
)
def test_overlays_change_shakedrop_alone(network, overlays, settings) -> None:
    name = f"CIFAR-Classification/{network}_cifar10"
    changed = differences(ours(f"{name}.yaml", *overlays), ours(f"{name}.yaml"))
    assert changed and all(key.startswith("MODEL.SHAKEDROP.") for key in changed)
    spec = spec_from_config(model_zoo.get_config(f"{name}.yaml", overlays))
    assert {key: getattr(spec, key) for key in settings} == settings
    assert spec.survival_prob == 0.5 and not spec.inverted
    assert "survival_prob=0.5" in repr(built(name, *overlays))


CIFAR100_DATA = {
    "DATASETS.TRAIN",
    "DATASETS.TEST",
    "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES",
    "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD",
}


@pytest.mark.parametrize("name", CIFAR)
def test_cifar100_differs_from_cifar10_in_the_data(name) -> None:
    changed = differences(ours(f"{name}.yaml", "cifar100"), ours(f"{name}.yaml"))
    assert changed == CIFAR100_DATA


def test_the_pyramidnet_of_the_paper_has_a_rate_of_its_own_on_cifar100() -> None:
    cifar10 = ours("CIFAR-Classification/pyramidnet_110_alpha270_cifar10.yaml")
    changed = differences(ours(f"{PYRAMIDNET_CIFAR100}.yaml"), cifar10)
    assert changed == {*CIFAR100_DATA, "SOLVER.BASE_LR"}


@pytest.mark.parametrize("network", PARAMETERS)
def test_a_network_has_as_many_parameters_as_published(network) -> None:
    names = [n for n in CIFAR + IMAGENET if n.split("/")[1] in (network, f"{network}_cifar10")]
    (name,) = names
    count = sum(p.numel() for p in built(name).parameters()) / 1e6
    if name.startswith("ImageNet"):  # torchvision's count is exact
        assert count == PARAMETERS[network]
    else:  # published with two digits, and of shortcuts without parameters in ResNets
        assert count == pytest.approx(PARAMETERS[network], rel=0.02)


def test_the_recipes_are_those_that_are_reported() -> None:
    """In iterations: of 50000 images by 128, and of ImageNet's by 256."""
    cifar = epochs_to_iterations(
        model_zoo.get_config("CIFAR-Classification/resnet_110_cifar10.yaml"), 50_000
    ).SOLVER
    assert cifar.MAX_ITER == 117_188 and cifar.STEPS == (58_594, 87_891)
    imagenet = epochs_to_iterations(
        model_zoo.get_config("ImageNet-Classification/resnet_152.yaml"), 1_281_167
    ).SOLVER
    assert imagenet.MAX_ITER == 450_410 and imagenet.STEPS == (150_137, 300_274)
    pyramidnet = epochs_to_iterations(
        model_zoo.get_config("CIFAR-Classification/pyramidnet_272_alpha200_cifar10.yaml"), 50_000
    )
    assert pyramidnet.SOLVER.MAX_ITER == 1_406_250  # of 64 images
    assert pyramidnet.INPUT.CLASSIFICATION.AUTO_AUGMENT == "autoaugment_cifar10"
    names = [*CIFAR, PYRAMIDNET_CIFAR100, *IMAGENET]
    rates = {name: ours(f"{name}.yaml")["SOLVER.BASE_LR"] for name in names}
    special = {name: rate for name, rate in rates.items() if rate != 0.1}
    assert special == {
        PYRAMIDNET_CIFAR100: 0.5,
        "CIFAR-Classification/pyramidnet_272_alpha200_cifar10": 0.05,
        "CIFAR-Classification/shake_shake_26_2x64d_cifar10": 0.2,
    }


def test_pretraining_and_the_detectors_that_take_it_agree_on_pixels_and_strides() -> None:
    """As a checkpoint's conventions are compared when a detector loads it."""
    keys = ["INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "MODEL.RESNETS.STRIDE_IN_1X1"]
    networks = {
        "resnet_50": "R_50",
        "resnet_101": "R_101",
        "resnet_152": "R_152",
        "resnext_101_32x8d": "X_101_32x8d",
        "resnext_152_32x4d": "X_152_32x4d",
    }
    for classifier, backbone in networks.items():
        source = ours(f"ImageNet-Classification/{classifier}.yaml")
        detector = ours(f"COCO-Detection/faster_rcnn_{backbone}_FPN_1x.yaml", "pretrained")
        for key in [*keys, *(f"MODEL.RESNETS.{k}" for k in ("DEPTH", "NUM_GROUPS"))]:
            assert source[key] == detector[key], (classifier, key)
