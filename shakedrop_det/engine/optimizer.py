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
"""Values of ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE``. detectron2's "value" and "norm" clip each element
or each parameter's gradient separately; "full_model" clips the norm of all gradients together,
which is what clipping means elsewhere and in detectron2's projects."""


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of a config, with detectron2's keys for learning rates and weight decay.

    Weight decay is ``SOLVER.WEIGHT_DECAY``; for norms ``WEIGHT_DECAY_NORM``, and for biases
    ``WEIGHT_DECAY_BIAS`` unless that is None.

    Args:
        cfg: ``SOLVER.OPTIMIZER`` and the keys of detectron2's own builder are read.
        model: Model whose trainable parameters are optimized.

    Raises:
        ValueError: If ``SOLVER.OPTIMIZER`` or the type of gradient clipping is unknown, or the
            clipping value is not positive.
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
    if clipping.ENABLED and not clipping.CLIP_VALUE > 0:  # Negative values reverse gradients.
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

    # detectron2 also changes the class of the instance for its own types.
    optimizer.__class__ = with_gradient_clipping(type(optimizer), global_clipper=clip)
    return optimizer


def clipped_sgd(params: Any, *, max_norm: float, **options: Any) -> torch.optim.SGD:
    """Build SGD with clipped gradients for lazy configs, which have no ``SOLVER.CLIP_GRADIENTS``.

    Args:
        params: Parameters or parameter groups.
        max_norm: Norm to which each parameter's gradient is clipped separately before a step, as
            with ``CLIP_TYPE`` "norm".
        options: Options of :class:`torch.optim.SGD`.

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
