"""TorchScript, torch.export and ONNX, through detectron2's own export API."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Callable

import torch
from detectron2.export import TracingAdapter, scripting_with_instances
from detectron2.export.flatten import InstancesSchema
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from shakedrop_det.modeling import ImageClassifier

from .comparison import absolute_differences
from .folding import without_shakedrop

FORMATS = ("tracing", "scripting", "onnx", "torch_export")

ONNX_OPSET = 17
INSTANCE_FIELDS = {
    "proposal_boxes": Boxes,
    "objectness_logits": Tensor,
    "pred_boxes": Boxes,
    "scores": Tensor,
    "pred_classes": Tensor,
    "pred_masks": Tensor,
}
"""What scripting must know of detectron2's ``Instances``."""


@torch.no_grad()
def export_model(
    model: nn.Module, image: Tensor, path: str, *, format: str, backbone_only: bool = False
) -> dict[str, float]:
    """Write a network without ShakeDrop to a file, and run the file on an image.

    A detector takes one image, (3, H, W) pixels from 0 to 255, and gives one tensor per field of
    the detections in it, the masks being (N, 1, M, M) probabilities inside of the boxes. A
    backbone takes (1, 3, H, W) normalized pixels and gives its feature maps. What is scripted
    takes and gives lists of dicts for detectors, and a dict for backbones.

    Args:
        model: a detector or classifier of detectron2, under ShakeDrop or not; it stays as it is.
        image: to trace with and to compare on, (3, H, W).
        path: of the file to write; its folder is made if it is not there.
        format: one of :data:`FORMATS`. "tracing" and "scripting" write TorchScript, "torch_export"
            a program for ``torch.export.load``, for images of this one size.
        backbone_only: whether to export the backbone alone.

    Returns:
        dict: the largest difference from ``model`` by output, see
        :func:`.comparison.absolute_differences`, in the order in which the file returns them.

    Raises:
        ValueError: for another format, a network that the format cannot hold, or if the packages
            that ONNX needs are missing.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    adapter = _adapter(without_shakedrop(model), image, backbone_only)
    Path(path).resolve().parent.mkdir(parents=True, exist_ok=True)
    got = _WRITERS[format](adapter, path)
    before = _adapter(copy.deepcopy(model).eval(), image, backbone_only)
    expected = dict(zip(_names(adapter), before(*before.flattened_inputs), strict=True))
    return absolute_differences({name: expected[name] for name in got}, got)


def _adapter(model: nn.Module, image: Tensor, backbone_only: bool) -> TracingAdapter:
    adapter = (_backbone_adapter if backbone_only else _model_adapter)(model, image)
    adapter(*adapter.flattened_inputs)  # From now on it knows its outputs.
    return adapter


def _model_adapter(model: nn.Module, image: Tensor) -> TracingAdapter:
    """Of one image to one ``Instances``, or to a dict, both without what depends on its file."""

    def infer(model: Any, inputs: list[dict[str, Tensor]]) -> Any:
        if isinstance(model, GeneralizedRCNN):
            return model.inference(inputs, do_postprocess=False)[0]
        (output,) = model(inputs)
        return output.get("instances", output)

    return TracingAdapter(model, [{"image": image}], infer).eval()


def _backbone_adapter(model: nn.Module, image: Tensor) -> TracingAdapter:
    pixels = model.preprocess_image([{"image": image}])  # type: ignore[operator]
    backbone: Any = model.backbone
    if isinstance(backbone, nn.ModuleDict):  # of a classifier
        backbone = backbone["bottom_up"]
    return TracingAdapter(backbone, pixels if isinstance(pixels, Tensor) else pixels.tensor).eval()


def _names(adapter: TracingAdapter) -> list[str]:
    """Of the tensors that it returns."""
    schema: Any = adapter.outputs_schema
    return [*schema.keys, *(["image_size"] if isinstance(schema, InstancesSchema) else [])]


def _trace(adapter: TracingAdapter, path: str) -> dict[str, Tensor]:
    torch.jit.save(torch.jit.trace(adapter, adapter.flattened_inputs), path)
    outputs = torch.jit.load(path)(*adapter.flattened_inputs)
    return dict(zip(_names(adapter), outputs, strict=True))


def _script(adapter: TracingAdapter, path: str) -> dict[str, Tensor]:
    # Scripting takes detectron2's modules apart, in place.
    model = copy.deepcopy(adapter.model)
    if isinstance(model, ImageClassifier):
        raise ValueError(
            "ImageClassifier cannot be scripted, since its input is of mixed types; trace it"
        )
    inputs = adapter.inputs_schema(adapter.flattened_inputs)
    if isinstance(inputs[0], Tensor):
        torch.jit.save(torch.jit.script(model), path)
        return torch.jit.load(path)(*inputs)
    kind = _ScriptedRCNN if isinstance(model, GeneralizedRCNN) else _ScriptedDetector
    torch.jit.save(scripting_with_instances(kind(model).eval(), INSTANCE_FIELDS), path)
    (output,) = torch.jit.load(path)(*inputs)
    return output


class _ScriptedRCNN(nn.Module):
    """Returns dicts: programs outside of Python cannot name the scripted ``Instances``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        instances = self.model.inference(inputs, do_postprocess=False)  # type: ignore[operator]
        return [x.get_fields() for x in instances]


class _ScriptedDetector(nn.Module):
    """As :class:`_ScriptedRCNN`. What detectron2 leaves out of a scripted one-stage detector, the
    clipping of boxes to the image, is done here."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        found: list[dict[str, Tensor]] = []
        for instances in self.model(inputs):
            instances.pred_boxes.clip(instances.image_size)
            found.append(instances[instances.pred_boxes.nonempty()].get_fields())
        return found


def _torch_export(adapter: TracingAdapter, path: str) -> dict[str, Tensor]:
    try:
        program = torch.export.export(adapter, adapter.flattened_inputs)
    except GuardOnDataDependentSymNode as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            "torch.export stops at data-dependent code of detectron2's detectors, stock ones as "
            f"well ({reason}): export the backbone only, or take tracing, scripting or onnx"
        ) from error
    torch.export.save(program, path)
    outputs = torch.export.load(path).module()(*adapter.flattened_inputs)
    return dict(zip(_names(adapter), outputs, strict=True))


def _onnx(adapter: TracingAdapter, path: str) -> dict[str, Tensor]:
    try:
        import onnx  # noqa: F401  (torch.onnx needs it)
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            f"Export to ONNX needs the packages onnx and onnxruntime ({error}): "
            "pip install onnx onnxruntime"
        ) from error
    (x,) = adapter.flattened_inputs
    names = _names(adapter)
    torch.onnx.export(
        adapter,
        (x,),
        path,
        # The other exporter begins with torch.export, which detectors do not pass.
        dynamo=False,
        opset_version=ONNX_OPSET,
        input_names=["image"],
        output_names=names,
        dynamic_axes={"image": {x.dim() - 2: "height", x.dim() - 1: "width"}},
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"image": x.numpy()})
    return {name: torch.as_tensor(value) for name, value in zip(names, outputs, strict=True)}


_WRITERS: dict[str, Callable[[TracingAdapter, str], dict[str, Tensor]]] = {
    "tracing": _trace,
    "scripting": _script,
    "onnx": _onnx,
    "torch_export": _torch_export,
}
