"""Configs by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.config import CfgNode
from omegaconf import DictConfig

from shakedrop_det import model_zoo
from shakedrop_det.config import spec_from_config

MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"


def test_every_file_that_is_no_part_of_others_is_listed_and_found() -> None:
    root = Path(__file__).parents[2] / "configs"
    paths = [path for kind in ("*.yaml", "*.py") for path in root.rglob(kind)]
    files = {path.relative_to(root).as_posix() for path in paths}
    others = ("overlays/", "Experiments/")
    left_out = {name for name in files if "/Base-" in f"/{name}" or name.startswith(others)}
    names = model_zoo.list()
    assert set(names) == files - left_out
    assert names == sorted(names)
    assert all(Path(model_zoo.get_config_file(name)).is_file() for name in names)


def test_a_yaml_config_comes_with_the_keys_of_this_package_and_can_be_changed() -> None:
    cfg = model_zoo.get_config(f"{MASK_RCNN}.yaml")
    assert isinstance(cfg, CfgNode)
    assert spec_from_config(cfg).inverted
    assert cfg.MODEL.BACKBONE.NAME == "build_shakedrop_resnet_fpn_backbone"
    cfg.MODEL.SHAKEDROP.SURVIVAL_PROB = 0.8
    assert model_zoo.get_config(f"{MASK_RCNN}.yaml").MODEL.SHAKEDROP.SURVIVAL_PROB == 0.9


def test_a_python_config_is_lazy() -> None:
    cfg = model_zoo.get_config(f"lazy/{MASK_RCNN}.py")
    assert isinstance(cfg, DictConfig)
    assert set(cfg) == {"dataloader", "lr_multiplier", "model", "optimizer", "train"}


@pytest.mark.parametrize("function", [model_zoo.get_config, model_zoo.get_config_file])
@pytest.mark.parametrize(
    "wrong, near",
    [
        ("COCO-InstanceSegmentation/mask_rcnn_R50_FPN_1x.yaml", f"{MASK_RCNN}.yaml"),
        ("COCO-Detection/faster_rcnn_R_152_FPN_1x", "COCO-Detection/faster_rcnn_R_152_FPN_1x.yaml"),
        ("lazy/COCO-Detection/fcos_R_50_1x.py", "lazy/COCO-Detection/fcos_R_50_FPN_1x.py"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(function, wrong, near) -> None:
    with pytest.raises(ValueError, match="There is no config") as caught:
        function(wrong)
    message = str(caught.value)
    assert repr(wrong) in message
    assert f"the nearest: {near}" in message
    assert "model_zoo.list()" in message


@pytest.mark.parametrize("name", ["COCO-Detection", ""])
def test_what_is_no_config_is_refused(name) -> None:
    with pytest.raises(ValueError, match="There is no config"):
        model_zoo.get_config_file(name)
