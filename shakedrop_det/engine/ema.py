"""An exponential moving average of the weights."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class ModelEMA:
    """The exponential moving average of a model, torch's ``AveragedModel``, to be saved.

    Parameters and floating point buffers, such as BatchNorm's statistics, are averaged,
    ``average = decay * average + (1 - decay) * current``; others, which count, are copied. The
    first update copies everything.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        """
        Args:
            model: to be averaged; it is copied.
            decay: in [0, 1).

        Raises:
            ValueError: for another decay.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"SOLVER.EMA_DECAY must be in [0, 1), got {decay!r}; 0 keeps none")
        average = get_ema_multi_avg_fn(decay)

        def update(averages: Any, current: Any, count: Any) -> None:
            if averages[0].is_floating_point():
                average(averages, current, count)
            else:
                torch._foreach_copy_(averages, current)

        self._averaged = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
        self._averaged.requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        """The averaged model."""
        return self._averaged.module

    def update(self, model: nn.Module) -> None:
        """Take the model's present weights into the average."""
        self._averaged.update_parameters(model)

    def state_dict(self) -> dict[str, Tensor]:
        """The weights by their names in the model."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved average.

        Args:
            state: of :meth:`state_dict`.
        """
        self.model.load_state_dict(state)
        self._averaged.n_averaged.fill_(1)  # Or the next update would copy.


class EMAHook(HookBase):
    """Updates a :class:`ModelEMA` after each step. Register it before what saves and evaluates."""

    def __init__(self, ema: ModelEMA, model: nn.Module) -> None:
        """
        Args:
            ema: to be updated.
            model: that is trained, not wrapped for several processes.
        """
        self._ema = ema
        self._model = model

    def after_step(self) -> None:
        self._ema.update(self._model)
