"""Warnings about settings that are valid but often fail."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from .blocks import ShakenBlock


def warn_of_frozen_norms(cfg: CfgNode, model: nn.Module) -> None:
    """Let the first training step warn if perturbed branches end in a frozen norm and gradients are
    not clipped.

    No norm then adapts to what a dropped branch learns, so training may diverge; see
    docs/results.md. A warning while the model is built would scroll away with detectron2's dump of
    the model.

    Args:
        cfg: for ``SOLVER.CLIP_GRADIENTS``.
        model: newly built, as it would be trained.
    """
    if cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return
    perturbed = [m for m in model.modules() if isinstance(m, ShakenBlock) and m.is_perturbed()]
    frozen = sum(_ends_in_frozen_norm(block) for block in perturbed)
    if frozen:
        perturbed[0].advice = (
            f"ShakeDrop perturbs {frozen} blocks that end in FrozenBatchNorm2d, and gradients are "
            "not clipped: training may diverge. Set SOLVER.CLIP_GRADIENTS.ENABLED True, CLIP_TYPE "
            "'norm' and CLIP_VALUE 1.0, and keep MODEL.SHAKEDROP.INVERTED True and SURVIVAL_PROB "
            "0.9. Norms that learn (MODEL.RESNETS.NORM 'BN' or 'SyncBN') diverge less often."
        )


def _ends_in_frozen_norm(block: ShakenBlock) -> bool:
    return any(
        isinstance(getattr(conv, "norm", None), FrozenBatchNorm2d)
        for conv, _ in block.test_scales()
    )
