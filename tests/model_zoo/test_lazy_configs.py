"""Lazy configs: the models are those of the yaml configs, and detectron2's script trains them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import detectron2
import pytest
import torch
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.modeling import build_model
from omegaconf import DictConfig, ListConfig
from torch import nn

from shakedrop_det import ShakeDropSpec, model_zoo
from shakedrop_det.config import spec_from_config
from shakedrop_det.model_zoo import stock as stock_zoo
from shakedrop_det.modeling import ShakenBlock

from .trees import with_all_backbones

TESTS = Path(__file__).parents[1]
SCRIPT = Path(detectron2.__file__).parents[1] / "tools" / "lazyconfig_train_net.py"
NAMES = [name for name in model_zoo.list() if name.startswith("lazy/")]
MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"
C4 = "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x"
RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x"
OF_YAML_ALONE = {
    "COCO-Detection/retinanet_R_50_FPN_3x.py",
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.py",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x.py",
    "Misc/cascade_mask_rcnn_R_50_FPN_1x.py",
    "Misc/cascade_mask_rcnn_R_50_FPN_3x.py",
}
"""detectron2 has these as yaml configs, and their models as lazy ones."""


def stock_names() -> list[str]:
    """detectron2's own lazy configs of ResNets built from its own blocks."""
    root = stock_zoo.CONFIGS
    names = (path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    left_out = ("common/", "Misc/", "new_baselines/mask_rcnn_regnet")
    return sorted(n for n in names if not n.startswith(left_out) and "regnet" not in n)


def plain(value: Any) -> Any:
    """Nested dicts and lists of what a lazy config says, interpolations as they are written."""
    if isinstance(value, DictConfig):
        return {key: plain(value._get_node(key)) for key in value}
    if isinstance(value, ListConfig):
        return [plain(value._get_node(index)) for index in range(len(value))]
    value = value._value() if hasattr(value, "_value") else value
    if isinstance(value, (tuple, list)):
        return list(value)
    if callable(value):
        module = value.__module__ or ""  # none, or one at random, for a function of a config file
        return value.__qualname__ if "_cfg_loader" in module else f"{module}.{value.__qualname__}"
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def on_meta(lazy_model: DictConfig) -> nn.Module:
    with torch.device("meta"):
        return instantiate(lazy_model)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in model.state_dict().items()}


def test_the_recipes_are_detectron2s_and_those_of_faster_and_mask_rcnn_as_yaml() -> None:
    wanted = {*stock_names(), *OF_YAML_ALONE}.union(*with_all_backbones(".py").values())
    assert set(NAMES) == {f"lazy/{name}" for name in wanted}


@pytest.mark.parametrize("name", stock_names())
def test_a_lazy_config_of_detectron2_differs_in_how_its_resnet_is_built(name) -> None:
    stock, cfg = plain(stock_zoo.get_config(name)), plain(model_zoo.get_config(f"lazy/{name}"))
    backbone = cfg["model"]["backbone"]
    resnet = backbone.get("bottom_up", backbone)
    stock_backbone = stock["model"]["backbone"]
    stock_resnet = stock_backbone.get("bottom_up", stock_backbone)
    assert resnet.pop("spec")["_target_"].endswith("ShakeDropSpec")
    assert resnet["_target_"].endswith("shaken_resnet")
    resnet["_target_"] = stock_resnet["_target_"]
    if "C4" in name:
        res5 = cfg["model"]["roi_heads"]["res5"]
        assert (res5.pop("spec"), res5.pop("last_block")) == ("${...backbone.spec}", 16)
        assert res5["_target_"].endswith("shaken_stage")
        res5["_target_"] = stock["model"]["roi_heads"]["res5"]["_target_"]
    if not name.startswith("new_baselines/"):  # whose norms learn
        optimizer = cfg["optimizer"]
        assert optimizer.pop("max_norm") == 1.0
        assert optimizer["_target_"].endswith("clipped_sgd")
        optimizer["_target_"] = stock["optimizer"]["_target_"]
    assert cfg == stock


