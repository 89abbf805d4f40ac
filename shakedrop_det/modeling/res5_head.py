"""The res5 head of C4 detectors with ShakeDrop."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import Res5ROIHeads
from torch import nn

from shakedrop_det.config import spec_from_config

from .advice import warn_of_frozen_norms
from .backbone import num_residual_blocks
from .initialization import zero_init_residual
from .shake import shake

RES4 = 4
"""The value of ``MODEL.BACKBONE.FREEZE_AT`` that freezes the whole backbone of a C4 detector."""


@ROI_HEADS_REGISTRY.register()
class ShakeDropRes5ROIHeads(Res5ROIHeads):
    """detectron2's :class:`Res5ROIHeads`, with a res5 that continues the survival schedule.

    Its blocks are the last of the network. At the levels other than "batch" each region counts
    as an image of its own.
    """

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Sequential, int]:
        spec = spec_from_config(cfg)
        res5, out_channels = super()._build_res5_block(cfg)
        if cfg.MODEL.RESNETS.ZERO_INIT_RESIDUAL:
            zero_init_residual(res5)
        if cfg.MODEL.SHAKEDROP.ENABLED:
            num_blocks = num_residual_blocks(cfg.MODEL.RESNETS.DEPTH)
            first_block = num_blocks - len(res5) + 1
            shake(res5, spec, num_blocks, first_block=first_block)
            if cfg.MODEL.BACKBONE.FREEZE_AT >= RES4:  # Otherwise the backbone has warned.
                warn_of_frozen_norms(cfg, res5)
        return res5, out_channels
