"""A resumed run follows its config where it differs from the checkpoint."""

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
"""Where options of the optimizer come from."""


def options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The options of each group of parameters, but for its learning rate at the moment.

    Args:
        optimizer: with a schedule, so that each group has its base learning rate.
    """
    groups = optimizer.param_groups
    return [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in groups]


def restore_options(
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler,
    configured: Sequence[dict[str, Any]],
) -> None:
    """Give an optimizer, whose state was loaded, the options of the config, and say what changes.

    What is loaded stays: momenta, and how far the schedule is. Without this, a checkpoint's base
    learning rate and weight decay would be used with the config's schedule.

    Args:
        optimizer, scheduler: with the state of a checkpoint.
        configured: :func:`options` before that was loaded.
    """
    for loaded, ours in zip(options(optimizer), configured, strict=True):
        for name, key in KEYS.items():
            if name in ours and loaded.get(name, ours[name]) != ours[name]:
                logging.getLogger(__name__).warning(
                    "Resuming with %s %g in place of the checkpoint's %g, as %s of the config says",
                    "base learning rate" if name == _BASE_RATE else name.replace("_", " "),
                    ours[name],
                    loaded[name],
                    key,
                )
    for group, ours in zip(optimizer.param_groups, configured, strict=True):
        group.update(ours)
    scheduler.base_lrs = [group[_BASE_RATE] for group in optimizer.param_groups]
    rates: Any = scheduler.get_lr()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
