"""Parameters, FLOPs and activations, counted by fvcore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.export import TracingAdapter
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import Boxes, Instances
from detectron2.utils.analysis import FlopCountAnalysis
from fvcore.nn import ActivationCountAnalysis
from fvcore.nn.jit_analysis import JitModelAnalysis
from tabulate import tabulate
from torch import nn

from shakedrop_det.engine import Trainer

_ASPECT = 4 / 3
"""Width over height of an image whose size nobody gave; that of most photographs."""

_OPERATORS = ("conv", "linear", "addmm", "matmul", "bmm", "einsum")
"""What is counted, by fvcore's names, which also has a count for norms and pooling."""

_SMALL = 0.5
"""Weight of a norm with which the numbers do not grow from block to block."""


@dataclass(frozen=True)
class Complexity:
    """The size of a network, by the names of its modules; "" is the whole.

    Attributes:
        parameters: numbers that are learned, frozen ones too.
        trainable: those that are not frozen.
        flops: of convolutions and matrix products for one image; a multiplication with its addition
            counts as one, as in papers on classification. What detectron2 computes in an operator
            of its own, such as deformable convolution, is left out.
        activations: numbers that convolutions and matrix products give for one image.
    """

    parameters: dict[str, int]
    trainable: dict[str, int]
    flops: dict[str, int]
    activations: dict[str, int]


def example_input(cfg: CfgNode, height: int | None = None, width: int | None = None) -> Any:
    """One image of noise, as a model takes it at test time; with proposals, as many as there may
    be, if it takes these too.

    Args:
        cfg: of the model.
        height, width: of the image, in pixels; by default what the config resizes to at test time,
            for detectors an image of 4:3.

    Raises:
        ValueError: if only one of them is given, or one is below 1; or if none is, and the config
            leaves images at their size.
    """
    given = [side for side in (height, width) if side is not None]
    if len(given) == 1 or min(given, default=1) < 1:
        raise ValueError(f"--size needs a height and a width of at least 1, got {height}, {width}")
    if height is None or width is None:
        if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier":
            height = width = cfg.INPUT.CLASSIFICATION.TEST_SIZE
        else:
            height = cfg.INPUT.MIN_SIZE_TEST
            if height < 1:
                raise ValueError(
                    f"INPUT.MIN_SIZE_TEST {height} leaves images at their size: name one, as in "
                    "--size 800 1067"
                )
            width = min(round(_ASPECT * height), cfg.INPUT.MAX_SIZE_TEST)
    generator = torch.Generator().manual_seed(0)
    channels = len(cfg.MODEL.PIXEL_MEAN)
    image = 255 * torch.rand((channels, height, width), generator=generator)
    record: dict[str, Any] = {"image": image, "height": height, "width": width}
    if cfg.MODEL.LOAD_PROPOSALS:
        number = cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST
        boxes = torch.tensor([[0.0, 0.0, width, height]]).expand(number, 4)
        record["proposals"] = Instances((height, width), proposal_boxes=Boxes(boxes))
    return [record]


def build_for_counting(cfg: CfgNode) -> nn.Module:
    """A model with random weights that does all that it can, so that this can be counted.

    Left alone, the numbers grow from block to block, as the norms have nothing to divide by yet,
    and there are neither proposals nor objects; nor would a random class be likely enough for one.

    Args:
        cfg: of the model; left as it is.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = Trainer.build_model(cfg)
    for module in model.modules():
        is_norm = isinstance(module, (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d))
        weight = module.weight if is_norm else None
        if isinstance(weight, torch.Tensor):
            nn.init.constant_(weight, _SMALL)
    return model


@torch.no_grad()
def count_complexity(model: nn.Module, inputs: Any) -> Complexity:
    """Count what a network has and does at test time.

    What a detector's heads do depends on the image and the weights, see
    :func:`build_for_counting`.

    Args:
        model: a detectron2 model; the mode of each of its parts is left as it was.
        inputs: what it is called with.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        adapter = TracingAdapter(model, inputs, allow_non_tensor=True)
        flops = FlopCountAnalysis(model, inputs)
        activations = ActivationCountAnalysis(adapter, adapter.flattened_inputs)
        for analysis in (flops, activations):
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analysis.tracer_warnings("none")
        return Complexity(
            parameters=_count_parameters(model, trainable_only=False),
            trainable=_count_parameters(model, trainable_only=True),
            flops=_by_module(flops),
            activations=_by_module(activations),
        )
    finally:
        for module, was_training in modes:
            module.training = was_training


def _count_parameters(model: nn.Module, *, trainable_only: bool) -> dict[str, int]:
    return {
        name: sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable_only)
        for name, module in model.named_modules()
    }


def _by_module(analysis: JitModelAnalysis) -> dict[str, int]:
    """Counts by the names that modules have in the model, ``model`` in what is traced."""
    found = {}
    for name, counts in analysis.by_module_and_operator().items():
        first, _, rest = name.partition(".")
        if not name or (first == "model" and rest):
            found[rest] = round(sum(counts.get(operator, 0) for operator in _OPERATORS))
    return found


def complexity_table(complexity: Complexity, *, depth: int = 2) -> str:
    """A markdown table, in millions, and FLOPs in thousands of millions.

    Args:
        complexity: of :func:`count_complexity`.
        depth: so many levels of modules below the whole.
    """
    rows = []
    for name, parameters in complexity.parameters.items():
        flops = complexity.flops.get(name, 0)
        activations = complexity.activations.get(name, 0)
        level = name.count(".") + 1 if name else 0
        if level > depth or not (parameters or flops or activations):
            continue
        numbers = (parameters / 1e6, complexity.trainable[name] / 1e6, flops / 1e9)
        cells = [f"{number:.3f}" for number in (*numbers, activations / 1e6)]
        rows.append([name or "all", *cells])
    headers = ["module", "parameters, M", "trainable, M", "GFLOPs", "activations, M"]
    align = ("left", *["right"] * 4)
    return tabulate(rows, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
