"""Checkpoints of this package and of detectors, to detectron2 and to other libraries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.checkpoint.weight_files import write_weights
from shakedrop_det.conversion.convert import Conversion, convert
from shakedrop_det.conversion.sources import open_source
from shakedrop_det.conversion.verification import random_images

from .resnets import as_trained, create, images

Tiny = Callable[..., CfgNode]
# A ResNet-18 as other libraries have it.
FULL_WIDTH = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
FULL_WIDTH += ["MODEL.RESNETS.STEM_OUT_CHANNELS", 64]
S = "MODEL.SHAKEDROP."


def pretrained(cfg: CfgNode, folder: Path, *, ema: bool = False) -> tuple[nn.Module, str]:
    """A model and its checkpoint; with ``ema``, its weights are the averages therein."""
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    as_trained(model)
    extra = {}
    if ema:
        extra["ema"] = {key: value.clone() for key, value in model.state_dict().items()}
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)
    Checkpointer(model, str(folder), cfg=cfg).save("pretrained", **extra)
    if ema:
        model.load_state_dict(extra["ema"])
    return model, str(folder / "pretrained.pth")


def converted(path: str, target: str = "detectron2", **kwargs: Any) -> Conversion:
    folded = kwargs.pop("folded", False)
    source = open_source(path, **kwargs)
    return convert(source, target=target, images=random_images(32), folded=folded)


@torch.no_grad()
def assert_same_scores(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert float(expected.std()) > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "library, options",
    [
        ("torchvision", []),
        ("timm", []),
        ("torchvision", [S + "SURVIVAL_PROB", 0.2, S + "ALPHA", [0.0, 1.0]]),
        ("timm", [S + "INVERTED", True]),
        ("timm", [S + "ENABLED", False]),
    ],
)
def test_a_classifier_serves_in_other_libraries(
    tiny: Tiny, tmp_path: Path, library: str, options: list[Any]
) -> None:
    """With ShakeDrop's scale at test time in its weights: their scores are the classifier's."""
    model, path = pretrained(tiny("classifier", *FULL_WIDTH, *options), tmp_path)
    network = create(library, "resnet18", num_classes=10).eval()
    network.load_state_dict(converted(path, library).content, strict=True)
    with torch.no_grad():
        assert_same_scores(network(images()), model.logits(images()))


@pytest.mark.parametrize("options", [[], FULL_WIDTH])
def test_a_classifier_stays_under_shakedrop_in_detectron2(
    tiny: Tiny, tmp_path: Path, options: list[Any]
) -> None:
    cfg = tiny("classifier", *options)
    model, path = pretrained(cfg, tmp_path)
    content = converted(path).content
    assert content["shakedrop"][S + "ENABLED"] is True
    assert content["conventions"] == torch.load(path, weights_only=True)["conventions"]
    write_weights(str(tmp_path / "converted.pth"), content)
    other = build_model(cfg).eval()
    Checkpointer(other, cfg=cfg).load(str(tmp_path / "converted.pth"), checkpointables=[])
    with torch.no_grad():
        assert torch.equal(other.logits(images()), model.logits(images()))


def test_folding_leaves_out_what_conversion_leaves_out(tiny: Tiny, tmp_path: Path) -> None:
    _, path = pretrained(tiny("classifier"), tmp_path)
    plain, folded = (converted(path, folded=folded) for folded in (False, True))
    assert plain.content["model"].keys() == folded.content["model"].keys()
    assert plain.left_out == folded.left_out


def test_a_folded_classifier_is_a_stock_one(tiny: Tiny, tmp_path: Path) -> None:
    """In detectron2's own network, loaded by its own checkpointer."""
    model, path = pretrained(tiny("classifier"), tmp_path)
    content = converted(path, folded=True).content
    assert content["shakedrop"] == {S + "ENABLED": False}
    write_weights(str(tmp_path / "converted.pth"), content)
    stock = build_model(tiny("classifier", S + "ENABLED", False)).eval()
    DetectionCheckpointer(stock).load(str(tmp_path / "converted.pth"))
    with torch.no_grad():
        assert_same_scores(stock.logits(images()), model.logits(images()))
        unfolded = converted(path).content["model"]
        assert not torch.equal(
            unfolded["res5.2.conv3.norm.weight"], stock.state_dict()[f"{P}res5.2.conv3.norm.weight"]
        )


P = "backbone.bottom_up."


