"""Warnings about settings that are valid but often fail."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from .blocks import ShakenBlock

logger = logging.getLogger(__name__)


def warn_of_frozen_norms(cfg: CfgNode, model: nn.Module) -> None:
    """Warn if perturbed branches end in a frozen norm and gradients are not clipped.

    No norm then adapts to what a dropped branch learns, so training may diverge; see
    docs/results.md.

    Args:
        cfg: for ``SOLVER.CLIP_GRADIENTS``.
        model: newly built, as it would be trained.
    """
    if cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return
    perturbed = [m for m in model.modules() if isinstance(m, ShakenBlock) and m.is_perturbed()]
    frozen = sum(_ends_in_frozen_norm(block) for block in perturbed)
    if frozen:
        logger.warning(
            f"ShakeDrop perturbs {frozen} blocks that end in FrozenBatchNorm2d, and gradients are "
            "not clipped: training may diverge. Set SOLVER.CLIP_GRADIENTS.ENABLED True, CLIP_TYPE "
            "'norm' and CLIP_VALUE 1.0, or let the norms learn with MODEL.RESNETS.NORM 'BN' or "
            "'SyncBN'. For weights that were trained without ShakeDrop, set "
            "MODEL.SHAKEDROP.INVERTED True and SURVIVAL_PROB 0.9 as well."
        )


def _ends_in_frozen_norm(block: ShakenBlock) -> bool:
    return any(isinstance(conv.norm, FrozenBatchNorm2d) for conv, _ in block.test_scales())
