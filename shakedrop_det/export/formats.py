"""Export to TorchScript, torch.export and ONNX, through detectron2's own export API."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import IO, Any, Callable

import torch
from detectron2.export import TracingAdapter, scripting_with_instances
from detectron2.export.flatten import InstancesSchema
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from shakedrop_det.modeling import ImageClassifier
from shakedrop_det.utils.atomic import write_atomically
from shakedrop_det.utils.output_folder import refuse_folder

from .comparison import absolute_differences, bottom_up, needs_proposals, normalized
from .folding import without_shakedrop

FORMATS = ("tracing", "scripting", "onnx", "torch_export")

ONNX_OPSET = 17
NOT_WHOLE = ("PanopticFPN", "PanopticDeepLab", "ProposalNetwork")
"""Meta-architectures of which only the backbone can be exported."""

INSTANCE_FIELDS = {
    "proposal_boxes": Boxes,
    "objectness_logits": Tensor,
    "pred_boxes": Boxes,
    "scores": Tensor,
    "pred_classes": Tensor,
    "pred_masks": Tensor,
}
"""Fields of detectron2's ``Instances``, which scripting needs to know."""


@torch.no_grad()
def export_model(
    model: nn.Module, image: Tensor, path: str, *, format: str, backbone_only: bool = False
) -> dict[str, float]:
    """Export a network without ShakeDrop to a file, and run the file on an image.

    The file is put in place only after it has run.

    An exported detector takes one image, (3, H, W) pixels from 0 to 255, and returns one tensor per
    field of its detections. Masks are (N, 1, M, M) probabilities inside the boxes. An exported
    backbone takes (1, 3, H, W) normalized pixels and returns its feature maps. Scripted detectors
    take and return lists of dicts, and scripted backbones return a dict.

    Args:
        model: a detectron2 detector or classifier, with or without ShakeDrop; it is not changed.
        image: image to trace with and to compare on, (3, H, W).
        path: path of the file to write; its folder is created if missing.
        format: one of :data:`FORMATS`. "tracing" and "scripting" write TorchScript. "torch_export"
            writes a program for ``torch.export.load`` that only takes images of this size.
        backbone_only: whether to export the backbone alone.

    Returns:
        dict: largest difference from ``model`` in each output, see
        :func:`.comparison.absolute_differences`, in the order in which the file returns them.

    Raises:
        ValueError: if the format is unknown, the path is a folder, the format does not support the
            network, or the packages that ONNX needs are missing.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    refuse_folder(path)
    adapter = _adapter(without_shakedrop(model), image, backbone_only)
    Path(path).resolve().parent.mkdir(parents=True, exist_ok=True)
    got = _write_and_run(adapter, path, format)
    before = _adapter(copy.deepcopy(model).eval(), image, backbone_only)
    expected = dict(zip(_names(adapter), before(*before.flattened_inputs), strict=True))
    return absolute_differences({name: expected[name] for name in got}, got)


def _write_and_run(adapter: TracingAdapter, path: str, format: str) -> dict[str, Tensor]:
    write, run = _FORMATS[format]
    # Write to memory first: on a full disk, torch's own writer aborts the process.
    content = io.BytesIO()
    write(adapter, content)
    with write_atomically(path) as file:
        file.write(content.getvalue())
        file.flush()
        return run(adapter, file.name)


def _adapter(model: nn.Module, image: Tensor, backbone_only: bool) -> TracingAdapter:
    adapter = (_backbone_adapter if backbone_only else _model_adapter)(model, image)
    adapter(*adapter.flattened_inputs)  # Sets outputs_schema.
    return adapter


def _model_adapter(model: nn.Module, image: Tensor) -> TracingAdapter:
    """Map one image to ``Instances`` or a dict, without scaling to the size of the image's file."""
    if needs_proposals(model) or any(k.__name__ in NOT_WHOLE for k in type(model).__mro__):
        kind = "Fast R-CNN" if needs_proposals(model) else type(model).__name__
        raise ValueError(
            f"{kind} cannot be exported as a whole, since it does not map one image to one set of "
            "tensors: export its backbone alone (--backbone-only, backbone_only=True)"
        )

    def infer(model: Any, inputs: list[dict[str, Tensor]]) -> Any:
        if isinstance(model, GeneralizedRCNN):
            return model.inference(inputs, do_postprocess=False)[0]
        (output,) = model(inputs)
        return output.get("instances", output)

    return TracingAdapter(model, [{"image": image}], infer).eval()


def _backbone_adapter(model: nn.Module, image: Tensor) -> TracingAdapter:
    return TracingAdapter(bottom_up(model), normalized(model, image)).eval()


def _names(adapter: TracingAdapter) -> list[str]:
    """Return the names of the adapter's output tensors."""
    schema: Any = adapter.outputs_schema
    return [*schema.keys, *(["image_size"] if isinstance(schema, InstancesSchema) else [])]


