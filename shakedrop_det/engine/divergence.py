"""Errors and advice for a loss that is not finite."""

from __future__ import annotations

import math

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import nn

from .non_finite import is_finite


class FirstStepError(FloatingPointError):
    """Raised if the loss of the first step is not finite, so that training cannot have diverged."""


class CheckFinite(HookBase):
    """Stop training before weights that are not finite are saved, so that every checkpoint can be
    resumed from. Register it before the hook that saves."""

    def __init__(self, period: int, model: nn.Module) -> None:
        """
        Args:
            period: Number of iterations between checkpoints.
            model: Model that is trained.
        """
        self._period = period
        self._model = model

    def after_step(self) -> None:
        next_iter = self.trainer.iter + 1
        if next_iter % self._period and next_iter < self.trainer.max_iter:
            return
        check_weights_finite(self._model, iteration=self.trainer.iter)


def check_weights_finite(model: nn.Module, *, iteration: int) -> None:
    """Check that all trained weights are finite.

    Raises:
        FloatingPointError: If some are not. The message names the iteration and the parameter.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not is_finite(parameter):
            raise FloatingPointError(
                f"iteration {iteration}: {name!r} has values that are not finite after this step"
            )


def remedies(cfg: CfgNode, error: FloatingPointError, *, checkpoint: str) -> str:
    """Return advice on how to avoid the error.

    Args:
        cfg: Config of the run. Remedies that it already uses are left out.
        error: Error that stopped training.
        checkpoint: Path of the last checkpoint of this run; "" if there is none.
    """
    if isinstance(error, FirstStepError):
        weights = cfg.MODEL.WEIGHTS
        origin = f"the weights ({checkpoint or weights})" if checkpoint or weights else "the norms"
        return (
            f"No step was taken yet: check {origin}, MODEL.PIXEL_MEAN and PIXEL_STD, and the "
            "images and annotations (with tools/visualize_data.py)"
        )
    solver, shakedrop = cfg.SOLVER, cfg.MODEL.get("SHAKEDROP")
    found = []
    if not solver.CLIP_GRADIENTS.ENABLED:
        # detectron2's default, "value", has not helped here.
        norm = "" if solver.CLIP_GRADIENTS.CLIP_TYPE == "norm" else " and CLIP_TYPE norm"
        found.append(f"SOLVER.CLIP_GRADIENTS.ENABLED True{norm}")
    if shakedrop is not None and shakedrop.ENABLED:
        if not shakedrop.INVERTED:
            found.append("MODEL.SHAKEDROP.INVERTED True for weights trained without ShakeDrop")
        if shakedrop.SURVIVAL_PROB < 0.9 and not math.isclose(shakedrop.SURVIVAL_PROB, 0.9):
            found.append("MODEL.SHAKEDROP.SURVIVAL_PROB 0.9")
    if solver.AMP.ENABLED and cfg.MODEL.DEVICE.startswith("cuda") and solver.AMP.DTYPE == "float16":
        found.append("SOLVER.AMP.DTYPE bfloat16")
    found.append(f"a SOLVER.BASE_LR below {solver.BASE_LR:g}, or a longer SOLVER.WARMUP_ITERS")
    again = "Start again with"
    if checkpoint:
        again = f"Start again, or continue from {checkpoint} with --resume, with"
    return f"{again} {'; '.join(found)}"
