"""Count parameters, FLOPs and activations with fvcore."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.export import TracingAdapter
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import Boxes, Instances
from detectron2.utils.analysis import FlopCountAnalysis
from fvcore.nn import ActivationCountAnalysis, flop_count_table, parameter_count
from fvcore.nn.jit_analysis import JitModelAnalysis
from torch import nn

from shakedrop_det.engine import Trainer
from shakedrop_det.utils.config_errors import errors_of_config

_ASPECT = (3, 4)
"""Default height and width of an image before it is resized, up to a factor: those of most
photographs."""

_CHEAP = (
    *("aten::batch_norm", "aten::group_norm", "aten::layer_norm", "aten::instance_norm"),
    *("aten::upsample_nearest2d", "aten::upsample_bilinear2d", "aten::adaptive_avg_pool2d"),
)
"""Operators that fvcore counts besides convolutions and matrix products; not counted here."""

_SMALL = 0.5
"""Weight of the norms at which activations do not grow from block to block."""


def example_input(cfg: CfgNode, height: int | None = None, width: int | None = None) -> Any:
    """Create the model's input for one image of noise at test time, with the maximum number of
    proposals if the model needs them.

    Args:
        cfg: config of the model.
        height, width: size of the image in pixels. By default, the size that the config resizes to
            at test time; detectors assume a 4:3 image.

    Raises:
        ValueError: if only one of them is given, or one is below 1; or if none is given and the
            config does not resize images.
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
                    f"INPUT.MIN_SIZE_TEST {height} does not resize images: specify a size, as in "
                    "--size 800 1067"
                )
            height, width = ResizeShortestEdge.get_output_shape(
                *_ASPECT, height, cfg.INPUT.MAX_SIZE_TEST
            )
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
    """Build a model with random weights that uses all of its parts, so that they are counted.

    With stock weights, untrained norms let activations grow from block to block, which leaves no
    proposals and no objects; nor would a random class score pass the threshold.

    Args:
        cfg: config of the model; it is not changed.
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
    """The cost of a network at test time, by module name; "" is the whole network.

    Attributes:
        parameters: number of parameters, including frozen ones.
        flops: FLOPs of convolutions and matrix products for one image. A multiply-add counts as
            one, as in papers on classification. Operators of detectron2's own, such as deformable
            convolution, are not counted.
        activations: number of outputs of convolutions and matrix products for one image.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        """
        The work of a detector's heads depends on the image and the weights, see
        :func:`build_for_counting`.

        Args:
            model: a detectron2 model; it is not changed.
            inputs: inputs of the model.
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
        """Format a markdown table with ``depth`` levels of modules below the network."""
        return flop_count_table(
            self._flops,
            max_depth=depth,
            activations=self._activations,
            show_param_shapes=False,
        )


def _by_module(analysis: JitModelAnalysis) -> dict[str, int]:
    """Return counts by the module names of the model, which is named ``model`` in the trace."""
    counts = analysis.by_module().items()
    return {name.removeprefix("model").removeprefix("."): round(n) for name, n in counts if name}