def _trace(adapter: TracingAdapter, file: IO[bytes]) -> None:
    torch.jit.save(torch.jit.trace(adapter, adapter.flattened_inputs), file)


def _run_traced(adapter: TracingAdapter, path: str) -> dict[str, Tensor]:
    outputs = torch.jit.load(path)(*adapter.flattened_inputs)
    return dict(zip(_names(adapter), outputs, strict=True))


def _script(adapter: TracingAdapter, file: IO[bytes]) -> None:
    # Scripting modifies detectron2's modules in place.
    model = copy.deepcopy(adapter.model)
    if isinstance(model, ImageClassifier):
        raise ValueError(
            "ImageClassifier cannot be scripted, since its inputs are of mixed types: trace it"
        )
    try:
        if isinstance(_inputs(adapter)[0], Tensor):
            scripted = torch.jit.script(model)
        else:
            kind = _ScriptedRCNN if isinstance(model, GeneralizedRCNN) else _ScriptedDetector
            scripted = scripting_with_instances(kind(model).eval(), INSTANCE_FIELDS)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"TorchScript cannot compile the code of this {type(model).__name__} "
            f"({_reason(error)}): use tracing, or export the backbone alone"
        ) from error
    torch.jit.save(scripted, file)


def _run_scripted(adapter: TracingAdapter, path: str) -> dict[str, Tensor]:
    inputs = _inputs(adapter)
    outputs = torch.jit.load(path)(*inputs)
    return outputs if isinstance(inputs[0], Tensor) else outputs[0]


def _inputs(adapter: TracingAdapter) -> Any:
    return adapter.inputs_schema(adapter.flattened_inputs)


class _ScriptedRCNN(nn.Module):
    """Return dicts, since programs outside Python cannot access the scripted ``Instances``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        instances = self.model.inference(inputs, do_postprocess=False)  # type: ignore[operator]
        return [x.get_fields() for x in instances]


class _ScriptedDetector(nn.Module):
    """Like :class:`_ScriptedRCNN`. Also clip boxes to the image, which detectron2 leaves out of
    scripted one-stage detectors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        found: list[dict[str, Tensor]] = []
        for instances in self.model(inputs):
            instances.pred_boxes.clip(instances.image_size)
            found.append(instances[instances.pred_boxes.nonempty()].get_fields())
        return found


def _torch_export(adapter: TracingAdapter, file: IO[bytes]) -> None:
    try:
        program = torch.export.export(adapter, adapter.flattened_inputs)
    except GuardOnDataDependentSymNode as error:
        raise ValueError(
            "torch.export fails on the data-dependent code of detectron2's detectors, stock ones "
            f"included ({_reason(error)}): export the backbone only, or use tracing or onnx"
        ) from error
    torch.export.save(program, file)


def _run_exported(adapter: TracingAdapter, path: str) -> dict[str, Tensor]:
    with open(path, "rb") as file:
        outputs = torch.export.load(file).module()(*adapter.flattened_inputs)
    return dict(zip(_names(adapter), outputs, strict=True))


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _onnx(adapter: TracingAdapter, file: Any) -> None:
    try:
        import onnx  # noqa: F401  (required by torch.onnx)
        import onnxruntime  # noqa: F401  (required to run the file)
    except ImportError as error:
        raise ValueError(
            f"Export to ONNX needs the packages onnx and onnxruntime ({error}): "
            "pip install onnx onnxruntime"
        ) from error
    (x,) = adapter.flattened_inputs
    try:
        torch.onnx.export(
            adapter,
            (x,),
            file,
            # The other exporter starts with torch.export, which does not support detectors.
            dynamo=False,
            opset_version=ONNX_OPSET,
            input_names=["image"],
            output_names=_names(adapter),
            dynamic_axes={"image": {x.dim() - 2: "height", x.dim() - 1: "width"}},
        )
    except torch.onnx.errors.SymbolicValueError as error:
        raise ValueError(
            f"torch.onnx cannot export the code of this {type(adapter.model).__name__} "
            f"({_reason(error)}): use tracing, or export the backbone alone"
        ) from error


def _run_onnx(adapter: TracingAdapter, path: str) -> dict[str, Tensor]:
    import onnxruntime

    (x,) = adapter.flattened_inputs
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"image": x.numpy()})
    names = _names(adapter)
    return {name: torch.as_tensor(value) for name, value in zip(names, outputs, strict=True)}


_Write = Callable[[TracingAdapter, IO[bytes]], None]
_Run = Callable[[TracingAdapter, str], dict[str, Tensor]]
_FORMATS: dict[str, tuple[_Write, _Run]] = {
    "tracing": (_trace, _run_traced),
    "scripting": (_script, _run_scripted),
    "onnx": (_onnx, _run_onnx),
    "torch_export": (_torch_export, _run_exported),
}