def test_averaged_weights_are_preferred(tiny: Tiny, tmp_path: Path) -> None:
    model, path = pretrained(tiny("classifier"), tmp_path, ema=True)
    expected = model.state_dict()[P + "res5.0.conv1.weight"]
    averaged, last = (converted(path, use_ema=use).content["model"] for use in (True, False))
    assert torch.equal(averaged["res5.0.conv1.weight"], expected)
    torch.testing.assert_close(last["res5.0.conv1.weight"], 1.1 * expected)


def test_blocks_without_final_relu_cannot_be_folded(tiny: Tiny, tmp_path: Path) -> None:
    options = [*FULL_WIDTH, S + "ALPHA", [-1.0, 1.0], S + "ERASE_RELU", True]
    _, path = pretrained(tiny("classifier", *options), tmp_path)
    for target in ("torchvision", "timm", "detectron2"):
        with pytest.raises(ValueError, match="ERASE_RELU True: its blocks lack the final ReLU"):
            converted(path, target, folded=True)
    assert converted(path).content["shakedrop"][S + "ERASE_RELU"] is True


def test_other_strides_and_widths_stay_in_detectron2(tiny: Tiny, tmp_path: Path) -> None:
    _, path = pretrained(tiny("classifier"), tmp_path)
    with pytest.raises(ValueError, match="no ResNet with 8 channels after the stem and 16 after"):
        converted(path, "torchvision")
    _, path = pretrained(tiny("classifier", "MODEL.RESNETS.STRIDE_IN_1X1", True), tmp_path)
    with pytest.raises(ValueError, match="STRIDE_IN_1X1 True, but the ResNets of timm"):
        converted(path, "timm")
    assert converted(path).content["conventions"]["MODEL.RESNETS.STRIDE_IN_1X1"] is True


@pytest.mark.parametrize("name", ["mask_rcnn", "c4"])
def test_a_detectors_backbone_serves_in_other_libraries(
    tiny: Tiny, tmp_path: Path, name: str
) -> None:
    """Its other parts are named as left out, each of them."""
    options = ["MODEL.RESNETS.STEM_OUT_CHANNELS", 64, "MODEL.RESNETS.WIDTH_PER_GROUP", 64]
    options += ["MODEL.RESNETS.RES2_OUT_CHANNELS", 256]
    model, path = pretrained(tiny(name, *options), tmp_path)
    result = converted(path, "torchvision")
    network = create("torchvision", "resnet50")
    network.fc = nn.Identity()
    network.load_state_dict(result.content, strict=True)
    kept = {key for key in model.state_dict() if ".stem." in key or ".res" in key}
    assert set(result.left_out) == model.state_dict().keys() - kept


def test_files_that_do_not_say_their_pixels(tiny: Tiny, tmp_path: Path) -> None:
    cfg = tiny("classifier")
    model = build_model(cfg)
    as_trained(model)
    path = str(tmp_path / "plain.pth")
    torch.save({"model": model.state_dict()}, path)
    with pytest.raises(ValueError, match="INPUT.FORMAT, MODEL.PIXEL_MEAN.*: pass --format"):
        open_source(path)
    given = {
        "INPUT.FORMAT": "BGR",
        "MODEL.PIXEL_MEAN": [1.0, 2.0, 3.0],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "MODEL.RESNETS.STRIDE_IN_1X1": True,
    }
    assert converted(path, conventions=given).content["conventions"] == given


def test_one_unknown_tensor_in_the_backbone_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    cfg = tiny("classifier")
    _, path = pretrained(cfg, tmp_path)
    content = torch.load(path, weights_only=True)
    content["model"][P + "res3.0.gate.weight"] = torch.zeros(1)
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"res3.0.gate.weight: \(1,\), not in the network"):
        converted(path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_detector_with_other_conventions_is_refused(
    tiny: Tiny, tmp_path: Path, suffix: str
) -> None:
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    _, path = pretrained(tiny("classifier"), tmp_path)
    other = str(tmp_path / f"converted.{suffix}")
    write_weights(other, converted(path).content)
    cfg = tiny("mask_rcnn")
    detector = build_model(cfg)
    Checkpointer(detector, cfg=cfg).load(other, checkpointables=[])
    for key, value in {
        "INPUT.FORMAT": "BGR",
        "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "MODEL.RESNETS.STRIDE_IN_1X1": True,
    }.items():
        with pytest.raises(ValueError, match=f"  {key} .*now"):
            checkpointer = Checkpointer(detector, cfg=tiny("mask_rcnn", key, value))
            checkpointer.load(other, checkpointables=[])
