"""Overlays on yaml configs: ours, detectron2's and a user's."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, build_model

from shakedrop_det import add_training_config, model_zoo
from shakedrop_det.config import spec_from_config
from shakedrop_det.model_zoo import stock as stock_zoo
from shakedrop_det.model_zoo.overlays import apply_overlays
from shakedrop_det.modeling import ShakenBlock

from .trees import BACKBONES, OVERLAYS, differences, flat, keys_of, mirrored, ours, write

MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
C4 = "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml"
DC5 = "COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml"
DEFORMABLE = "Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5.yaml"
RESNET_20 = "CIFAR-Classification/resnet_20_cifar10.yaml"
SHAKE_SHAKE = "CIFAR-Classification/shake_shake_26_2x64d_cifar10.yaml"
SHAKEDROP = "MODEL.SHAKEDROP."
NORMS_LEARN = ("scratch", "syncbn", "3x_gn", "gn_3x")  # parts of names


def stock(name: str) -> CfgNode:
    """A config of detectron2's own."""
    cfg = get_cfg()
    add_training_config(cfg)
    cfg.merge_from_file(stock_zoo.get_config_file(name))
    return cfg


def test_these_are_the_overlays() -> None:
    methods = {"shakedrop", "vanilla", "random_drop", "erase_relu", "pretrained"}
    methods |= {"trained_norms", "cifar100"}
    names = model_zoo.list_overlays()
    assert set(names) == {*BACKBONES, *methods, "type_a", "type_b"}
    assert names == sorted(names)


@pytest.mark.parametrize(
    "overlay, changed, spec",
    [
        ("vanilla", {"ENABLED"}, {}),
        ("random_drop", {"BETA"}, {"alpha": (0, 0), "beta": (0, 0), "inverted": True}),
        (
            "erase_relu",
            {"ALPHA", "ERASE_RELU"},
            {"alpha": (-1, 1), "beta": (0, 1), "erase_relu": True, "survival_prob": 0.9},
        ),
    ],
)
def test_a_method_differs_from_the_recipe_in_shakedrop_alone(overlay, changed, spec) -> None:
    cfg = model_zoo.get_config(MASK_RCNN, [overlay])
    assert differences(flat(cfg), ours(MASK_RCNN)) == {SHAKEDROP + key for key in changed}
    assert cfg.MODEL.SHAKEDROP.ENABLED is (overlay != "vanilla")
    found = spec_from_config(cfg)
    assert {key: getattr(found, key) for key in spec} == spec


@pytest.mark.parametrize("recipe", [MASK_RCNN, C4, "Misc/mask_rcnn_R_50_FPN_3x_syncbn.yaml"])
def test_pretrained_has_the_papers_form_and_the_pixels_of_the_classification_stage(recipe) -> None:
    cfg = ours(recipe, "pretrained")
    pretraining = ours("ImageNet-Classification/resnet_50.yaml")
    pixels = {"MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.FORMAT"}
    conventions = {"MODEL.RESNETS.STRIDE_IN_1X1", *pixels}
    paper = {f"{SHAKEDROP}INVERTED", f"{SHAKEDROP}SURVIVAL_PROB"}
    assert differences(cfg, ours(recipe)) == {"MODEL.WEIGHTS", *conventions, *paper}
    assert {key: cfg[key] for key in conventions} == {key: pretraining[key] for key in conventions}
    assert (cfg[f"{SHAKEDROP}INVERTED"], cfg[f"{SHAKEDROP}SURVIVAL_PROB"]) == (False, 0.5)


def test_a_backbone_leaves_nothing_of_another() -> None:
    """Over a recipe of any backbone it gives the recipe of its own."""
    for recipe, overlay in itertools.permutations(BACKBONES, 2):
        name = "COCO-Detection/faster_rcnn_{}_FPN_1x.yaml"
        assert ours(name.format(recipe), overlay) == ours(name.format(overlay))