@pytest.mark.parametrize(
    "name, overlays",
    [
        ("COCO-Detection/faster_rcnn_R_34_FPN_1x", []),
        ("COCO-InstanceSegmentation/mask_rcnn_X_152_32x4d_FPN_1x", []),
        ("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x", []),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x", []),
        ("Misc/cascade_mask_rcnn_R_50_FPN_1x", []),
        (C4, []),
        (C4, ["X_101_32x8d"]),
        (C4, ["R_152", "vanilla"]),
        (RETINANET, ["R_18", "erase_relu"]),
        ("COCO-Detection/fcos_R_50_FPN_1x", ["R_34"]),
        (MASK_RCNN, ["random_drop"]),
        (MASK_RCNN, ["R_101", "pretrained"]),
        (MASK_RCNN, ["vanilla"]),
    ],
)
def test_the_model_and_settings_are_those_of_the_yaml_config_of_the_same_name(
    name, overlays
) -> None:
    cfg = model_zoo.get_config(f"lazy/{name}.py", overlays)
    # detectron2 builds FCOS from lazy configs only: its backbone is RetinaNet's.
    is_fcos = "fcos" in name
    yaml_cfg = model_zoo.get_config(f"{name.replace('fcos', 'retinanet')}.yaml", overlays)
    yaml_cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        expected = build_model(yaml_cfg)
    lazy = on_meta(cfg.model)
    if is_fcos:
        expected, lazy = expected.backbone.bottom_up, lazy.backbone.bottom_up
    else:
        assert cfg.model.input_format == yaml_cfg.INPUT.FORMAT
    assert shapes(lazy) == shapes(expected)
    assert shaken(lazy) == shaken(expected)
    assert strides(lazy) == strides(expected)
    assert frozen(lazy) == frozen(expected)
    assert_settings(cfg, yaml_cfg)


@pytest.mark.parametrize(
    "name",  # the longest schedule of each: it imports the shorter one, which sets all else
    [n for n in NAMES if "LSJ" not in n and n.replace("_1x", "_3x") not in set(NAMES) - {n}],
)
def test_settings_are_those_of_the_yaml_config_of_the_same_name(name) -> None:
    yaml_name = name.removeprefix("lazy/").replace("fcos", "retinanet").replace(".py", ".yaml")
    cfg, yaml_cfg = model_zoo.get_config(name), model_zoo.get_config(yaml_name)
    assert_settings(cfg, yaml_cfg)
    resnet, resnets = (
        cfg.model.backbone.get("bottom_up", cfg.model.backbone),
        yaml_cfg.MODEL.RESNETS,
    )
    assert instantiate(resnet.spec) == spec_from_config(yaml_cfg)
    assert resnet.stages.depth == resnets.DEPTH
    assert resnet.stages.get("num_groups", 1) == resnets.NUM_GROUPS
    assert cfg.train.max_iter == yaml_cfg.SOLVER.MAX_ITER
    milestones = list(cfg.lr_multiplier.scheduler.milestones)
    assert milestones == [*yaml_cfg.SOLVER.STEPS, yaml_cfg.SOLVER.MAX_ITER]


def assert_settings(cfg: DictConfig, yaml_cfg: CfgNode) -> None:
    assert cfg.train.init_checkpoint == yaml_cfg.MODEL.WEIGHTS
    assert cfg.optimizer.lr == yaml_cfg.SOLVER.BASE_LR
    clipping = yaml_cfg.SOLVER.CLIP_GRADIENTS
    assert (clipping.ENABLED, clipping.CLIP_TYPE) == (True, "norm")
    assert (cfg.optimizer.max_norm, 2.0) == (clipping.CLIP_VALUE, clipping.NORM_TYPE)
    assert list(cfg.model.pixel_mean) == yaml_cfg.MODEL.PIXEL_MEAN
    assert list(cfg.model.pixel_std) == yaml_cfg.MODEL.PIXEL_STD
    for loader in (cfg.dataloader.train, cfg.dataloader.test):
        assert loader.mapper.image_format == yaml_cfg.INPUT.FORMAT
    assert cfg.dataloader.train.dataset.names == yaml_cfg.DATASETS.TRAIN[0]


