"""What is exported runs without this package and gives what PyTorch gave; for stock as for ours."""

from __future__ import annotations

import copy
import runpy
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.export import scripting_with_instances
from detectron2.modeling import build_model
from torch import Tensor, nn

from shakedrop_det import fold
from shakedrop_det.export import FORMATS, example_image, export_model, load_model
from shakedrop_det.export.comparison import features
from shakedrop_det.export.formats import (
    INSTANCE_FIELDS,
    _adapter,
    _ScriptedRCNN,
    _write_and_run,
)
from shakedrop_det.modeling import ShakenBlock

from .conftest import ERASE_RELU, randomize

Config = Callable[..., CfgNode]
FORMS = {"EraseReLU": ERASE_RELU, "final ReLU": [], "stock": ["MODEL.SHAKEDROP.ENABLED", False]}
DETECTORS = {
    "Mask R-CNN": ("mask_rcnn", []),
    "Faster R-CNN": ("mask_rcnn", ["MODEL.MASK_ON", False]),
    "C4": ("c4", []),
    "RetinaNet": ("retinanet", []),
}
TOLERANCES = {"pred_boxes": 1e-3, "image_size": 0.0, "pred_classes": 0.0}


@pytest.fixture
def build(tiny: Config) -> Callable[..., nn.Module]:
    def build(name: str, *options: object) -> nn.Module:
        torch.manual_seed(0)
        model = build_model(tiny(name, *options)).eval()
        randomize(model)
        return model

    return build


@pytest.fixture
def image(tiny: Config) -> Tensor:
    return example_image(tiny("mask_rcnn"))[:, :64, :96].contiguous()


def needs_onnx(format: str) -> None:
    if format == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")


def assert_small(differences: dict[str, float]) -> None:
    assert differences
    for name, difference in differences.items():
        assert difference <= TOLERANCES.get(name, 1e-4), (name, difference)


def all_but_first_slow(names: Iterable[str]) -> list:
    """Parameters of which `make test` takes the first, and `make test-slow` all."""
    first, *others = names
    return [first, *(pytest.param(name, marks=pytest.mark.slow) for name in others)]


@pytest.mark.parametrize("form", all_but_first_slow(FORMS))
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", all_but_first_slow(["mask_rcnn", "c4", "retinanet", "classifier"]))
def test_a_backbone_exports_to_each_format(
    build, image: Tensor, tmp_path: Path, name: str, format: str, form: str
) -> None:
    needs_onnx(format)
    model, path = build(name, *FORMS[form]), str(tmp_path / "new" / "backbone")
    differences = export_model(model, image, path, format=format, backbone_only=True)
    assert len(differences) == (1 if name == "c4" else 4 if name == "classifier" else 5)
    assert_small(differences)


@pytest.mark.parametrize("form", all_but_first_slow(FORMS))
@pytest.mark.parametrize("format", ["tracing", "scripting", "onnx"])
@pytest.mark.parametrize("detector", all_but_first_slow(DETECTORS))
def test_a_detector_exports_as_stock_detectron2_exports_it(
    build, image: Tensor, tmp_path: Path, detector: str, format: str, form: str
) -> None:
    needs_onnx(format)
    name, options = DETECTORS[detector]
    model, path = build(name, *options, *FORMS[form]), tmp_path / "detector"
    before = [type(module) for module in model.modules()]
    differences = export_model(model, image, str(path), format=format)
    fields = {"pred_boxes", "pred_classes", "scores"}
    masks = {"pred_masks"} if detector in ("Mask R-CNN", "C4") else set()
    assert set(differences) - {"image_size"} == fields | masks
    assert_small(differences)
    assert [type(module) for module in model.modules()] == before, "the model stays as it is"


@pytest.mark.parametrize("form", all_but_first_slow(FORMS))
@pytest.mark.parametrize("format", all_but_first_slow(["onnx", "tracing", "torch_export"]))
def test_a_classifier_exports(build, image: Tensor, tmp_path: Path, format: str, form: str) -> None:
    needs_onnx(format)
    model, path = build("classifier", *FORMS[form]), str(tmp_path / "classifier")
    differences = export_model(model, image, path, format=format)
    assert differences.keys() == {"scores"} and differences["scores"] < 1e-5


