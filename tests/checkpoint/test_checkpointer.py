"""Weights fit the backbone or stop the run; a classifier's go into every detector."""

import logging
import os
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
from shakedrop_det.engine import Trainer

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


def test_empty_path_loads_nothing(tiny: Tiny) -> None:
    model = build_model(tiny("mask_rcnn"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load(model, "")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_missing_file_is_named(tmp_path: Path) -> None:
    checkpointer = Checkpointer(nn.Linear(2, 2))
    for _ in range(2):  # The first failure must not spoil the second call.
        with pytest.raises(FileNotFoundError, match="MODEL.WEIGHTS.*nothing.pth"):
            checkpointer.load(str(tmp_path / "nothing.pth"))


def test_missing_checkpoint_to_resume_from_is_named(tmp_path: Path) -> None:
    """MODEL.WEIGHTS has nothing to do with it."""
    checkpointer = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    for name in ("model_1", "model_2"):
        checkpointer.save(name)
    (tmp_path / "model_2.pth").unlink()
    with pytest.raises(FileNotFoundError, match="last_checkpoint' .*'model_2.pth'.*write the name"):
        checkpointer.resume_or_load("", resume=True)
    checkpointer.resume_or_load("", resume=False)
    (tmp_path / "last_checkpoint").write_text("model_1.pth")
    checkpointer.resume_or_load("", resume=True)


def test_what_an_earlier_run_left_is_set_aside_and_can_be_taken_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).save("model_1")
    note, old = tmp_path / "last_checkpoint", tmp_path / "last_checkpoint.old"
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).set_older_aside()
    assert old.read_text() == "model_1.pth" and not note.exists()
    (record,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert "names 'model_1.pth', to last_checkpoint.old" in record.getMessage()

    caplog.clear()
    another = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    another.resume_or_load("", resume=True)
    assert another.last_saved == "" and "run before it, from 'model_1.pth'" in caplog.text
    old.rename(note)
    another.resume_or_load("", resume=True)
    assert another.last_saved == str(tmp_path / "model_1.pth")


def test_what_a_run_resumes_from_or_saved_itself_is_not_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    first.set_older_aside()
    first.save("model_1")
    first.set_older_aside()
    resumed = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    resumed.resume_or_load("", resume=True)
    resumed.set_older_aside()
    assert (tmp_path / "last_checkpoint").read_text() == "model_1.pth"
    assert not (tmp_path / "last_checkpoint.old").exists() and "WARNING" not in caplog.text


@pytest.mark.parametrize("content", [b"\xff\x80", b""])
def test_a_last_checkpoint_that_names_none_is_set_aside_too(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last_checkpoint").write_bytes(content)
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).set_older_aside()
    assert (tmp_path / "last_checkpoint.old").read_bytes() == content


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_damaged_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"damaged.{suffix}"
    torch.save({"model": nn.Linear(2, 2).state_dict()}, path)
    path.write_bytes(path.read_bytes()[:100])
    checkpointer = Checkpointer(nn.Linear(2, 2))
    for _ in range(2):
        with pytest.raises(ValueError, match=f"MODEL.WEIGHTS.*damaged.{suffix}"):
            checkpointer.load(str(path))


@pytest.mark.parametrize(
    "name", ["../other.pth", "../../other.pkl", "sub/a.pth", "/etc/passwd", "", "..", ".", "\n"]
)
def test_what_is_resumed_from_is_a_file_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a" / "run"
    (folder / "sub").mkdir(parents=True)
    Checkpointer(nn.Linear(2, 2), str(folder.parent)).save("other")
    Checkpointer(nn.Linear(2, 2), str(folder / "sub")).save("a")
    (folder / "last_checkpoint").write_text(name)
    with pytest.raises(ValueError, match="not a file in that folder: write the name") as error:
        Checkpointer(nn.Linear(2, 2), str(folder)).resume_or_load("", resume=True)
    assert str(folder / "last_checkpoint") in str(error.value) and "\n" not in str(error.value)


def test_a_last_checkpoint_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "last_checkpoint").write_bytes(b"\xff\x80")
    with pytest.raises(ValueError, match="last_checkpoint' is not a text file: write the name"):
        Checkpointer(nn.Linear(2, 2), str(tmp_path)).resume_or_load("", resume=True)


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("suffix", ["pth", "pkl", "pyth", "ckpt"])
@pytest.mark.parametrize("resume", [False, True])
def test_code_in_weights_is_not_run_unless_allowed(
    tmp_path: Path, suffix: str, resume: bool
) -> None:
    path, trace = tmp_path / f"weights.{suffix}", tmp_path / "trace"
    model = nn.Linear(2, 2)
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    content = {"model": state, "__author__": "x", "more": Code(trace)}
    if suffix == "pkl":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    (tmp_path / "last_checkpoint").write_text(path.name)
    for _ in range(2):
        with pytest.raises(ValueError, match="MODEL.WEIGHTS.*pass --allow-pickle if you trust"):
            Checkpointer(nn.Linear(2, 2), str(tmp_path)).resume_or_load(str(path), resume=resume)
    assert not trace.exists()
    other = nn.Linear(2, 2)
    checkpointer = Checkpointer(other, str(tmp_path), allow_pickle=True)
    checkpointer.resume_or_load(str(path), resume=resume)
    assert trace.exists() and torch.equal(other.weight, model.weight)


@pytest.mark.parametrize(
    "state", [[], 3, {"state": 1}, {"param_groups": []}, {"state": {}, "param_groups": [{}, {}]}]
)
def test_what_cannot_be_resumed_from_is_named(tmp_path: Path, state: Any) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    path = tmp_path / "model.pth"
    torch.save({"model": model.state_dict(), "optimizer": state}, path)
    (tmp_path / "last_checkpoint").write_text("model.pth")
    checkpointer = Checkpointer(model, str(tmp_path), optimizer=optimizer)
    with pytest.raises(ValueError, match="entry 'optimizer' of .* does not fit this run") as error:
        checkpointer.resume_or_load("", resume=True)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "state", [{"iteration": "7"}, {"iteration": None}, {"iteration": -2}, {}, 7]
)
def test_a_run_that_does_not_say_how_far_it_was_is_named(
    tiny: Tiny, tmp_path: Path, state: Any
) -> None:
    trainer = Trainer(tiny("classifier", "SOLVER.MAX_ITER", 2))
    folder = Path(trainer.cfg.OUTPUT_DIR)
    trainer.checkpointer.save("model")
    content = torch.load(folder / "model.pth", weights_only=True)
    torch.save({**content, "trainer": state}, folder / "model.pth")
    with pytest.raises(ValueError, match="entry 'trainer' of .*model.pth' does not fit this run"):
        trainer.resume_or_load(resume=True)


def test_an_unknown_query_is_named(tmp_path: Path) -> None:
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).save("a")
    with pytest.raises(ValueError, match="matching_heuristics=True, not by matching"):
        Checkpointer(nn.Linear(2, 2)).load(str(tmp_path / "a.pth?matching=1"))
