"""Interface of a trainer for hooks and signal handlers."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from detectron2.config import CfgNode
from torch import nn

from shakedrop_det.augmentation import PolicySearch
from shakedrop_det.checkpoint import Checkpointer

from .ema import ModelEMA


class Trained(Protocol):
    """Trainer as seen by the hooks and functions that it calls."""

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
