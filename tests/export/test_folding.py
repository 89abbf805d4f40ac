"""Folded checkpoints: of stock detectron2 where it has such a network, and what they compute."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from shakedrop_det import add_training_config, fold
from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.engine import load_config
from shakedrop_det.export import deployed_config, example_image, fold_checkpoint, load_model
from shakedrop_det.export import folding as folding_module
from shakedrop_det.export.comparison import features, outputs
from shakedrop_det.modeling import ShakenBlock

from .conftest import ERASE_RELU

Config = Callable[..., CfgNode]
ROOT = Path(__file__).parent.parent.parent


def run_tool(monkeypatch: pytest.MonkeyPatch, *args: object) -> None:
    """tools/fold_shakedrop.py, in this process: another one takes seconds to begin."""
    tool = str(ROOT / "tools" / "fold_shakedrop.py")
    monkeypatch.setattr(sys, "argv", [tool, *map(str, args)])
    runpy.run_path(tool, run_name="__main__")


def test_stock_detectron2_alone_loads_it_strictly_and_detects_the_same(
    trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    names = ["mask_rcnn", "c4", "retinanet"]
    expected = {}
    for name in names:
        cfg = trained(name)
        image = example_image(cfg)[:, :96, :128]
        torch.save(image, tmp_path / "image.pt")
        expected[name] = outputs(load_model(cfg), image)
        config = tmp_path / "trained" / "config.yaml"
        run_tool(monkeypatch, "--config-file", config, "--output", tmp_path / name)
        out = capsys.readouterr().out
        assert "Not for stock" not in out and "pred_boxes" in out

    script = Path(__file__).parent / "stock_detectron2.py"
    command = [sys.executable, "-W", "ignore", script, tmp_path, *names]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in names:
        got, wanted = torch.load(tmp_path / name / "found.pth"), expected[name]
        assert got.keys() == wanted.keys() and len(wanted["scores"]) > 3
        assert torch.equal(got["pred_classes"], wanted["pred_classes"])
        torch.testing.assert_close(got["pred_boxes"], wanted["pred_boxes"], rtol=0, atol=1e-3)
        torch.testing.assert_close(got["scores"], wanted["scores"], rtol=0, atol=1e-5)
        if "pred_masks" in wanted:
            assert (got["pred_masks"] != wanted["pred_masks"]).float().mean() < 1e-4


@pytest.mark.parametrize(
    "of_training, of_stock",
    [
        ("build_shakedrop_resnet_backbone", "build_resnet_backbone"),
        ("build_shakedrop_resnet_fpn_backbone", "build_resnet_fpn_backbone"),
        ("build_shakedrop_retinanet_resnet_fpn_backbone", "build_retinanet_resnet_fpn_backbone"),
    ],
)
def test_the_config_has_the_keys_of_stock_detectron2_and_its_builders(
    of_training: str, of_stock: str
) -> None:
    cfg = get_cfg()
    add_training_config(cfg)
    cfg.MODEL.BACKBONE.NAME = of_training
    cfg.MODEL.ROI_HEADS.NAME = "ShakeDropRes5ROIHeads"
    cfg.MODEL.MY_PROJECT = CfgNode({"KEY": 3})
    deployed, not_stock = deployed_config(cfg)
    expected = get_cfg()
    expected.MODEL.BACKBONE.NAME = of_stock
    expected.MODEL.ROI_HEADS.NAME = "Res5ROIHeads"
    expected.MODEL.MY_PROJECT = CfgNode({"KEY": 3})
    assert not not_stock and deployed == expected
    assert of_training == cfg.MODEL.BACKBONE.NAME, "the config of the training stays as it is"


def test_without_the_last_relu_it_is_not_for_stock_and_computes_the_same(
    trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    cfg = trained("mask_rcnn", *ERASE_RELU)
    config = tmp_path / "trained" / "config.yaml"
    run_tool(monkeypatch, "--config-file", config, "--output", tmp_path / "folded")
    out = capsys.readouterr().out
    assert re.search("Not for stock detectron2.*ERASE_RELU.*lack the final ReLU", out)
    assert "tools/export_model.py makes TorchScript or ONNX" in out

    folded = load_model(load_config(str(tmp_path / "folded" / "config.yaml")))
    model, image = load_model(cfg), example_image(cfg)[:, :64, :64]
    for name, value in features(model, image).items():
        torch.testing.assert_close(features(folded, image)[name], value, rtol=0, atol=1e-4)
    blocks = [module for module in folded.modules() if isinstance(module, ShakenBlock)]
    assert {block.survival_prob for block in blocks} == {1.0}


def test_the_head_may_take_another_than_the_first_feature_map(trained: Config) -> None:
    found = fold_checkpoint(trained("c4", "MODEL.RESNETS.OUT_FEATURES", ["res3", "res4"]))
    assert set(found.feature_differences) == {"res3", "res4", "roi_heads.res5"}


def test_a_small_stem_is_not_for_stock(trained: Config) -> None:
    builder = "build_shakedrop_resnet_cifar_stem_backbone"
    found = fold_checkpoint(trained("c4", "MODEL.BACKBONE.NAME", builder))
    (reason,) = found.not_stock
    assert f"MODEL.BACKBONE.NAME {builder}" in reason
    assert builder == found.cfg.MODEL.BACKBONE.NAME
    assert not found.cfg.MODEL.SHAKEDROP.ENABLED


def test_a_block_without_the_last_relu_is_all_that_stock_lacks(
    trained: Config, tmp_path: Path
) -> None:
    """As docs/deployment.md has it, on a network of stock detectron2."""
    from detectron2.modeling.backbone.resnet import BottleneckBlock
    from torch.nn import functional as F

    class LinearBottleneckBlock(BottleneckBlock):
        def forward(self, x):
            out = F.relu_(self.conv1(x))
            out = self.conv3(F.relu_(self.conv2(out)))
            return out + (x if self.shortcut is None else self.shortcut(x))

    cfg = trained("mask_rcnn", *ERASE_RELU)
    folded = fold_checkpoint(cfg)
    (tmp_path / "config.yaml").write_text(folded.cfg.dump())
    stock_cfg = get_cfg()
    stock_cfg.set_new_allowed(True)
    stock_cfg.merge_from_file(str(tmp_path / "config.yaml"))
    stock_cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    stock = build_model(stock_cfg).eval()
    stock.load_state_dict(folded.content["model"], strict=True)
    model, image = load_model(cfg_of_training(cfg)), example_image(cfg)[:, :64, :64]
    expected = features(model, image)["p5"]
    assert (features(stock, image)["p5"] - expected).abs().max() > 0.1
    for module in stock.modules():
        if type(module) is BottleneckBlock:
            module.__class__ = LinearBottleneckBlock
    torch.testing.assert_close(features(stock, image)["p5"], expected, rtol=0, atol=1e-4)


def cfg_of_training(cfg: CfgNode) -> CfgNode:
    cfg = cfg.clone()
    cfg.MODEL.BACKBONE.NAME = "build_shakedrop_resnet_fpn_backbone"
    return cfg


def test_a_classifiers_backbone_goes_into_a_stock_detector(
    trained: Config, tiny: Config, tmp_path: Path
) -> None:
    cfg = trained("classifier")
    result = fold_checkpoint(cfg)
    assert any("ImageClassifier" in reason for reason in result.not_stock)
    assert result.cfg.MODEL.SHAKEDROP.ENABLED is False and result.num_detections is None
    torch.save(result.content, tmp_path / "folded.pth")

    detector_cfg = tiny("mask_rcnn", "MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone")
    detector = build_model(detector_cfg).eval()
    Checkpointer(detector, cfg=detector_cfg).load(str(tmp_path / "folded.pth"), [])
    image = example_image(cfg)[:, :64, :64]
    pixels = detector.preprocess_image([{"image": image}]).tensor
    with torch.no_grad():
        got = detector.backbone.bottom_up(pixels)
    for name, value in features(load_model(cfg), image).items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("use_ema", [True, False])
def test_averaged_weights_are_what_is_folded_unless_told_otherwise(
    trained: Config, use_ema: bool
) -> None:
    cfg = trained("mask_rcnn")
    content = torch.load(cfg.MODEL.WEIGHTS, weights_only=True)
    content["ema"] = {k: v * 0.5 if "weight" in k else v for k, v in content["model"].items()}
    torch.save(content, cfg.MODEL.WEIGHTS)
    folded = fold_checkpoint(cfg, use_ema=use_ema).content["model"]
    key = "backbone.bottom_up.res2.0.conv1.weight"
    assert torch.equal(folded[key], content["ema" if use_ema else "model"][key])


def test_a_folded_checkpoint_says_that_it_is_folded(trained: Config) -> None:
    content = fold_checkpoint(trained("mask_rcnn")).content
    assert content["shakedrop"] == {"MODEL.SHAKEDROP.ENABLED": False}
    assert content["conventions"]["INPUT.FORMAT"] == "RGB"


def test_folding_twice_is_an_error_rather_than_another_scale(
    trained: Config, tmp_path: Path
) -> None:
    cfg = trained("mask_rcnn")
    torch.save(fold_checkpoint(cfg).content, tmp_path / "folded.pth")
    cfg.MODEL.WEIGHTS = str(tmp_path / "folded.pth")
    with pytest.raises(ValueError, match="other ShakeDrop settings.*ENABLED False"):
        fold_checkpoint(cfg)


@pytest.mark.parametrize(
    "option, message",
    [
        (["MODEL.SHAKEDROP.SURVIVAL_PROB", 0.9], "set MODEL.SHAKEDROP.SURVIVAL_PROB 0.5"),
        (["INPUT.FORMAT", "BGR"], "INPUT.FORMAT RGB"),
        (["MODEL.ROI_HEADS.NUM_CLASSES", 3], "MODEL.ROI_HEADS.NUM_CLASSES"),
        (["MODEL.MASK_ON", False], "mask_head.*not in the network"),
        (["MODEL.SHAKEDROP.ENABLED", False], "MODEL.SHAKEDROP.ENABLED True"),
        (["MODEL.WEIGHTS", ""], "MODEL.WEIGHTS is empty"),
    ],
)
def test_a_config_that_is_not_of_these_weights_is_refused(
    trained: Config, option: list, message: str
) -> None:
    cfg = trained("mask_rcnn")
    cfg.merge_from_list(option)
    with pytest.raises(ValueError, match=message):
        fold_checkpoint(cfg)


def test_a_network_that_was_not_folded_right_is_noticed(trained: Config, monkeypatch) -> None:
    def fold_wrongly(model):
        model = fold(model)
        model.backbone.bottom_up.res5[2].conv3.norm.weight.data.mul_(1.01)
        return model

    monkeypatch.setattr(folding_module, "fold", fold_wrongly)
    with pytest.raises(ValueError, match="computes other features"):
        fold_checkpoint(trained("mask_rcnn"))


@pytest.mark.parametrize(
    "option", [["--image", "no.jpg"], ["--image", __file__], ["MODEL.WEIGHTS", "no.pth"]]
)
def test_mistakes_are_told_in_one_line(
    trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, option: list[str]
) -> None:
    trained("mask_rcnn")
    config, folded = tmp_path / "trained" / "config.yaml", tmp_path / "folded"
    with pytest.raises(SystemExit) as error:
        run_tool(monkeypatch, "--config-file", config, "--output", folded, *option)
    assert error.value.code == 2
    assert re.search(f"error: .*{option[1]}", capsys.readouterr().err)
    assert not folded.exists()
