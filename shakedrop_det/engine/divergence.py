"""Errors and advice for a loss that is not finite."""

from __future__ import annotations

import math

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import nn

from .non_finite import is_finite


class FirstStepError(FloatingPointError):
    """The loss of the first step was no finite number, so that it is not training that diverged."""


class CheckFinite(HookBase):
    """Ends training before weights that are no finite numbers are saved, so that each checkpoint is
    one to go on from. Register it before the hook that saves."""

    def __init__(self, period: int, model: nn.Module) -> None:
        """
        Args:
            period: of saving, in iterations.
            model: that is trained.
        """
        self._period = period
        self._model = model

    def after_step(self) -> None:
        next_iter = self.trainer.iter + 1
        if next_iter % self._period and next_iter < self.trainer.max_iter:
            return
        for name, parameter in self._model.named_parameters():
            if parameter.requires_grad and not is_finite(parameter):
                raise FloatingPointError(
                    f"iteration {self.trainer.iter}: {name!r} holds numbers that are not finite "
                    "after this step"
                )


def remedies(cfg: CfgNode, error: FloatingPointError, *, checkpoint: str) -> str:
    """What may help.

    Args:
        cfg: the settings of the run, of which those that help are not named again.
        error: that ended training.
        checkpoint: path of the last one of this run; "" if there is none.
    """
    if isinstance(error, FirstStepError):
        weights = cfg.MODEL.WEIGHTS
        origin = f"the weights ({checkpoint or weights})" if checkpoint or weights else "the norms"
        return (
            f"No step was taken yet: look at {origin}, at MODEL.PIXEL_MEAN and PIXEL_STD, and, "
            "with tools/visualize_data.py, at images and annotations"
        )
    solver, shakedrop = cfg.SOLVER, cfg.MODEL.get("SHAKEDROP")
    found = []
    if not solver.CLIP_GRADIENTS.ENABLED:
        found.append("SOLVER.CLIP_GRADIENTS.ENABLED True")
    if shakedrop is not None and shakedrop.ENABLED:
        if not shakedrop.INVERTED:
            found.append("MODEL.SHAKEDROP.INVERTED True for weights trained without ShakeDrop")
        if shakedrop.SURVIVAL_PROB < 0.9 and not math.isclose(shakedrop.SURVIVAL_PROB, 0.9):
            found.append("MODEL.SHAKEDROP.SURVIVAL_PROB 0.9")
    if solver.AMP.ENABLED and cfg.MODEL.DEVICE.startswith("cuda") and solver.AMP.DTYPE == "float16":
        found.append("SOLVER.AMP.DTYPE bfloat16")
    found.append(f"a SOLVER.BASE_LR below {solver.BASE_LR:g}, or a longer SOLVER.WARMUP_ITERS")
    again = "Begin again with"
    if checkpoint:
        again = f"Begin again, or go on from {checkpoint} with --resume, with"
    return f"{again} {'; '.join(found)}"