def detections(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        (instances,) = model.inference([{"image": image}], do_postprocess=False)
    return {k: getattr(v, "tensor", v) for k, v in instances.get_fields().items()}


@pytest.mark.parametrize("format", all_but_first_slow(["onnx", "tracing", "scripting"]))
def test_the_file_detects_the_same_in_an_image_of_another_size(
    build, image: Tensor, tmp_path: Path, format: str
) -> None:
    needs_onnx(format)
    model, path = build("mask_rcnn"), str(tmp_path / "detector")
    export_model(model, image, path, format=format)
    other = image.flip(2).repeat(1, 2, 1)
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = session.run(None, {"image": other.numpy()})
        names = [output.name for output in session.get_outputs()]
        got = {name: torch.as_tensor(x) for name, x in zip(names, found, strict=True)}
    elif format == "tracing":
        names = ["pred_boxes", "pred_classes", "pred_masks", "scores"]
        got = dict(zip(names, torch.jit.load(path)(other)[:4], strict=True))
    else:
        (got,) = torch.jit.load(path)([{"image": other}])
    expected = detections(model, other)
    assert len(expected["scores"]) > 3
    for name, value in expected.items():
        tolerance = TOLERANCES.get(name, 1e-4)
        torch.testing.assert_close(got[name], value, rtol=0, atol=tolerance)


@pytest.mark.slow
def test_onnx_by_way_of_torch_export_does_for_a_backbone(
    build, image: Tensor, tmp_path: Path
) -> None:
    """``dynamo=True``, which begins with torch.export, so that whole detectors do not pass."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnxruntime

    model, path = fold(build("mask_rcnn").backbone), str(tmp_path / "backbone.onnx")
    x = image[None] / 255
    torch.onnx.export(model, (x,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = model(x)
    for value, got in zip(expected.values(), found, strict=True):
        torch.testing.assert_close(torch.as_tensor(got), value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options", [[], pytest.param(ERASE_RELU, marks=pytest.mark.slow)], ids=["ReLU", "EraseReLU"]
)
def test_a_network_that_was_not_folded_can_be_traced_and_exported(
    build, image: Tensor, options: list
) -> None:
    backbone, x = build("mask_rcnn", *options).backbone, image[None] / 255
    with torch.no_grad():
        expected = backbone(x)
        traced = torch.jit.trace(backbone, (x,), strict=False)(x)
        exported = torch.export.export(backbone, (x,)).module()(x)
    for name, value in expected.items():
        torch.testing.assert_close(traced[name], value)
        torch.testing.assert_close(exported[name], value)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tracing", "onnx"])
def test_a_detector_that_was_not_folded_can_be_traced(
    build, image: Tensor, tmp_path: Path, format: str
) -> None:
    needs_onnx(format)
    model = build("mask_rcnn")
    got = _write_and_run(_adapter(model, image, False), str(tmp_path / "detector"), format)
    assert any(isinstance(module, ShakenBlock) for module in model.modules())
    for name, value in detections(model, image).items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=TOLERANCES.get(name, 1e-4))


def test_scripting_a_network_that_was_not_folded_says_what_to_do(build) -> None:
    model = build("mask_rcnn")
    for scripted in (model.backbone, model.backbone.bottom_up.res2[0]):
        with pytest.raises(TypeError, match=r"script shakedrop_det.fold\(copy.deepcopy\(model\)\)"):
            torch.jit.script(copy.deepcopy(scripted))
    assert any(isinstance(module, ShakenBlock) for module in model.modules())
    scripting_with_instances(_ScriptedRCNN(fold(model)).eval(), INSTANCE_FIELDS)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], FORMS["stock"]], ids=["folded", "stock"])
@pytest.mark.parametrize("detector", DETECTORS)
def test_torch_export_of_a_whole_detector_fails_in_detectron2(
    build, image: Tensor, tmp_path: Path, detector: str, options: list
) -> None:
    """A known limit, of docs/deployment.md: strike it there once this test fails."""
    name, others = DETECTORS[detector]
    model, path = build(name, *others, *options), str(tmp_path / "x.pt2")
    with pytest.raises(ValueError, match="data-dependent .* backbone only, or use tracing"):
        export_model(model, image, path, format="torch_export")


def test_an_unknown_format_and_a_classifier_to_script_are_refused(
    build, image: Tensor, tmp_path: Path
) -> None:
    model, path = build("classifier"), str(tmp_path / "x")
    with pytest.raises(ValueError, match="one of tracing, .* got 'caffe2'"):
        export_model(model, image, path, format="caffe2")
    with pytest.raises(ValueError, match="ImageClassifier cannot be scripted.*trace it"):
        export_model(model, image, path, format="scripting")


def test_the_tool_exports_the_weights_of_a_training(
    trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    cfg = trained("mask_rcnn")
    tool, path = (
        Path(__file__).parent.parent.parent / "tools" / "export_model.py",
        tmp_path / "x.pt",
    )
    options = ["--config-file", tmp_path / "trained" / "config.yaml", "--output", path]
    options += ["--format", "tracing", "--backbone-only"]
    monkeypatch.setattr(sys, "argv", [str(tool), *map(str, options)])
    runpy.run_path(str(tool), run_name="__main__")
    assert "p6" in capsys.readouterr().out

    model, image = load_model(cfg), example_image(cfg)
    expected = features(model, image)
    got = torch.jit.load(path)(model.preprocess_image([{"image": image}]).tensor)
    for value, other in zip(expected.values(), got, strict=True):
        torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-4)


def test_a_folder_is_refused_before_anything_is_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--output '{tmp_path}' is a folder: give the name"):
        export_model(nn.Identity(), torch.zeros(3, 8, 8), str(tmp_path), format="tracing")


@pytest.mark.parametrize("name", ["model.pth", "config.yaml"])
def test_the_tool_does_not_overwrite_what_it_exports(
    trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, name: str
) -> None:
    trained("mask_rcnn")
    folder = tmp_path / "trained"
    before = (folder / name).read_bytes()
    tool = Path(__file__).parent.parent.parent / "tools" / "export_model.py"
    options = ["--config-file", folder / "config.yaml", "--output", folder / name]
    monkeypatch.setattr(sys, "argv", [str(tool), *map(str, options), "--format", "tracing"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(tool), run_name="__main__")
    assert "would overwrite" in capsys.readouterr().err
    assert (folder / name).read_bytes() == before
