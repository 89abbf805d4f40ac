"""The configs of the classification stage: networks, recipes, and forms that differ in ShakeDrop
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
from shakedrop_det.model_zoo.forms import form_files

from .trees import differences, ours

CIFAR = [
    f"CIFAR-Classification/{network}_{data}"
    for network in (
        "resnet_20",
        "resnet_56",
        "resnet_110",
        "resnet_164",
        "pyramidnet_110_alpha270",
        "shake_shake_26_2x64d",
    )
    for data in ("cifar10", "cifar100")
]
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
FORMS = {"vanilla", "random_drop", "erase_relu"}
FORMS_OF_TWO_BRANCHES = {"vanilla", "random_drop", "type_a", "type_b"}
PARAMETERS = {
    # He et al., CVPR 2016, table 6, and ECCV 2016, table 3.
    "resnet_20": 0.27,
    "resnet_56": 0.85,
    "resnet_110": 1.7,
    "resnet_164": 1.7,
    # Han et al., CVPR 2017, table 4.
    "pyramidnet_110_alpha270": 28.3,
    # Gastaldi 2017, table 1.
    "shake_shake_26_2x64d": 11.7,
    # torchvision's weights; Xie et al., CVPR 2017, have no X-152.
    "resnet_50": 25.557032,
    "resnet_101": 44.549160,
    "resnet_152": 60.192808,
    "resnext_101_32x8d": 88.791336,
}
"""In millions, as published."""


def forms_of(name: str) -> set[str]:
    return FORMS_OF_TWO_BRANCHES if "shake_shake" in name else FORMS


ALL = [
    name + form
    for name in CIFAR + IMAGENET
    for form in (".yaml", *sorted(f"_{form}.yaml" for form in forms_of(name)))
]


@functools.lru_cache(maxsize=None)
def built(name: str) -> nn.Module:
    """Backbone and classifier of a config, without memory for their weights."""
    cfg = model_zoo.get_config(name)
    with torch.device("meta"):
        backbone = build_backbone(cfg, ShapeSpec(channels=3))
        (feature,) = backbone.output_shape().values()
        linear = nn.Linear(feature.channels, cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES)
    assert list(backbone.output_shape()) == [cfg.MODEL.IMAGE_CLASSIFIER.IN_FEATURE]
    return nn.ModuleList([backbone, linear])


def test_these_are_all_the_configs_and_each_is_a_few_lines_over_a_base() -> None:
    folders = ("CIFAR-Classification", "ImageNet-Classification")
    found = {name for name in model_zoo.list() if name.split("/")[0] in folders}
    # That one evaluates converted weights.
    assert found == {*ALL, "ImageNet-Classification/resnet_18_converted.yaml"}
    for name in ALL:
        lines = Path(model_zoo.get_config_file(name)).read_text().splitlines()
        lines = [line for line in lines if not line.startswith("#")]
        assert lines[0].startswith("_BASE_: ") and len(lines) <= 18, name


@pytest.mark.parametrize("name", ALL)
def test_each_config_builds_its_network_under_its_settings_alone(name) -> None:
    cfg = model_zoo.get_config(name)
    spec = spec_from_config(cfg)
    base = next(base for base in CIFAR + IMAGENET if f"{name[:-5]}_".startswith(f"{base}_"))
    enabled = not name.endswith("_vanilla.yaml")
    assert cfg.MODEL.SHAKEDROP.ENABLED is enabled
    assert ("survival_prob=" in repr(built(name))) is enabled
    shapes = {key: value.shape for key, value in built(name).state_dict().items()}
    assert shapes == {k: v.shape for k, v in built(f"{base}.yaml").state_dict().items()}
    assert not cfg.MODEL.WEIGHTS and not spec.inverted and cfg.MODEL.BACKBONE.FREEZE_AT == 0


@pytest.mark.parametrize("name", CIFAR + IMAGENET)
def test_forms_differ_from_their_config_in_shakedrop_alone(name) -> None:
    base = ours(f"{name}.yaml")
    changed = {form: differences(ours(f"{name}_{form}.yaml"), base) for form in forms_of(name)}
    assert all(key.startswith("MODEL.SHAKEDROP.") for keys in changed.values() for key in keys)
    assert changed["vanilla"] == {"MODEL.SHAKEDROP.ENABLED"}
    random_drop = spec_from_config(model_zoo.get_config(f"{name}_random_drop.yaml"))
    assert random_drop.alpha == random_drop.beta == (0, 0)
    assert (random_drop.survival_prob, random_drop.decay) == (0.5, "linear")
    if "shake_shake" in name:
        for form, branches in (("type_a", "sum"), ("type_b", "each")):
            spec = spec_from_config(model_zoo.get_config(f"{name}_{form}.yaml"))
            assert (spec.branches, spec.alpha, spec.beta) == (branches, (-1, 1), (0, 1))
        return
    assert changed["random_drop"] == {"MODEL.SHAKEDROP.BETA"}
    assert changed["erase_relu"] == {"MODEL.SHAKEDROP.ALPHA", "MODEL.SHAKEDROP.ERASE_RELU"}
    assert (base["MODEL.SHAKEDROP.ALPHA"], base["MODEL.SHAKEDROP.BETA"]) == ([0, 0], [0, 1])
    files = form_files(f"{name}.yaml")
    for form in FORMS:
        path = Path(model_zoo.get_config_file(f"{name}_{form}.yaml"))
        assert path.read_text() == files[f"{name}_{form}.yaml"]


@pytest.mark.parametrize("name", [name for name in CIFAR if name.endswith("cifar100")])
def test_cifar100_differs_from_cifar10_in_the_data(name) -> None:
    changed = differences(ours(f"{name}.yaml"), ours(f"{name[:-3]}10.yaml"))
    data = {"DATASETS.TRAIN", "DATASETS.TEST", "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES"}
    data |= {"MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"}
    # The learning rate of the PyramidNet paper depends on it.
    assert changed == data | ({"SOLVER.BASE_LR"} if "pyramidnet" in name else set())


@pytest.mark.parametrize("network", PARAMETERS)
def test_a_network_has_as_many_parameters_as_published(network) -> None:
    names = [n for n in CIFAR + IMAGENET if n.split("/")[1] in (network, f"{network}_cifar10")]
    (name,) = names
    count = sum(p.numel() for p in built(f"{name}.yaml").parameters()) / 1e6
    if name.startswith("ImageNet"):  # torchvision's count is exact
        assert count == PARAMETERS[network]
    else:  # published with two digits, and of shortcuts without parameters in ResNets
        assert count == pytest.approx(PARAMETERS[network], rel=0.02)


def test_the_recipes_are_those_that_are_reported() -> None:
    """In iterations: of 50000 images by 128, and of ImageNet's by 256."""
    cifar = epochs_to_iterations(
        model_zoo.get_config("CIFAR-Classification/resnet_110_cifar100.yaml"), 50_000
    ).SOLVER
    assert cifar.MAX_ITER == 117_188 and cifar.STEPS == (58_594, 87_891)
    imagenet = epochs_to_iterations(
        model_zoo.get_config("ImageNet-Classification/resnet_152.yaml"), 1_281_167
    ).SOLVER
    assert imagenet.MAX_ITER == 450_410 and imagenet.STEPS == (150_137, 300_274)
    rates = {name: ours(f"{name}.yaml")["SOLVER.BASE_LR"] for name in CIFAR + IMAGENET}
    special = {name: rate for name, rate in rates.items() if rate != 0.1}
    assert special == {
        "CIFAR-Classification/pyramidnet_110_alpha270_cifar100": 0.5,
        "CIFAR-Classification/shake_shake_26_2x64d_cifar10": 0.2,
        "CIFAR-Classification/shake_shake_26_2x64d_cifar100": 0.2,
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
        detector = ours(f"COCO-Detection/faster_rcnn_{backbone}_FPN_1x_pretrained.yaml")
        for key in [*keys, *(f"MODEL.RESNETS.{k}" for k in ("DEPTH", "NUM_GROUPS"))]:
            assert source[key] == detector[key], (classifier, key)