@pytest.mark.parametrize("overlay", ["R_101", "X_101_32x8d"])
def test_a_backbone_over_a_config_of_detectron2_gives_its_config_of_that_backbone(overlay) -> None:
    name = "COCO-Detection/faster_rcnn_{}_FPN_3x.yaml"
    cfg = stock(name.format("R_50"))
    model_zoo.apply_overlay(cfg, overlay)
    assert differences(flat(cfg), flat(stock(name.format(overlay)))) == set()


@pytest.mark.parametrize(
    "name", [name for name in mirrored() if not any(part in name for part in NORMS_LEARN)]
)
def test_shakedrop_over_a_config_of_detectron2_with_frozen_norms_gives_our_recipe(name) -> None:
    cfg = stock(name)
    model_zoo.apply_overlay(cfg, "shakedrop")
    assert differences(flat(cfg), ours(name)) == set()


@pytest.mark.parametrize("name", [MASK_RCNN, C4, "COCO-Detection/retinanet_R_50_FPN_1x.yaml"])
def test_a_method_over_a_config_of_detectron2_puts_its_network_under_that_method(name) -> None:
    cfg = stock(name)
    model_zoo.apply_overlay(cfg, "random_drop")
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    blocks = [module for module in model.modules() if isinstance(module, ShakenBlock)]
    assert [(block.spec.alpha, block.spec.beta) for block in blocks] == [((0, 0), (0, 0))] * 16


@pytest.mark.parametrize("kind", ["resnet", "resnet_fpn", "retinanet_resnet_fpn", "resnet_deeplab"])
def test_a_method_exchanges_each_stock_builder_and_no_other(kind) -> None:
    cfg = stock(MASK_RCNN)
    cfg.MODEL.BACKBONE.NAME = f"build_{kind}_backbone"
    model_zoo.apply_overlay(cfg, "erase_relu")
    expected = f"build_shakedrop_{kind}_backbone"
    assert expected in BACKBONE_REGISTRY and expected == cfg.MODEL.BACKBONE.NAME
    cfg.MODEL.BACKBONE.NAME = "build_mine"
    model_zoo.apply_overlay(cfg, "random_drop")
    assert cfg.MODEL.BACKBONE.NAME == "build_mine"


def test_an_overlay_suits_a_config_and_an_overlay_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "classes.yaml", MODEL={"ROI_HEADS": {"NUM_CLASSES": 3}})
    mine = write(
        tmp_path / "mine.yaml",
        _BASE_=model_zoo.get_config_file(MASK_RCNN),
        SOLVER={"MAX_ITER": 7, "STEPS": []},
    )
    overlay = write(
        tmp_path / "overlay.yaml",
        _BASE_=["parts/classes.yaml", str(OVERLAYS / "R_18.yaml")],
        MODEL={"SHAKEDROP": {"SURVIVAL_PROB": 0.8}},
        VERSION=2,
    )
    cfg = get_cfg()
    add_training_config(cfg)
    cfg.merge_from_file(mine)
    before = flat(cfg)
    model_zoo.apply_overlay(cfg, overlay)
    assert differences(flat(cfg), before) < {"MODEL.ROI_HEADS.NUM_CLASSES", *keys_of("R_18")}
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.SOLVER.MAX_ITER) == (3, 7)
    assert (cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.SHAKEDROP.SURVIVAL_PROB) == (18, 0.8)


def test_later_overlays_win() -> None:
    kept = ours(MASK_RCNN, "R_152", "pretrained")
    assert (kept["MODEL.RESNETS.DEPTH"], kept[f"{SHAKEDROP}INVERTED"]) == (152, False)
    assert ours(MASK_RCNN, "random_drop", "R_152") == ours(MASK_RCNN, "R_152", "random_drop")
    erased = ours(MASK_RCNN, "erase_relu", "random_drop")
    assert erased[f"{SHAKEDROP}ALPHA"] == [0.0, 0.0] and erased[f"{SHAKEDROP}ERASE_RELU"]


