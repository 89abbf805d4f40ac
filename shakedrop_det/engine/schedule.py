"""Learning rate schedules, and lengths in epochs."""

from __future__ import annotations

import logging

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler as build_stock
from detectron2.solver.lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler
from fvcore.common.param_scheduler import StepWithFixedGammaParamScheduler

from shakedrop_det.utils.config_keys import read_key

SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
"""Values of ``SOLVER.LR_SCHEDULER_NAME``."""

_IN_EPOCHS = {
    "SOLVER.MAX_EPOCHS": "SOLVER.MAX_ITER",
    "SOLVER.WARMUP_EPOCHS": "SOLVER.WARMUP_ITERS",
    "SOLVER.STEP_EPOCHS": "SOLVER.STEPS",
    "SOLVER.CHECKPOINT_EPOCHS": "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_EPOCHS": "TEST.EVAL_PERIOD",
}


def uses_epochs(cfg: CfgNode) -> bool:
    """Return whether any length is given in epochs."""
    return any(read_key(cfg, key) for key in _IN_EPOCHS)


def epochs_to_iterations(cfg: CfgNode, num_images: int) -> CfgNode:
    """Replace lengths in iterations by those that are given in epochs.

    Args:
        cfg: Config, which is not changed. ``SOLVER.IMS_PER_BATCH``, ``SOLVER.MAX_EPOCHS``,
            ``WARMUP_EPOCHS``, ``STEP_EPOCHS``, ``CHECKPOINT_EPOCHS`` and ``TEST.EVAL_EPOCHS`` are
            read; 0 or () leaves the number of iterations unchanged.
        num_images: Number of training images. An epoch shows each once.

    Returns:
        Config with ``SOLVER.MAX_ITER``, ``WARMUP_ITERS``, ``STEPS``, ``CHECKPOINT_PERIOD`` and
        ``TEST.EVAL_PERIOD`` in iterations, rounded to the nearest integer and at least 1.

    Raises:
        ValueError: If a number of epochs is negative.
    """
    if not uses_epochs(cfg):
        return cfg
    result = cfg.clone()
    result.defrost()
    for source, target in _IN_EPOCHS.items():
        epochs = read_key(cfg, source)
        lengths = tuple(epochs) if isinstance(epochs, (tuple, list)) else (epochs,)
        if any(length < 0 for length in lengths):
            raise ValueError(f"{source} must not be negative, got {epochs!r}")
        if not epochs:
            continue
        iterations = tuple(
            max(round(length * num_images / cfg.SOLVER.IMS_PER_BATCH), 1) for length in lengths
        )
        value = iterations if target == "SOLVER.STEPS" else iterations[0]
        node, _, name = target.partition(".")
        result[node][name] = value
        logging.getLogger(__name__).info("%s %s: %s %s", source, epochs, target, value)
    if cfg.is_frozen():
        result.freeze()
    return result


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build the schedule of ``SOLVER.LR_SCHEDULER_NAME``, which is detectron2's.

    Args:
        cfg: Config with lengths in iterations; see :func:`epochs_to_iterations`.
        optimizer: Optimizer whose learning rates are scheduled.

    Raises:
        ValueError: If the name is unknown, or the steps do not fit the number of iterations.
            detectron2 ignores steps after the end, with a warning.
    """
    solver = cfg.SOLVER
    name = solver.LR_SCHEDULER_NAME
    if name not in SCHEDULES:
        raise ValueError(
            f"SOLVER.LR_SCHEDULER_NAME must be one of {', '.join(SCHEDULES)}, got {name!r}"
        )
    if solver.MAX_ITER < 1:
        raise ValueError(f"SOLVER.MAX_ITER must be at least 1, got {solver.MAX_ITER!r}")
    if name == "WarmupMultiStepLR":
        _check_steps(tuple(solver.STEPS), solver.MAX_ITER)
    if name == "WarmupCosineLR" and not 0 <= solver.BASE_LR_END <= solver.BASE_LR:
        raise ValueError(
            f"SOLVER.BASE_LR_END must be from 0 to SOLVER.BASE_LR, {solver.BASE_LR!r}, for "
            f"WarmupCosineLR, got {solver.BASE_LR_END!r}"
        )
    if name != "WarmupStepWithFixedGammaLR":
        return build_stock(cfg, optimizer)
    steps = _FixedGammaSteps(1.0, solver.NUM_DECAYS, solver.GAMMA, solver.MAX_ITER)
    warmup = min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0)
    multiplier = WarmupParamScheduler(
        steps, solver.WARMUP_FACTOR, warmup, solver.WARMUP_METHOD, solver.RESCALE_INTERVAL
    )
    return LRMultiplier(optimizer, multiplier=multiplier, max_iter=solver.MAX_ITER)


class _FixedGammaSteps(StepWithFixedGammaParamScheduler):
    """fvcore's scheduler, extended to the very end, where it is undefined. detectron2 evaluates it
    there after the last step, before it saves the model."""

    def __call__(self, where: float) -> float:
        return float(super().__call__(min(where, 1.0 - 1e-5)))


def _check_steps(steps: tuple[int, ...], max_iter: int) -> None:
    if any(step != int(step) for step in steps):
        raise ValueError(
            f"SOLVER.STEPS must be numbers of iterations, got {steps}: SOLVER.STEP_EPOCHS takes "
            "epochs"
        )
    used = [0, *(step for step in steps if step <= max_iter)]
    if max_iter in used:
        raise ValueError(
            f"SOLVER.STEPS {steps} has a step at SOLVER.MAX_ITER, {max_iter}, when training has "
            "ended: remove it, or increase SOLVER.MAX_ITER (with lengths in epochs: "
            "SOLVER.MAX_EPOCHS)"
        )
    if any(later <= earlier for earlier, later in zip(used, used[1:], strict=False)):
        raise ValueError(f"SOLVER.STEPS must be positive and ascending, got {steps}")
    if len(used) > max_iter:
        raise ValueError(
            f"SOLVER.MAX_ITER {max_iter} must be greater than the number of SOLVER.STEPS {steps}"
        )
