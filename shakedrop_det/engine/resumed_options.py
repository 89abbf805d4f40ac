"""Applying the config's optimizer options, rather than the checkpoint's, to a resumed run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.solver.lr_scheduler import LRScheduler

_BASE_RATE = "initial_lr"

KEYS = {
    _BASE_RATE: "SOLVER.BASE_LR (or BIAS_LR_FACTOR, or the number of processes)",
    "weight_decay": "SOLVER.WEIGHT_DECAY (or its forms for norms and biases)",
    "momentum": "SOLVER.MOMENTUM",
    "nesterov": "SOLVER.NESTEROV",
}
"""Config keys that determine each option of the optimizer."""


def options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the options of each parameter group, except its current learning rate.

    Args:
        optimizer: Optimizer with a schedule, so that each group has its base learning rate.
    """
    groups = optimizer.param_groups
    return [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in groups]


def restore_options(
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler,
    configured: Sequence[dict[str, Any]],
) -> None:
    """Restore the config's options of an optimizer whose state was loaded, and log each change.

    The momentum buffers and the position in the schedule remain as loaded. Otherwise, a
    checkpoint's base learning rate and weight decay would be combined with the config's schedule.

    Args:
        optimizer, scheduler: Optimizer and scheduler with the state of a checkpoint.
        configured: Result of :func:`options` before that state was loaded.
    """
    changes: dict[tuple[Any, ...], None] = {}  # A dict keeps the order and drops duplicates.
    for loaded, ours in zip(options(optimizer), configured, strict=True):
        for name, key in KEYS.items():
            if name in ours and loaded.get(name, ours[name]) != ours[name]:
                what = "base learning rate" if name == _BASE_RATE else name.replace("_", " ")
                changes[what, ours[name], loaded[name], key] = None
    for change in changes:
        logging.getLogger(__name__).warning(
            "Resuming with %s %g instead of the checkpoint's %g, as set by %s", *change
        )
    for group, ours in zip(optimizer.param_groups, configured, strict=True):
        group.update(ours)
    scheduler.base_lrs = [group[_BASE_RATE] for group in optimizer.param_groups]
    rates: Any = scheduler.get_lr()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
