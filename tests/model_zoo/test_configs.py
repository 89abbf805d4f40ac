"""The tree of yaml configs: detectron2's, for more backbones and in all forms."""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path
from unittest.mock import ANY

import pytest
import torch
import torchvision
from detectron2 import model_zoo as stock_zoo
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from shakedrop_det import add_shakedrop_config, model_zoo
from shakedrop_det.config import spec_from_config
from shakedrop_det.model_zoo.forms import FAMILIES, FORMS, base_configs, form_files

from .trees import BACKBONES, backbone_of, differences, flat, mirrored, ours

RENAMED = {
    "build_resnet_backbone": "build_shakedrop_resnet_backbone",
    "build_resnet_fpn_backbone": "build_shakedrop_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone": "build_shakedrop_retinanet_resnet_fpn_backbone",
    "Res5ROIHeads": "ShakeDropRes5ROIHeads",
}
BACKBONE_KEYS = {
    "MODEL.WEIGHTS",
    "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD",
    "MODEL.RESNETS.DEPTH",
    "MODEL.RESNETS.NUM_GROUPS",
    "MODEL.RESNETS.RES2_OUT_CHANNELS",
    "MODEL.RESNETS.STRIDE_IN_1X1",
    "MODEL.RESNETS.WIDTH_PER_GROUP",
    "INPUT.FORMAT",
}
IN_ALL_BACKBONES = [
    *[
        f"COCO-Detection/{kind}_{{}}_FPN_{n}x"
        for kind in ("faster_rcnn", "retinanet")
        for n in "13"
    ],
    *[f"COCO-InstanceSegmentation/mask_rcnn_{{}}_FPN_{n}" for n in ("1x", "3x", "1x_giou")],
    *[f"COCO-Keypoints/keypoint_rcnn_{{}}_FPN_{n}x" for n in "13"],
    *[f"COCO-PanopticSegmentation/panoptic_fpn_{{}}_{n}x" for n in "13"],
    *[f"LVIS{v}-InstanceSegmentation/mask_rcnn_{{}}_FPN_1x" for v in ("v0.5", "v1")],
    *[f"Misc/cascade_mask_rcnn_{{}}_FPN_{n}x" for n in "13"],
    "Misc/mask_rcnn_{}_FPN_3x_syncbn",
    "Cityscapes/mask_rcnn_{}_FPN",
    "PascalVOC-Detection/faster_rcnn_{}_FPN",
]
DEFORMABLE = [f"Misc/mask_rcnn_{{}}_FPN_{n}x_dconv_c3-c5" for n in "13"]


BASE_CONFIGS = base_configs()
forms_of = functools.cache(form_files)


def text_of(name: str) -> str:
    return Path(model_zoo.get_config_file(name)).read_text()


@pytest.mark.parametrize("name", mirrored())
def test_a_config_of_detectron2_differs_in_the_backbone_and_the_keys_of_this_package(name) -> None:
    stock, cfg = flat(stock_zoo.get_config(name)), dict(ours(name))
    stock["MODEL.BACKBONE.NAME"] = RENAMED[stock["MODEL.BACKBONE.NAME"]]
    if "_C4" in name:  # their heads hold res5
        stock["MODEL.ROI_HEADS.NAME"] = RENAMED[stock["MODEL.ROI_HEADS.NAME"]]
    defaults = get_cfg()
    add_shakedrop_config(defaults)
    added = {key: value for key, value in flat(defaults).items() if key not in stock}
    expected = {**stock, **added}
    if stock["MODEL.WEIGHTS"]:
        expected.update({"MODEL.SHAKEDROP.INVERTED": True, "MODEL.SHAKEDROP.SURVIVAL_PROB": 0.9})
    if stock["MODEL.RESNETS.NORM"] == "FrozenBN":
        expected["SOLVER.CLIP_GRADIENTS.ENABLED"] = True
    clipping = "SOLVER.CLIP_GRADIENTS.CLIP_TYPE"
    assert cfg.pop(clipping) == ("norm" if expected["SOLVER.CLIP_GRADIENTS.ENABLED"] else ANY)
    del expected[clipping]
    assert differences(cfg, expected) == set()


def test_the_families_are_complete_for_all_backbones() -> None:
    names = {f"{pattern}.yaml" for pattern in IN_ALL_BACKBONES + DEFORMABLE}
    wanted = {name.format(backbone) for name in names for backbone in BACKBONES}
    # detectron2's basic block has no deformable version.
    wanted -= {name.format(b) for name in names if "dconv" in name for b in ("R_18", "R_34")}
    assert wanted - set(BASE_CONFIGS) == set()
    assert set(BASE_CONFIGS) == wanted | set(mirrored())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_configs_of_a_backbone_differ_from_those_of_resnet_50_in_the_backbone_alone(
    backbone,
) -> None:
    base = ours(f"Base-Backbone/{backbone}.yaml")
    for name in (f"{pattern}.yaml" for pattern in IN_ALL_BACKBONES + DEFORMABLE):
        if "dconv" in name and backbone in ("R_18", "R_34"):
            continue
        cfg = ours(name.format(backbone))
        assert differences(cfg, ours(name.format("R_50"))) <= BACKBONE_KEYS, name
        own = BACKBONE_KEYS - ({"MODEL.WEIGHTS"} if name.startswith("Cityscapes") else set())
        assert {key: cfg[key] for key in own} == {key: base[key] for key in own}, name


