"""Training step with mixed precision, gradient accumulation, and a check of the losses."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any, Callable, ContextManager, Mapping, NoReturn

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from shakedrop_det.augmentation import PolicySearch

from .divergence import FirstStepError
from .non_finite import describe_non_finite

AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""Values of ``SOLVER.AMP.DTYPE``."""


def amp_dtype(cfg: CfgNode) -> torch.dtype | None:
    """Return the autocast dtype of ``SOLVER.AMP``; None if it is disabled.

    Args:
        cfg: ``SOLVER.AMP`` and ``MODEL.DEVICE`` are read.

    Raises:
        ValueError: If ``SOLVER.AMP.DTYPE`` is unknown.
    """
    name = cfg.SOLVER.AMP.DTYPE
    if name not in AMP_DTYPES:
        raise ValueError(f"SOLVER.AMP.DTYPE must be one of {', '.join(AMP_DTYPES)}, got {name!r}")
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    return torch.bfloat16 if cfg.MODEL.DEVICE.startswith("cpu") else AMP_DTYPES[name]


class TrainStep(SimpleTrainer):
    """detectron2's ``SimpleTrainer`` and ``AMPTrainer`` in one, with gradient accumulation.

    By default, it computes the same as ``SimpleTrainer``. float16 needs CUDA and scales the loss to
    prevent gradients from underflowing; bfloat16 has the exponent range of float32.

    A loss that is not finite stops the run, and the error names the layer.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        *,
        accumulation_steps: int = 1,
        amp_dtype: torch.dtype | None = None,
        policies: PolicySearch | None = None,
        while_waiting: Callable[[], ContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        """
        Args:
            model: Model that returns a dict of losses, each averaged over its input images.
            data_loader: Iterable of batches, which are lists of images.
            optimizer: Optimizer of the model's parameters.
            accumulation_steps: Number of parts that a batch is divided into. Gradients are those of
                the mean of the parts' losses. BatchNorm's statistics, and losses normalized by the
                number of objects, are computed per part.
            amp_dtype: Dtype of the autocast forward pass; None for no autocast.
            policies: Makes copies of each batch to train on. Gradients are those of the mean of the
                copies' losses; BatchNorm's statistics are computed per copy.
            while_waiting: Returns a context in which to wait for images, before anything changes.

        Raises:
            ValueError: If ``accumulation_steps`` is less than 1.
        """
        if accumulation_steps < 1:
            raise ValueError(
                f"SOLVER.ACCUMULATION_STEPS must be at least 1, got {accumulation_steps!r}"
            )
        super().__init__(model, data_loader, optimizer)
        self.accumulation_steps = accumulation_steps
        self.amp_dtype = amp_dtype
        self.policies = policies
        self.device = next(model.parameters()).device
        self._while_waiting = while_waiting
        self._has_stepped = False
        self.grad_scaler = torch.amp.GradScaler(
            self.device.type, enabled=amp_dtype == torch.float16 and self.device.type == "cuda"
        )

    def run_step(self) -> None:
        """Take one optimizer step on the next batch of the data loader.

        Raises:
            FloatingPointError: If a loss is not finite; in the first step, a
                :class:`FirstStepError`. The message has the iteration, the losses and the first
                layer whose output is not finite.
            ValueError: If the batch cannot be divided evenly.
        """
        assert self.model.training, "the model was changed to eval mode"
        start = time.perf_counter()
        with self._while_waiting():
            data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        parts = self._parts(data)
        self.optimizer.zero_grad()
        losses: dict[str, Any] = {}
        totals: list[Tensor] = []
        for number, part in enumerate(parts, start=1):
            with self._reducing_gradients(number == len(parts)):
                part_losses = self._forward(part)
                total: Any = sum(part_losses.values())
                totals.append(total.detach())
                if len(parts) > 1:
                    total = total / len(parts)
                self.grad_scaler.scale(total).backward()
            for name, loss in part_losses.items():
                losses[name] = losses.get(name, 0) + loss.detach() / len(parts)
        self.after_backward()
        # Only now that all work is queued, since reading a number waits for the device.
        values = {name: loss.item() for name, loss in losses.items()}
        if not all(math.isfinite(value) for value in values.values()):
            self._stop(f"the loss became infinite or NaN: {values}", parts)
        if self.policies is not None:
            # The parts of a copy are consecutive.
            of_copies = torch.stack(totals).view(-1, self.accumulation_steps)
            self.policies.add_losses(of_copies.mean(dim=1))
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self._has_stepped = True

    def _parts(self, data: list[Any]) -> list[list[Any]]:
        """Return the inputs of the successive forward passes of a step."""
        copies = [data]
        if self.policies is not None:
            copies = self.policies.copies(data, self.device)
        return [part for copy in copies for part in divide(copy, self.accumulation_steps)]

    def _forward(self, part: list[Any]) -> Mapping[str, Tensor]:
        try:
            with self._autocast():
                losses = self.model(part)
        except FloatingPointError as error:  # detectron2's RPN checks its proposals itself.
            self._stop(str(error), [part])
        return {"total_loss": losses} if isinstance(losses, Tensor) else losses

    def _stop(self, reason: str, parts: list[list[Any]]) -> NoReturn:
        wrapped = isinstance(self.model, DistributedDataParallel)
        model = self.model.module if wrapped else self.model
        is_first = not self._has_stepped
        with self._autocast():
            culprit = describe_non_finite(model, parts, is_first=is_first)
        error = FirstStepError if is_first else FloatingPointError
        raise error(f"iteration {self.iter}: {reason}; {culprit}")

    def _autocast(self) -> ContextManager[Any]:
        # Not entered unless needed: torch warns about device types that it does not know.
        if self.amp_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.amp_dtype)

    def _reducing_gradients(self, is_last: bool) -> ContextManager[Any]:
        """Return a context in which processes exchange gradients only after the last part."""
        if is_last or not isinstance(self.model, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        _check_optimizer(state_dict["optimizer"], self.optimizer)
        super().load_state_dict(state_dict)
        # Runs without float16 on CUDA save no scaler state: the scaler then finds its own scale.
        scaler_state = state_dict.get("grad_scaler")
        if scaler_state and self.grad_scaler.is_enabled():
            self.grad_scaler.load_state_dict(scaler_state)


def _check_optimizer(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Check that a saved state is of this optimizer and its parameters. torch detects other
    parameters without saying what to do, and another optimizer only in its first step.

    Raises:
        ValueError: If it is not. The message names the keys.
    """
    groups, own = saved["param_groups"], optimizer.param_groups
    # These options distinguish SGD from Adam; others differ between versions of torch.
    if any((name in groups[0]) != (name in own[0]) for name in ("momentum", "betas")):
        raise ValueError(
            f"the run to be resumed has another optimizer than {type(optimizer).__name__}: resume "
            "with its original SOLVER.OPTIMIZER, or start a new run in another OUTPUT_DIR"
        )
    sizes = [[len(group["params"]) for group in each] for each in (groups, own)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"the run to be resumed trained {sum(sizes[0])} parameters in {len(sizes[0])} groups, "
            f"this one {sum(sizes[1])} in {len(sizes[1])}: resume with its original MODEL keys "
            "(BACKBONE.FREEZE_AT, NORM, the heads) and SOLVER keys of learning rates and weight "
            "decay, or start a new run in another OUTPUT_DIR"
        )


def divide(data: list[Any], parts: int) -> list[list[Any]]:
    """Divide a batch into parts of equal size, in order.

    Raises:
        ValueError: If that is not possible.
    """
    if parts == 1:
        return [data]
    if len(data) % parts:
        raise ValueError(
            f"SOLVER.ACCUMULATION_STEPS {parts} must divide the {len(data)} images that a process "
            "gets per step, SOLVER.IMS_PER_BATCH divided by the number of processes"
        )
    size = len(data) // parts
    return [data[start : start + size] for start in range(0, len(data), size)]