@pytest.mark.parametrize("name", [RETINANET, "COCO-Detection/faster_rcnn_R_34_FPN_1x"])
def test_a_3x_config_differs_from_its_1x_config_in_the_schedule_alone(name) -> None:
    got = plain(model_zoo.get_config(f"lazy/{name.replace('_1x', '_3x')}.py"))
    expected = plain(model_zoo.get_config(f"lazy/{name}.py"))
    assert got.pop("lr_multiplier") != expected.pop("lr_multiplier")
    assert (got["train"].pop("max_iter"), expected["train"].pop("max_iter")) == (270000, 90000)
    assert got == expected


def test_large_scale_jitter_trains_the_stock_model_from_scratch_in_the_papers_form() -> None:
    name = "new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py"
    model = on_meta(model_zoo.get_config(f"lazy/{name}").model)
    assert shapes(model) == shapes(on_meta(stock_zoo.get_config(name).model))
    assert {spec for spec, _ in shaken(model)} == {ShakeDropSpec(survival_prob=0.5, inverted=False)}
    assert frozen(model) == []


def shaken(model: nn.Module) -> list[tuple[ShakeDropSpec, float]]:
    return [(m.spec, m.survival_prob) for m in model.modules() if isinstance(m, ShakenBlock)]


def strides(model: nn.Module) -> list[tuple[int, int]]:
    return [module.stride for module in model.modules() if isinstance(module, nn.Conv2d)]


def frozen(model: nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if not p.requires_grad]


def test_settings_can_be_changed_from_the_command_line() -> None:
    cfg = model_zoo.get_config("lazy/COCO-Detection/faster_rcnn_R_18_FPN_1x.py")
    spec = "model.backbone.bottom_up.spec"
    cfg = LazyConfig.apply_overrides(cfg, [f"{spec}.alpha=[-1,1]", f"{spec}.erase_relu=true"])
    spec = on_meta(cfg.model).backbone.bottom_up.res5[-1].spec
    assert spec == ShakeDropSpec(alpha=(-1, 1), erase_relu=True, inverted=True, survival_prob=0.9)


def test_a_lazy_config_can_be_saved_and_loaded(tmp_path: Path) -> None:
    cfg = model_zoo.get_config("lazy/COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.py")
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    loaded = LazyConfig.load(str(tmp_path / "config.yaml"))
    assert shapes(on_meta(loaded.model)) == shapes(on_meta(cfg.model))


@pytest.mark.skipif(not SCRIPT.is_file(), reason="this detectron2 comes without its tools")
@pytest.mark.parametrize(
    "name, overlays",
    [
        ("COCO-InstanceSegmentation/mask_rcnn_R_18_FPN_1x.py", ""),
        ("COCO-Detection/faster_rcnn_R_34_FPN_3x.py", ""),
        ("COCO-Detection/retinanet_R_50_FPN_1x.py", "R_18"),
        ("COCO-Detection/fcos_R_50_FPN_1x.py", "R_18"),
        ("Misc/cascade_mask_rcnn_R_50_FPN_1x.py", ""),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.py", ""),
    ],
)
@pytest.mark.slow
def test_detectron2s_own_script_trains_and_evaluates(
    name, overlays, datasets_root: str, tmp_path: Path
) -> None:
    config, output = TESTS / "configs" / "tiny_lazy.py", tmp_path / "output"
    paths = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "LAZY_CONFIG": name, "LAZY_OVERLAYS": overlays}
    env["DETECTRON2_DATASETS"] = datasets_root
    env.update(PYTHONPATH=paths, OMP_NUM_THREADS="1")
    options = [f"train.output_dir={output}", f"dataloader.evaluator.output_dir={output}"]
    command = [sys.executable, SCRIPT, "--config-file", config, *options]
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    metrics = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    losses = [line["total_loss"] for line in metrics if "total_loss" in line]
    assert len(losses) == 2 and all(map(math.isfinite, losses))
    assert "copypaste: AP,AP50" in run.stdout  # the metrics, which two steps leave at nothing
    weights = torch.load(output / "model_final.pth", weights_only=True)["model"]
    assert any(key.endswith("res4.0.conv1.weight") for key in weights)
