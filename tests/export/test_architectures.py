"""Folding and exporting each of detectron2's meta-architectures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from shakedrop_det.export import export_model, fold_checkpoint

from ..modeling.architectures import ARCHITECTURES, SIZE, Architecture

pytest.importorskip("onnxruntime")


def image() -> Tensor:
    return torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 255


def shaken(name: str) -> nn.Module:
    """With a test scale, and weights whose features stay finite."""
    architecture = ARCHITECTURES[name]
    model = architecture.shaken(inverted=False, survival_prob=0.5).eval()
    model.load_state_dict(architecture.stock().state_dict())
    return model


WITH_CONFIG = [name for name, kind in ARCHITECTURES.items() if isinstance(kind, Architecture)]


@pytest.mark.parametrize("name", WITH_CONFIG)
def test_its_checkpoint_is_folded_and_gives_the_same_outputs(name: str, tmp_path: Path) -> None:
    architecture = ARCHITECTURES[name]
    assert isinstance(architecture, Architecture)
    cfg = architecture.cfg(stock=False, inverted=False, survival_prob=0.5)
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    torch.save({"model": shaken(name).state_dict()}, cfg.MODEL.WEIGHTS)
    folded = fold_checkpoint(cfg)
    assert not folded.not_stock and "shakedrop" not in folded.cfg.dump().lower()
    assert folded.output_differences and max(folded.feature_differences.values()) < 1e-5
    assert folded.num_detections != 0


@pytest.mark.parametrize("format", ["tracing", "onnx"])
@pytest.mark.parametrize("name", ["cascade", "point_rend", "semantic_fpn", "deeplab_v3_plus"])
def test_it_is_exported_and_the_file_gives_the_same_outputs(
    name: str, format: str, tmp_path: Path
) -> None:
    differences = export_model(shaken(name), image(), str(tmp_path / "model"), format=format)
    assert differences and max(differences.values()) < 2e-3


def test_keypoints_are_traced(tmp_path: Path) -> None:
    differences = export_model(shaken("keypoint"), image(), str(tmp_path / "m"), format="tracing")
    # Not the keypoints' scores, which are astronomical without training.
    assert differences["pred_boxes"] < 1e-3 and differences["pred_keypoint_heatmaps"] < 1e-2


@pytest.mark.parametrize("name", ["panoptic_fpn", "panoptic_deeplab", "rpn_c4", "fast_rcnn"])
def test_of_some_the_backbone_alone_is_exported(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / "model.ts")
    with pytest.raises(ValueError, match="cannot be exported as a whole.*--backbone-only"):
        export_model(shaken(name), image(), path, format="tracing")
    assert not Path(path).exists()
    found = export_model(shaken(name), image(), path, format="tracing", backbone_only=True)
    assert found and max(found.values()) < 1e-2 and Path(path).exists()


@pytest.mark.parametrize(
    "name, format, message",
    [
        ("semantic_fpn", "scripting", "TorchScript cannot compile .*SemanticSegmentor"),
        ("faster_c4", "scripting", "TorchScript cannot compile .*no attribute 'mask_head'"),
        ("keypoint", "onnx", "torch.onnx cannot export .*GeneralizedRCNN.*aten::index"),
    ],
)
def test_what_detectron2_does_not_support_is_an_error_with_a_remedy(
    name: str, format: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"{message}.*: use tracing"):
        export_model(shaken(name), image(), str(tmp_path / "model"), format=format)
    assert not list(tmp_path.iterdir())
