"""Exponential moving average of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


@dataclass
class _Rate:
    """The decay of an average that grows with the number of steps."""

    limit: float
    step: int = 0

    @property
    def current(self) -> float:
        return min(self.limit, (1 + self.step) / (10 + self.step))


class ModelEMA:
    """Average a model's weights with torch's ``AveragedModel``, in a form that can be saved.

    Parameters and floating-point buffers, such as BatchNorm's statistics, are set to
    ``d * average + (1 - d) * current``; other buffers are copied. After n steps d is
    ``min(decay, (1 + n) / (10 + n))``, so that the average does not remember the initial weights.
    The first update copies all.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        """
        Args:
            model: Model to average. It is copied.
            decay: Decay of the average, in [0, 1).

        Raises:
            ValueError: If ``decay`` is not in [0, 1).
        """
        if not 0 <= decay < 1:
            raise ValueError(f"SOLVER.EMA_DECAY must be in [0, 1), got {decay!r}; 0 disables it")
        self._rate = rate = _Rate(decay)  # Not self, which would be a reference cycle.

        def update(averages: Any, current: Any, count: Any) -> None:
            if averages[0].is_floating_point():
                get_ema_multi_avg_fn(rate.current)(averages, current, count)
            else:
                torch._foreach_copy_(averages, current)

        self._averaged = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
        self._averaged.requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        """Averaged model."""
        return self._averaged.module

    def update(self, model: nn.Module, *, step: int) -> None:
        """Add the current weights of a model to the average.

        Args:
            model: Model that is trained.
            step: Number of steps that were taken, including the current one.
        """
        self._rate.step = step
        self._averaged.update_parameters(model)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights under their names in the model."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved average.

        Args:
            state: State from :meth:`state_dict`.
        """
        self.model.load_state_dict(state)
        self._averaged.n_averaged.fill_(1)  # Otherwise the next update would copy.


class EMAHook(HookBase):
    """Update a :class:`ModelEMA` after each step. Register it before hooks that save and test."""

    def __init__(self, ema: ModelEMA, model: nn.Module) -> None:
        """
        Args:
            ema: Average to update.
            model: Model that is trained, without the DistributedDataParallel wrapper.
        """
        self._ema = ema
        self._model = model

    def after_step(self) -> None:
        self._ema.update(self._model, step=self.trainer.iter + 1)
