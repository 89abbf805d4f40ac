"""Training steps that detectron2 lacks."""

from __future__ import annotations

import time

import torch
from detectron2.engine import SimpleTrainer


class CPUAMPTrainer(SimpleTrainer):
    """:class:`detectron2.engine.SimpleTrainer` under automatic mixed precision on a CPU.

    detectron2's ``AMPTrainer`` needs CUDA. bfloat16 has the exponent range of float32, so that no
    gradient scaler is needed.
    """

    def run_step(self) -> None:
        """One step; the forward pass alone runs under autocast, as torch recommends."""
        assert self.model.training, "[CPUAMPTrainer] model was changed to eval mode!"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = self.model(data)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.optimizer.step()
