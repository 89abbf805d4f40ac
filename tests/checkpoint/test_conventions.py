"""From the classification stage into detectors: the same features, or a refusal."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from shakedrop_det import ShakeDrop, fold
from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.checkpoint.conventions import shakedrop_remedy, shakedrop_settings
from shakedrop_det.conversion.sources import open_source
from shakedrop_det.engine import Trainer
from shakedrop_det.export import load_model

Tiny = Callable[..., CfgNode]
S = "MODEL.SHAKEDROP."


def pretrained(cfg: CfgNode, folder: Path) -> tuple[nn.Module, str]:
    """A classifier with statistics as of training, and the file that its trainer saves."""
    torch.manual_seed(0)
    model = build_model(cfg)
    for name, tensor in model.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    Checkpointer(model, str(folder), cfg=cfg).save("pretrained")
    return model.eval(), str(folder / "pretrained.pth")


def load(cfg: CfgNode, path: str) -> nn.Module:
    model = build_model(cfg)
    Checkpointer(model, cfg=cfg).resume_or_load(path, resume=False)
    return model.eval()


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
@pytest.mark.parametrize("name", ["mask_rcnn", "c4", "retinanet"])
def test_detector_computes_the_classifiers_features(
    tiny: Tiny, tmp_path: Path, name: str, norm: str
) -> None:
    """Of the same picture, pixel normalization included."""
    classifier, path = pretrained(tiny("classifier"), tmp_path)
    detector = load(tiny(name, "MODEL.RESNETS.NORM", norm), path)
    inputs = [{"image": torch.randint(0, 256, (3, 64, 64)).float()}]
    with torch.no_grad():
        expected = classifier.backbone["bottom_up"](classifier.preprocess_image(inputs))
        images = detector.preprocess_image(inputs).tensor
        if name == "c4":
            found = detector.backbone(images)
            found["res5"] = detector.roi_heads.res5(found["res4"])
        else:
            found = detector.backbone.bottom_up(images)
    assert "res5" in found
    for key, feature in found.items():
        torch.testing.assert_close(feature, expected[key], rtol=1e-5, atol=1e-5)
    assert expected["res5"].std() > 0


def test_a_trainers_checkpoint_says_what_it_is_for(tiny: Tiny) -> None:
    cfg = tiny("classifier", "SOLVER.MAX_ITER", 1, "DATASETS.TEST", ())
    Trainer(cfg).train()
    saved = torch.load(Path(cfg.OUTPUT_DIR, "model_final.pth"), weights_only=True)
    assert saved["conventions"] == {
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
        "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
    }
    assert saved["shakedrop"]["MODEL.SHAKEDROP.ENABLED"] is True
    assert saved["shakedrop"]["MODEL.SHAKEDROP.BETA"] == [0.0, 1.0]


@pytest.mark.parametrize(
    "key, value, kept",
    [
        ("INPUT.FORMAT", "BGR", "RGB"),
        ("MODEL.PIXEL_MEAN", [103.53, 116.28, 123.675], "123.675, 116.28, 103.53"),
        ("MODEL.PIXEL_STD", [1.0, 1.0, 1.0], "58.395, 57.12, 57.375"),
        ("MODEL.RESNETS.STRIDE_IN_1X1", True, "False"),
    ],
)
def test_other_pixels_are_refused(
    tiny: Tiny, tmp_path: Path, key: str, value: object, kept: str
) -> None:
    _, path = pretrained(tiny("classifier"), tmp_path)
    with pytest.raises(ValueError) as error:
        load(tiny("mask_rcnn", key, value), path)
    lines = [line for line in str(error.value).splitlines() if line.startswith("  ")]
    assert len(lines) == 1 and lines[0].startswith(f"  {key} ") and kept in lines[0]
    assert path in str(error.value)


def test_all_disagreements_are_listed(tiny: Tiny, tmp_path: Path) -> None:
    _, path = pretrained(tiny("classifier"), tmp_path)
    with pytest.raises(ValueError, match="(?s)INPUT.FORMAT RGB.*MODEL.PIXEL_STD"):
        load(tiny("c4", "INPUT.FORMAT", "BGR", "MODEL.PIXEL_STD", [1.0, 1.0, 1.0]), path)


def test_of_another_network_the_shapes_are_told_rather_than_the_pixels(
    tiny: Tiny, tmp_path: Path
) -> None:
    _, path = pretrained(tiny("classifier"), tmp_path)
    other = tiny("mask_rcnn", "INPUT.FORMAT", "BGR", "MODEL.RESNETS.STEM_OUT_CHANNELS", 16)
    with pytest.raises(ValueError, match="does not fit the backbone"):
        load(other, path)


def test_rounding_is_no_disagreement(tiny: Tiny, tmp_path: Path) -> None:
    _, path = pretrained(tiny("classifier"), tmp_path)
    load(tiny("mask_rcnn", "MODEL.PIXEL_MEAN", [0.485 * 255, 0.456 * 255, 0.406 * 255]), path)


def test_blocks_of_two_convolutions_have_no_stride_to_choose(tiny: Tiny, tmp_path: Path) -> None:
    basic = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    basic += ["MODEL.RESNETS.STEM_OUT_CHANNELS", 64, "MODEL.RESNETS.STRIDE_IN_1X1"]
    _, path = pretrained(tiny("classifier", *basic, False), tmp_path)
    load(tiny("mask_rcnn", *basic, True), path)


def test_files_without_conventions_are_accepted(tiny: Tiny, tmp_path: Path) -> None:
    model, _ = pretrained(tiny("classifier"), tmp_path)
    torch.save({"model": model.state_dict()}, tmp_path / "plain.pth")
    load(tiny("mask_rcnn", "INPUT.FORMAT", "BGR"), str(tmp_path / "plain.pth"))


P = "MODEL.SHAKEDROP."


@pytest.mark.parametrize(
    "of_file, of_model, remedy",
    [
        ([], [], None),
        ([], [P + "LEVEL", "pixel", P + "BETA", [0.0, 0.5], P + "SKIP", "always"], None),
        ([], [P + "ENABLED", False], P + "ENABLED True, " + P + r"ALPHA \[0.0, 0.0\]"),
        ([], [P + "INVERTED", True], P + "INVERTED False"),
        ([], [P + "SURVIVAL_PROB", 0.9], P + "SURVIVAL_PROB 0.5"),
        ([], [P + "DECAY", "constant"], P + "DECAY linear"),
        ([], [P + "ERASE_RELU", True], P + "ERASE_RELU False"),
        ([P + "ENABLED", False], [], P + "ENABLED False; or.*" + P + "INVERTED True"),
        ([P + "ENABLED", False], [P + "INVERTED", True], None),
        ([P + "ENABLED", False], [P + "SURVIVAL_PROB", 1.0], None),
        ([P + "ALPHA", [-1.0, 1.0]], [P + "ALPHA", [0.0, 0.0]], None),  # E[a] is what matters
        ([P + "ALPHA", [0.0, 1.0]], [], P + r"ALPHA \[0.0, 1.0\]"),
    ],
)
def test_other_shakedrop_at_test_time_is_warned_of(
    tiny: Tiny,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    of_file: list[Any],
    of_model: list[Any],
    remedy: str | None,
) -> None:
    """Also checked: without a warning the classifier computes what it did."""
    classifier, path = pretrained(tiny("classifier", *of_file), tmp_path)
    with caplog.at_level(logging.WARNING):
        other = load(tiny("classifier", *of_model), path)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        is_same = torch.allclose(classifier.logits(images), other.logits(images), rtol=1e-4)
    if remedy is None:
        assert "ShakeDrop" not in caplog.text and is_same
    else:
        assert not is_same
        (message,) = (r.getMessage() for r in caplog.records if "ShakeDrop" in r.getMessage())
        assert re.search(remedy, message), message


def test_a_folded_network_is_a_stock_one(tiny: Tiny) -> None:
    model = build_model(tiny("classifier")).eval()
    shaken = shakedrop_settings(model)
    fold(model)
    folded = shakedrop_settings(model)
    assert folded == {"MODEL.SHAKEDROP.ENABLED": False}
    assert shakedrop_remedy(folded, shaken) and not shakedrop_remedy(folded, folded)


def test_branches_that_are_weighted_otherwise_at_test_time_are_reported() -> None:
    """Shake-Shake scales its branches by E[a] and 1 - E[a], the others both by E[a]."""
    settings = {"alpha": (0.0, 0.6), "survival_prob": 0.0, "decay": "constant", "inverted": False}
    in_file, in_model = (
        {"MODEL.SHAKEDROP.ENABLED": True}
        | {f"MODEL.SHAKEDROP.{k.upper()}": v for k, v in {**settings, "branches": b}.items()}
        for b in ("shake_shake", "sum")
    )
    assert shakedrop_remedy(in_file, in_model) == "MODEL.SHAKEDROP.BRANCHES shake_shake"
    assert not shakedrop_remedy(in_model, {**in_model, "MODEL.SHAKEDROP.BRANCHES": "each"})


@pytest.mark.parametrize("inverted", [True, False])
def test_a_file_that_does_not_say_how_it_was_trained_is_reported_where_it_matters(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture, inverted: bool
) -> None:
    """As of detectron2's model zoo: with the paper's form they would compute something else."""
    cfg = tiny("classifier", "MODEL.SHAKEDROP.INVERTED", inverted)
    path = tmp_path / "stock.pth"
    torch.save({"model": build_model(cfg).state_dict()}, path)
    with caplog.at_level(logging.WARNING):
        load(cfg, str(path))
    assert ("does not say whether its weights were trained" in caplog.text) is not inverted


def test_nothing_is_recorded_of_layers_that_keys_cannot_describe() -> None:
    assert shakedrop_settings(nn.Sequential(ShakeDrop(0.5, inverted=False))) is None


@pytest.mark.parametrize(
    "entry, key",
    [
        ({"conventions": [1]}, "it is a list"),
        ({"conventions": "RGB"}, "it is a str"),
        ({"conventions": {"INPUT.FORMAT": 3}}, "INPUT.FORMAT is '3'"),
        ({"conventions": {"MODEL.PIXEL_MEAN": "123"}}, "MODEL.PIXEL_MEAN is '123'"),
        ({"conventions": {"MODEL.PIXEL_STD": [1.0, None]}}, r"MODEL.PIXEL_STD is '\[1.0, None\]'"),
        ({"conventions": {"MODEL.RESNETS.STRIDE_IN_1X1": 1}}, "STRIDE_IN_1X1 is '1'"),
        ({"shakedrop": 0.5}, "it is a float"),
        ({"shakedrop": {}}, "ENABLED is 'None'"),
        ({"shakedrop": {"MODEL.SHAKEDROP.ENABLED": "yes"}}, "ENABLED is 'yes'"),
        ({"shakedrop": {S + "ENABLED": True, S + "ALPHA": "x"}}, "alpha must be .*'x'"),
        ({"shakedrop": {S + "ENABLED": True, S + "SURVIVAL_PROB": {}}}, "survival_prob must be"),
        ({"shakedrop": {S + "ENABLED": True, S + "DECAY": []}}, "decay must be"),
    ],
)
def test_entries_of_another_kind_are_named_wherever_weights_are_used(
    tiny: Tiny, tmp_path: Path, entry: dict[str, Any], key: str
) -> None:
    cfg = tiny("classifier")
    path = str(tmp_path / "weights.pth")
    torch.save({"model": build_model(cfg).state_dict(), **entry}, path)
    cfg.MODEL.WEIGHTS = path
    uses = (lambda: load(cfg, path), lambda: load_model(cfg), lambda: open_source(path))
    for use in uses:
        with pytest.raises(ValueError, match=f"was not saved by this package.*{key}") as error:
            use()
        assert path in str(error.value) and "\n" not in str(error.value)


def test_settings_of_another_version_are_left_aside(tiny: Tiny, tmp_path: Path) -> None:
    cfg = tiny("classifier")
    _, path = pretrained(cfg, tmp_path)
    content = torch.load(path, weights_only=True)
    content["shakedrop"][S + "NEW"] = 3
    torch.save(content, path)
    assert S + "NEW" not in open_source(path).shakedrop
