"""The interface of a trainer that hooks and signal handlers use."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from detectron2.config import CfgNode
from torch import nn

from shakedrop_det.augmentation import PolicySearch
from shakedrop_det.checkpoint import Checkpointer

from .ema import ModelEMA


class Trained(Protocol):
    """The trainer, as those see it whom it calls."""

    cfg: CfgNode
    model: nn.Module
    data_loader: Any
    device: torch.device
    checkpointer: Checkpointer
    ema: ModelEMA | None
    policies: PolicySearch | None
    interruption: Any
    iter: int
    start_iter: int
    max_iter: int
    _hooks: list[Any]
