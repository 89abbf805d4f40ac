"""Parameters, FLOPs and activations, counted by fvcore."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.export import TracingAdapter
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import Boxes, Instances
from detectron2.utils.analysis import FlopCountAnalysis
from fvcore.nn import ActivationCountAnalysis, flop_count_table, parameter_count
from fvcore.nn.jit_analysis import JitModelAnalysis
from torch import nn

from shakedrop_det.engine import Trainer
from shakedrop_det.utils.config_errors import errors_of_config

_ASPECT = 4 / 3
"""Width over height of an image whose size nobody gave; that of most photographs."""

_CHEAP = (
    *("aten::batch_norm", "aten::group_norm", "aten::layer_norm", "aten::instance_norm"),
    *("aten::upsample_nearest2d", "aten::upsample_bilinear2d", "aten::adaptive_avg_pool2d"),
)
"""What fvcore would count beside convolutions and matrix products."""

_SMALL = 0.5
"""Weight of a norm with which the numbers do not grow from block to block."""


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
    with errors_of_config(cfg):
        model = Trainer.build_model(cfg)
    for module in model.modules():
        is_norm = isinstance(module, (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d))
        weight = module.weight if is_norm else None
        if isinstance(weight, torch.Tensor):
            nn.init.constant_(weight, _SMALL)
    return model


class Complexity:
    """The size of a network at test time, by the names of its modules; "" is the whole.

    Attributes:
        parameters: numbers that are learned, frozen ones too.
        flops: of convolutions and matrix products for one image; a multiplication with its addition
            counts as one, as in papers on classification. What detectron2 computes in an operator
            of its own, such as deformable convolution, is left out.
        activations: numbers that convolutions and matrix products give for one image.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        """
        What a detector's heads do depends on the image and the weights, see
        :func:`build_for_counting`.

        Args:
            model: a detectron2 model; left as it is.
            inputs: what it is called with.
        """
        model = copy.deepcopy(model).eval()
        self._flops = FlopCountAnalysis(model, inputs)
        self._flops.set_op_handle(**dict.fromkeys(_CHEAP, lambda inputs, outputs: 0))
        adapter = TracingAdapter(model, inputs, allow_non_tensor=True)
        self._activations = ActivationCountAnalysis(adapter, adapter.flattened_inputs)
        for analysis in (self._flops, self._activations):
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analysis.tracer_warnings("none")
        with torch.no_grad():
            self.parameters: Mapping[str, int] = parameter_count(model)
            self.flops = _by_module(self._flops)
            self.activations = _by_module(self._activations)

    def table(self, *, depth: int = 2) -> str:
        """A markdown table, with so many levels of modules below the whole."""
        return flop_count_table(
            self._flops,
            max_depth=depth,
            activations=self._activations,
            show_param_shapes=False,
        )


def _by_module(analysis: JitModelAnalysis) -> dict[str, int]:
    """Counts by the names that modules have in the model, ``model`` in what is traced."""
    counts = analysis.by_module().items()
    return {name.removeprefix("model").removeprefix("."): round(n) for name, n in counts if name}