@pytest.mark.parametrize(
    "overlays",
    [
        ["R_18", "R_152"],
        ["random_drop", "erase_relu"],
        ["vanilla", "random_drop"],
        ["pretrained", "R_152"],
    ],
)
def test_an_overlay_of_which_later_ones_leave_nothing_is_refused(overlays) -> None:
    first, last = overlays
    with pytest.raises(
        ValueError, match=f"overlay '{first}' has no effect before '{last}'.*apply it last"
    ):
        model_zoo.get_config(MASK_RCNN, overlays)


@pytest.mark.parametrize(
    "wrong, near",
    [("random-drop", "random_drop"), ("R152", "R_152"), ("no/such/vanilla.yaml", "vanilla")],
)
def test_an_unknown_overlay_is_answered_with_the_nearest_and_all(wrong, near) -> None:
    with pytest.raises(ValueError, match="There is no overlay") as caught:
        model_zoo.get_config(MASK_RCNN, [wrong])
    message = str(caught.value)
    assert repr(wrong) in message and f"the nearest: {near}" in message
    assert message.endswith(", ".join(model_zoo.list_overlays()))


@pytest.mark.parametrize("overlay", ["R_50", "shakedrop"])
def test_an_overlay_that_changes_nothing_is_refused_with_the_others(overlay) -> None:
    with pytest.raises(ValueError, match=f"'{overlay}' changes nothing, .*R_101, .*vanilla$"):
        model_zoo.get_config(MASK_RCNN, [overlay])


@pytest.mark.parametrize(
    "name, overlay, reason",
    [
        (DC5, "R_18", "DEPTH is 18.*RES5_DILATION 2.*use a backbone of DEPTH 50 or more"),
        (C4, "R_34", "DEPTH is 34.*not supported by the res5 head.*DEPTH 50 or more"),
        (DEFORMABLE, "R_18", "DEFORM_ON_PER_STAGE.*DEPTH 50 or more"),
        (RESNET_20, "R_50", "build_shakedrop_cifar_resnet_backbone', whose DEPTH counts other"),
        (MASK_RCNN, "type_a", "two branches, but .*build_shakedrop_resnet_fpn_backbone"),
        (SHAKE_SHAKE, "random_drop", "apply 'type_a' or 'type_b' before it"),
        (SHAKE_SHAKE, "erase_relu", "apply 'type_a' or 'type_b' before it"),
    ],
)
def test_an_overlay_that_does_not_suit_is_refused_and_leaves_the_config_as_it_was(
    name, overlay, reason
) -> None:
    cfg = model_zoo.get_config(name)
    with pytest.raises(ValueError, match=f"'{overlay}' does not suit this config: .*{reason}"):
        model_zoo.apply_overlay(cfg, overlay)
    assert flat(cfg) == ours(name)


@pytest.mark.parametrize(
    "text, message",
    [
        ("MODEL: {NO_SUCH_KEY: 1}", "NO_SUCH_KEY"),
        ("SOLVER: {MAX_ITER: many}", "MAX_ITER"),
        ("MODEL: [", "is not valid yaml"),
        ("_BASE_: none.yaml", "No such file.*none.yaml"),
        ("", "no 'key: value' pairs"),
        ("- MODEL", "no 'key: value' pairs"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text, message) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)^overlay '.*wrong.yaml': .*({message})"):
        model_zoo.get_config(MASK_RCNN, [str(path)])


def test_a_config_without_the_keys_of_this_package_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="add_shakedrop_config"):
        model_zoo.apply_overlay(get_cfg(), "vanilla")


@pytest.mark.parametrize("rejected", ["type_a", "R_101"])
def test_a_rejected_overlay_takes_those_before_it_back(rejected) -> None:
    cfg = model_zoo.get_config(MASK_RCNN)
    before = flat(cfg)
    with pytest.raises(ValueError, match=f"'{rejected}'"):
        apply_overlays(cfg, ["R_101", rejected])
    assert flat(cfg) == before
