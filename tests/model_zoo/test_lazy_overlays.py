"""Overlays on lazy configs: ours, detectron2's and a user's. Their values are those of the yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig

from shakedrop_det import model_zoo
from shakedrop_det.model_zoo import stock as stock_zoo

from .test_lazy_configs import C4, MASK_RCNN, RETINANET, plain
from .trees import write


def ours(name: str, *overlays: str) -> Any:
    return plain(model_zoo.get_config(f"lazy/{name}.py", overlays))


def stock(name: str) -> DictConfig:
    return stock_zoo.get_config(f"{name}.py")


@pytest.mark.parametrize("name", [MASK_RCNN, C4, RETINANET, "COCO-Detection/fcos_R_50_FPN_1x"])
def test_shakedrop_over_a_config_of_detectron2_gives_our_recipe(name) -> None:
    cfg = stock(name)
    model_zoo.apply_overlay(cfg, "shakedrop")
    assert plain(cfg) == ours(name)


@pytest.mark.parametrize("name", [MASK_RCNN, C4])
def test_vanilla_gives_the_model_of_detectron2(name) -> None:
    cfg = model_zoo.get_config(f"lazy/{name}.py", ["vanilla"])
    assert plain(cfg.model) == plain(stock(name).model)


@pytest.mark.parametrize(
    "name, backbone",
    [(MASK_RCNN, "R_18"), (MASK_RCNN, "X_152_32x4d"), (C4, "X_101_32x8d"), (RETINANET, "R_34")],
)
def test_a_backbone_leaves_nothing_of_another(name, backbone) -> None:
    cfg = model_zoo.get_config(f"lazy/{name}.py", [backbone])
    assert plain(cfg) != ours(name)
    model_zoo.apply_overlay(cfg, "R_50")
    assert plain(cfg) == ours(name)


def test_a_backbone_over_a_config_of_detectron2_leaves_it_without_shakedrop() -> None:
    cfg = stock(MASK_RCNN)
    model_zoo.apply_overlay(cfg, "R_152")
    expected = stock(MASK_RCNN)
    expected.model.backbone.bottom_up.stages.update(depth=152, stride_in_1x1=False)
    pixels = {"pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375]}
    expected.model.update(input_format="RGB", **pixels)
    expected.dataloader.train.mapper.image_format = "RGB"
    expected.train.init_checkpoint = "weights/resnet152.pth"
    assert plain(cfg) == plain(expected)


def test_a_config_of_ones_own_with_another_format_at_test_time_follows() -> None:
    cfg = stock(MASK_RCNN)
    cfg.dataloader.test.mapper.image_format = "BGR"  # detectron2's refers to training's
    model_zoo.apply_overlay(cfg, "R_18")
    assert cfg.dataloader.test.mapper.image_format == "RGB"


def test_a_config_that_was_saved_can_be_changed(tmp_path: Path) -> None:
    """Saved, it names its classes and functions as text."""
    cfg = model_zoo.get_config(f"lazy/{C4}.py")
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    loaded = LazyConfig.load(str(tmp_path / "config.yaml"))
    for overlay in ("X_152_32x4d", "vanilla"):
        model_zoo.apply_overlay(loaded, overlay)
        model_zoo.apply_overlay(cfg, overlay)
    LazyConfig.save(cfg, str(tmp_path / "expected.yaml"))
    LazyConfig.save(loaded, str(tmp_path / "found.yaml"))
    found, expected = (tmp_path / f"{name}.yaml" for name in ("found", "expected"))
    assert found.read_text() == expected.read_text()


def test_later_overlays_win_and_an_overlay_may_be_a_file(tmp_path: Path) -> None:
    mine = write(
        tmp_path / "mine.yaml",
        MODEL={"SHAKEDROP": {"SURVIVAL_PROB": 0.8, "LEVEL": "batch"}},
        VERSION=2,
    )
    cfg = model_zoo.get_config(f"lazy/{MASK_RCNN}.py", ["random_drop", "R_18", mine])
    spec = cfg.model.backbone.bottom_up.spec
    assert (spec.beta, spec.survival_prob, spec.level) == ([0.0, 0.0], 0.8, "batch")
    assert spec.inverted is True


@pytest.mark.parametrize("overlay", ["R_50", "shakedrop"])
def test_an_overlay_that_changes_nothing_is_refused(overlay) -> None:
    with pytest.raises(ValueError, match=f"'{overlay}' changes nothing, .*R_101, .*vanilla$"):
        model_zoo.get_config(f"lazy/{MASK_RCNN}.py", [overlay])


@pytest.mark.parametrize(
    "name, overlay, reason",
    [
        (C4, "R_18", "a res5 head does not support basic blocks, which depth 18 consists of"),
        (
            MASK_RCNN,
            "type_b",
            "it is for networks with two branches, which lazy configs",
        ),
        (
            "COCO-InstanceSegmentation/mask_rcnn_regnetx_4gf_dds_fpn_1x",
            "random_drop",
            "its backbone is .*RegNet.*, not detectron2's ResNet",
        ),
    ],
)
def test_an_overlay_that_does_not_suit_is_refused_and_leaves_the_config_as_it_was(
    name, overlay, reason
) -> None:
    cfg, before = stock(name), stock(name)
    with pytest.raises(ValueError, match=f"'{overlay}' does not suit this lazy config: {reason}"):
        model_zoo.apply_overlay(cfg, overlay)
    assert plain(cfg) == plain(before)


@pytest.mark.parametrize(
    "content, reason",
    [
        ({"SOLVER": {"BASE_LR": 0.1}}, "SOLVER.BASE_LR has no counterpart: set an option of the"),
        (
            {"MODEL": {"RESNETS": {"RES2_OUT_CHANNELS": 64}}},
            "RES2_OUT_CHANNELS must be 256, got",
        ),
        ({"SOLVER": {"CLIP_GRADIENTS": {"CLIP_TYPE": "value"}}}, "CLIP_TYPE must be 'norm', got"),
    ],
)
def test_what_a_lazy_config_has_no_counterpart_of_is_refused(
    tmp_path: Path, content, reason
) -> None:
    overlay = write(tmp_path / "mine.yaml", **content)
    with pytest.raises(ValueError, match=reason):
        model_zoo.get_config(f"lazy/{MASK_RCNN}.py", [overlay])


def test_gradients_of_another_optimizer_are_not_clipped() -> None:
    cfg = stock(MASK_RCNN)
    cfg.optimizer._target_ = "torch.optim.AdamW"
    with pytest.raises(ValueError, match="only SGD supports gradient clipping, .*AdamW"):
        model_zoo.apply_overlay(cfg, "shakedrop")


def test_a_wide_resnet_is_as_wide_as_asked_for(tmp_path: Path) -> None:
    overlay = write(tmp_path / "wide.yaml", MODEL={"RESNETS": {"WIDTH_PER_GROUP": 128}})
    cfg = model_zoo.get_config(f"lazy/{MASK_RCNN}.py", [overlay])
    resnet = instantiate(cfg.model.backbone.bottom_up)
    assert resnet.res2[0].conv2.weight.shape == (128, 128, 3, 3)
    model_zoo.apply_overlay(
        cfg, write(tmp_path / "narrow.yaml", MODEL={"RESNETS": {"WIDTH_PER_GROUP": 64}})
    )
    assert plain(cfg) == ours(MASK_RCNN)


def test_groups_that_basic_blocks_do_not_have_are_refused(tmp_path: Path) -> None:
    cfg = model_zoo.get_config(f"lazy/{MASK_RCNN}.py", ["X_101_32x8d"])
    shallow = write(tmp_path / "shallow.yaml", MODEL={"RESNETS": {"DEPTH": 18}})
    with pytest.raises(ValueError, match="basic blocks, as of depth 18, need NUM_GROUPS 1 and"):
        model_zoo.apply_overlay(cfg, shallow)


def test_a_lazy_model_without_a_resnet_is_named() -> None:
    cfg = stock("COCO-InstanceSegmentation/mask_rcnn_regnetx_4gf_dds_fpn_1x")
    before = plain(cfg.model)
    with pytest.raises(ValueError, match="its backbone is .*RegNet.*, not detectron2's ResNet"):
        model_zoo.shake_lazy_model(cfg.model)
    assert plain(cfg.model) == before
