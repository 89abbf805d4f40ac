"""The optimizers of ``SOLVER.OPTIMIZER``, and gradient clipping."""

from __future__ import annotations

import functools
from typing import Any, Iterable

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_stock_sgd
from detectron2.solver.build import (
    _generate_optimizer_class_with_gradient_clipping as with_gradient_clipping,
)
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import Tensor, nn

OPTIMIZERS = ("SGD", "ADAMW")
CLIP_TYPES = ("value", "norm", "full_model")
"""The values of ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE``: detectron2's own, which clip each number or
each parameter's gradient by itself, and the norm of all gradients together, which is what clipping
means elsewhere and in detectron2's projects."""


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a config, with detectron2's keys for learning rates and weight decay.

    Weight decay is ``SOLVER.WEIGHT_DECAY``, for the parameters of norms ``WEIGHT_DECAY_NORM``, and
    for biases ``WEIGHT_DECAY_BIAS`` unless that is None.

    Args:
        cfg: read are ``SOLVER.OPTIMIZER`` and the keys that detectron2's own builder reads.
        model: whose trainable parameters are to be optimized.

    Raises:
        ValueError: if ``SOLVER.OPTIMIZER`` or the type of gradient clipping is unknown, or
            gradients would be clipped to nothing.
    """
    name = cfg.SOLVER.OPTIMIZER
    if name not in OPTIMIZERS:
        raise ValueError(f"SOLVER.OPTIMIZER must be one of {', '.join(OPTIMIZERS)}, got {name!r}")
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    if clipping.ENABLED and clipping.CLIP_TYPE not in CLIP_TYPES:
        raise ValueError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE must be one of {', '.join(CLIP_TYPES)}, got "
            f"{clipping.CLIP_TYPE!r}"
        )
    if clipping.ENABLED and not clipping.CLIP_VALUE > 0:  # A negative one turns gradients round.
        raise ValueError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_VALUE must be positive, got {clipping.CLIP_VALUE!r}"
        )
    if not clipping.ENABLED or clipping.CLIP_TYPE != "full_model":
        return _build(cfg, model)
    unclipped = cfg.clone()
    unclipped.defrost()
    unclipped.SOLVER.CLIP_GRADIENTS.ENABLED = False
    optimizer = _build(unclipped, model)

    def clip(parameters: Iterable[Tensor]) -> None:
        nn.utils.clip_grad_norm_(parameters, clipping.CLIP_VALUE, clipping.NORM_TYPE)

    # As detectron2 does for its own types: the class of the instance.
    optimizer.__class__ = with_gradient_clipping(type(optimizer), global_clipper=clip)
    return optimizer


def clipped_sgd(params: Any, *, max_norm: float, **options: Any) -> torch.optim.SGD:
    """SGD with clipped gradients for lazy configs, which have no ``SOLVER.CLIP_GRADIENTS``.

    Args:
        params: parameters or groups of them.
        max_norm: to which the gradient of each parameter is clipped by itself before a step, as by
            the ``CLIP_TYPE`` "norm".
        options: of :class:`torch.optim.SGD`.

    Source: :func:`detectron2.solver.build.maybe_add_gradient_clipping`, which reads a ``CfgNode``.
    """
    clip = functools.partial(nn.utils.clip_grad_norm_, max_norm=max_norm)
    return with_gradient_clipping(torch.optim.SGD, per_param_clipper=clip)(params, **options)


def _build(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    if cfg.SOLVER.OPTIMIZER == "SGD":
        return build_stock_sgd(cfg, model)
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