@pytest.mark.parametrize("name", BASE_CONFIGS)
def test_forms_differ_from_their_config_in_what_they_are_named_for(name) -> None:
    base = ours(name)
    forms = {form: name.replace(".yaml", f"_{form}.yaml") for form in FORMS}
    changed = {
        form: differences(ours(file), base)
        for form, file in forms.items()
        if file in forms_of(name)
    }
    assert set(changed) >= {"vanilla", "random_drop", "erase_relu"}
    assert changed["vanilla"] == {"MODEL.SHAKEDROP.ENABLED"}
    assert changed["random_drop"] == {"MODEL.SHAKEDROP.BETA"}
    erase_relu = {"MODEL.SHAKEDROP.ALPHA", "MODEL.SHAKEDROP.ERASE_RELU"}
    assert changed["erase_relu"] == erase_relu
    from_scratch = base["MODEL.WEIGHTS"] == ""
    assert ("pretrained" in changed) == ("erase_relu_pretrained" in changed) == (not from_scratch)
    if not from_scratch:
        pixels = {"MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.FORMAT"}
        weights = {"MODEL.WEIGHTS", "MODEL.RESNETS.STRIDE_IN_1X1", *pixels}
        paper = {"MODEL.SHAKEDROP.INVERTED", "MODEL.SHAKEDROP.SURVIVAL_PROB"}
        assert paper <= changed["pretrained"] <= paper | weights
        assert differences(ours(forms["erase_relu_pretrained"]), ours(forms["pretrained"])) == {
            *erase_relu,
            "MODEL.WEIGHTS",
        }
    for form, alpha, beta in (
        ("random_drop", [0.0, 0.0], [0.0, 0.0]),
        ("erase_relu", [-1.0, 1.0], [0.0, 1.0]),
    ):
        cfg = ours(forms[form])
        assert (cfg["MODEL.SHAKEDROP.ALPHA"], cfg["MODEL.SHAKEDROP.BETA"]) == (alpha, beta)


def test_the_files_of_the_forms_are_as_the_tool_writes_them_and_there_are_no_others() -> None:
    files: dict[str, str] = {}
    for name in BASE_CONFIGS:
        files.update(forms_of(name))
    assert {name: text_of(name) for name in files} == files, "run tools/write_config_forms.py"
    in_families = {name for name in model_zoo.list() if name.split("/")[0] in FAMILIES}
    assert in_families == files.keys() | set(BASE_CONFIGS)


def test_each_config_is_a_few_lines_over_a_base() -> None:
    large = {
        "Misc/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv.yaml",
        "Misc/panoptic_fpn_R_101_dconv_cascade_gn_3x.yaml",
    }
    for name in BASE_CONFIGS:
        lines = [line for line in text_of(name).splitlines() if not line.startswith("#")]
        assert lines[0].startswith("_BASE_: "), name
        assert len(lines) <= (38 if name in large else 19), name
        assert all(text.count("\n") <= 3 for text in forms_of(name).values())


def test_weights_are_of_detectron2_or_of_a_file_that_is_said_how_to_make() -> None:
    local = {}
    for name in BASE_CONFIGS:
        weights = ours(name)["MODEL.WEIGHTS"]
        if weights.startswith("detectron2://"):
            assert backbone_of(weights.replace("-", "_")) == backbone_of(name)
        elif weights.startswith("catalog://"):  # detectron2's other names, mirrored above
            assert name in mirrored()
        elif weights:
            local[name] = weights
    for name, weights in local.items():
        source = f"Base-Backbone/{backbone_of(name)}.yaml" if "Cityscapes" not in name else name
        assert weights.startswith("weights/")
        comments = "".join(re.findall("#(.*)", text_of(source)))
        made = (
            f"tools/convert_weights.py torchvision:{Path(weights).stem} --output {weights}"
            in comments
        )
        assert made or "model_final.pth of" in comments, name
        if made:
            assert torchvision.models.get_model_weights(Path(weights).stem)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_backbone_has_the_convolutions_of_torchvisions_network(backbone) -> None:
    cfg = model_zoo.get_config(f"Base-Backbone/{backbone}.yaml")
    cfg.MODEL.BACKBONE.NAME = "build_shakedrop_resnet_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    depth, groups, width = re.fullmatch(r"[RX]_(\d+)(?:_(\d+)x(\d+)d)?", backbone).groups()
    blocks = {"18": [2, 2, 2, 2], "101": [3, 4, 23, 3], "152": [3, 8, 36, 3]}.get(
        depth, [3, 4, 6, 3]
    )
    with torch.device("meta"):
        network = build_backbone(cfg, ShapeSpec(channels=3))
        reference = ResNet(
            BasicBlock if int(depth) < 50 else Bottleneck,
            blocks,
            groups=int(groups or 1),
            width_per_group=int(width or 64),
        )
    assert convolutions(network) == convolutions(reference)
    if not cfg.MODEL.WEIGHTS.startswith("detectron2://"):
        preset = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
        assert cfg.INPUT.FORMAT == "RGB"
        assert [m / 255 for m in cfg.MODEL.PIXEL_MEAN] == pytest.approx(preset.mean)
        assert [s / 255 for s in cfg.MODEL.PIXEL_STD] == pytest.approx(preset.std)
        assert not cfg.MODEL.RESNETS.STRIDE_IN_1X1


def convolutions(network: nn.Module) -> Counter:
    return Counter(
        (tuple(conv.weight.shape), conv.groups)
        for conv in network.modules()
        if isinstance(conv, nn.Conv2d)
    )


@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_form_is_a_valid_spec(backbone) -> None:
    base = f"COCO-Detection/faster_rcnn_{backbone}_FPN_1x.yaml"
    for name in (base, *forms_of(base)):
        spec = spec_from_config(model_zoo.get_config(name))
        assert spec.inverted == ("pretrained" not in name)
        assert spec.survival_prob == (0.9 if spec.inverted else 0.5)
        assert spec.erase_relu == ("erase_relu" in name)
