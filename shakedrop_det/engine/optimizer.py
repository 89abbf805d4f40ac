"""The optimizers of ``SOLVER.OPTIMIZER``."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_sgd
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

OPTIMIZERS = ("SGD", "ADAMW")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a config, with detectron2's keys for learning rates and weight decay.

    Args:
        cfg: read are ``SOLVER.OPTIMIZER`` and the keys that detectron2's own builder reads.
        model: whose trainable parameters are to be optimized.

    Raises:
        ValueError: if ``SOLVER.OPTIMIZER`` is unknown.
    """
    name = cfg.SOLVER.OPTIMIZER
    if name not in OPTIMIZERS:
        raise ValueError(f"SOLVER.OPTIMIZER must be one of {', '.join(OPTIMIZERS)}, got {name!r}")
    if name == "SGD":
        return build_sgd(cfg, model)
    parameters = get_default_optimizer_params(
        model,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        base_lr=cfg.SOLVER.BASE_LR,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    optimizer = torch.optim.AdamW(
        parameters, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY
    )
    return maybe_add_gradient_clipping(cfg, optimizer)
