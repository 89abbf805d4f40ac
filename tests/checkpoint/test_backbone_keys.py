"""Weights fit the backbone or stop the run; a classifier's go into every detector."""

import logging
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d
from detectron2.modeling import build_model
from detectron2.modeling.backbone import resnet
from torch import nn

from shakedrop_det.checkpoint import Checkpointer

Tiny = Callable[..., CfgNode]


def load(model: nn.Module, path: Path | str) -> None:
    Checkpointer(model).resume_or_load(str(path), resume=False)


@pytest.fixture
def classifier(tiny: Tiny) -> nn.Module:
    """A classifier with statistics that are not those of a new network."""
    model = build_model(tiny("classifier"))
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def classifier_file(classifier: nn.Module, tmp_path: Path) -> Path:
    Checkpointer(classifier, str(tmp_path)).save("classifier")
    return tmp_path / "classifier.pth"


def resnet_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and statistics of the ResNet, by their names in it."""
    prefixes = ("backbone.bottom_up.", "roi_heads.res5.", "backbone.")
    found = {}
    for key, value in model.state_dict().items():
        prefix = next((p for p in prefixes if key.startswith(p)), None)
        name = key.removeprefix("roi_heads.").removeprefix("backbone.").removeprefix("bottom_up.")
        if prefix and name.startswith(("stem.", "res")) and not name.endswith("_tracked"):
            found[name] = value
    return found


@pytest.mark.parametrize(
    "name, options",
    [
        ("mask_rcnn", []),
        ("mask_rcnn", ["MODEL.RESNETS.NORM", "FrozenBN"]),
        ("c4", []),
        ("retinanet", []),
    ],
)
def test_classifier_goes_into_detectors(
    tiny: Tiny, classifier: nn.Module, classifier_file: Path, name: str, options: list[str]
) -> None:
    detector = build_model(tiny(name, *options))
    load(detector, classifier_file)
    expected, found = resnet_state(classifier), resnet_state(detector)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0, msg=key)


def test_classifier_with_other_classes_keeps_the_backbone(
    tiny: Tiny, classifier: nn.Module, classifier_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = build_model(tiny("classifier", "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES", 7))
    linear = model.linear.weight.clone()
    with caplog.at_level(logging.WARNING):
        load(model, classifier_file)
    assert "linear.weight" in caplog.text
    torch.testing.assert_close(model.linear.weight, linear, rtol=0, atol=0)
    for key, value in resnet_state(classifier).items():
        torch.testing.assert_close(resnet_state(model)[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("heuristics", [False, True])
@pytest.mark.parametrize("name", ["mask_rcnn", "c4", "retinanet"])
def test_every_misfit_of_the_backbone_is_listed(
    tiny: Tiny, tmp_path: Path, name: str, heuristics: bool
) -> None:
    """Also where detectron2 matches names by heuristics, which drop what does not fit."""
    model = build_model(tiny(name))
    state = model.state_dict()
    res5 = "roi_heads.res5" if name == "c4" else "backbone.bottom_up.res5"
    stem = "backbone.stem" if name == "c4" else "backbone.bottom_up.stem"
    missing = [f"{res5}.0.conv1.weight", f"{res5}.2.conv3.norm.running_var"]
    for key in missing:
        del state[key]
    state[f"{stem}.conv1.weight"] = torch.zeros(8, 3, 3, 3)
    torch.save({"model": state, "matching_heuristics": heuristics}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match="does not fit the backbone in 3 weights") as error:
        load(model, tmp_path / "file.pth")
    message = str(error.value)
    assert str(tmp_path / "file.pth") in message and "MODEL.WEIGHTS" in message
    for key in missing:
        assert f"{key}: missing in the file" in message
    assert f"{stem}.conv1.weight: (8, 3, 3, 3) in the file, (8, 3, 7, 7) in the model" in message


def test_many_misfits_are_one_line_with_the_first_ten(tiny: Tiny, tmp_path: Path) -> None:
    model = build_model(tiny("mask_rcnn"))
    torch.save({"model": build_model(tiny("mask_rcnn")).state_dict()}, tmp_path / "file.pth")
    wider = build_model(tiny("mask_rcnn", "MODEL.RESNETS.RES2_OUT_CHANNELS", 32))
    with pytest.raises(ValueError, match=r"in (\d+) weights: .*, and (\d+) more. Set") as error:
        load(wider, tmp_path / "file.pth")
    numbers = re.findall(r"in (\d+) weights|and (\d+) more", str(error.value))
    assert int(numbers[0][0]) - int(numbers[1][1]) == 10 == str(error.value).count("in the file,")
    assert "\n" not in str(error.value)
    load(model, tmp_path / "file.pth")


def test_misfit_of_a_classifiers_checkpoint_is_listed(tiny: Tiny, classifier_file: Path) -> None:
    model = build_model(tiny("mask_rcnn", "MODEL.RESNETS.STEM_OUT_CHANNELS", 16))
    with pytest.raises(ValueError) as error:
        load(model, classifier_file)
    key = "backbone.bottom_up.stem.conv1.weight"
    assert f"{key}: (8, 3, 7, 7) in the file, (16, 3, 7, 7) in the model" in str(error.value)


@pytest.mark.parametrize("name", ["mask_rcnn", "c4"])
def test_a_deeper_network_is_refused(tiny: Tiny, tmp_path: Path, name: str) -> None:
    """Also where all tensors of the shallower one are in the file, in their shapes."""
    basic = ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.DEPTH"]
    classifier = build_model(tiny("classifier", *basic, 34))
    Checkpointer(classifier, str(tmp_path)).save("deeper")
    torch.save({"model": resnet_state(classifier), "matching_heuristics": True}, tmp_path / "bare")
    model = build_model(tiny(name, *basic, 18))
    for file in ("deeper.pth", "bare"):
        with pytest.raises(ValueError, match="3 in res2 rather than 2, 4 in res3"):
            load(model, tmp_path / file)


def test_names_that_need_heuristics_are_pointed_out(
    tiny: Tiny, classifier: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "resnet.pth"
    torch.save(resnet_state(classifier), path)
    model = build_model(tiny("mask_rcnn"))
    with pytest.raises(ValueError, match=r"named stem.conv1.weight in the file, add '\?matching"):
        load(model, path)
    load(model, f"{path}?matching_heuristics=True")
    for key, value in resnet_state(classifier).items():
        torch.testing.assert_close(resnet_state(model)[key], value, rtol=0, atol=0)


def test_offsets_of_deformable_convolutions_may_be_missing(
    tiny: Tiny, classifier_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pretrained file has them; they begin as 0."""
    for name in ("DeformConv", "ModulatedDeformConv"):
        monkeypatch.setattr(resnet, name, PlainConv)
    model = build_model(
        tiny("mask_rcnn", "MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True])
    )
    load(model, classifier_file)
    block = model.backbone.bottom_up.res3[0]
    assert not block.conv2_offset.weight.any()
    state = torch.load(classifier_file)["model"]
    assert torch.equal(block.conv2.weight, state["backbone.bottom_up.res3.0.conv2.weight"])


class PlainConv(Conv2d):
    """Stands for detectron2's compiled operator."""

    def __init__(self, *args: Any, deformable_groups: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


def test_a_part_that_only_the_detectors_backbone_has_may_be_missing(
    tiny: Tiny, classifier_file: Path, tmp_path: Path
) -> None:
    """As the norms of a Swin's feature maps; not a stage of a ResNet."""
    model = build_model(tiny("mask_rcnn"))
    model.backbone.bottom_up.norm2 = nn.LayerNorm(4)
    load(model, classifier_file)
    content = torch.load(classifier_file)
    kept = {key: v for key, v in content["model"].items() if ".res4." not in key}
    torch.save({**content, "model": kept}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match="res4.0.conv1.weight: missing in the file"):
        load(model, tmp_path / "part.pth")


def test_heads_may_be_missing(tiny: Tiny, tmp_path: Path) -> None:
    model = build_model(tiny("mask_rcnn"))
    state = {k: v for k, v in model.state_dict().items() if k.startswith("backbone.bottom_up.")}
    torch.save({"model": state}, tmp_path / "backbone.pth")
    load(model, tmp_path / "backbone.pth")


@pytest.mark.parametrize(
    "name, head", [("mask_rcnn", "rpn_head.conv, .* and 7 more. Set"), ("c4", "rpn_head")]
)
def test_heads_may_not_be_missing_where_nothing_is_trained(
    tiny: Tiny, classifier_file: Path, tmp_path: Path, name: str, head: str
) -> None:
    model = build_model(tiny(name))
    checkpointer = Checkpointer(model, str(tmp_path), heads_may_be_missing=False)
    with pytest.raises(ValueError, match=f"(?s)lacks .* weights of this model.*{head}") as error:
        checkpointer.load(str(classifier_file))
    assert str(classifier_file) in str(error.value) and "MODEL.WEIGHTS" in str(error.value)
    assert "bottom_up" not in str(error.value) and "\n" not in str(error.value)
    checkpointer.save("whole")
    checkpointer.load(str(tmp_path / "whole.pth"))


def test_heads_of_another_size_are_missing_too(tiny: Tiny, classifier_file: Path) -> None:
    model = build_model(tiny("classifier", "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES", 7))
    with pytest.raises(ValueError, match="(?s)lacks 2 weights of this model.* shape.*linear"):
        Checkpointer(model, heads_may_be_missing=False).load(str(classifier_file))


def test_files_without_statistics_are_accepted(
    tiny: Tiny, classifier: nn.Module, tmp_path: Path
) -> None:
    """Those of Caffe2 fold them into weight and bias, and hold numpy arrays."""
    state = {k: v.numpy() for k, v in resnet_state(classifier).items() if "running" not in k}
    path = tmp_path / "caffe2.pkl"
    content = {"model": state, "__author__": "test", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content))
    model = build_model(tiny("mask_rcnn", "MODEL.RESNETS.NORM", "FrozenBN"))
    load(model, path)
    norm = model.backbone.bottom_up.res5[2].conv3.norm
    np.testing.assert_array_equal(norm.weight, state["res5.2.conv3.norm.weight"])
    assert torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean))


def test_weights_saved_inside_ddp_are_accepted(
    tiny: Tiny, classifier: nn.Module, tmp_path: Path
) -> None:
    state = {f"module.{key}": value for key, value in classifier.state_dict().items()}
    torch.save({"model": state}, tmp_path / "ddp.pth")
    detector = build_model(tiny("mask_rcnn"))
    load(detector, tmp_path / "ddp.pth")
    for key, value in resnet_state(classifier).items():
        torch.testing.assert_close(resnet_state(detector)[key], value, rtol=0, atol=0)
