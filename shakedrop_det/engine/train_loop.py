"""The training step: mixed precision, gradient accumulation, and a check of the losses."""

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
"""The values of ``SOLVER.AMP.DTYPE``."""


def amp_dtype(cfg: CfgNode) -> torch.dtype | None:
    """What ``SOLVER.AMP`` computes in, None where it is off.

    Args:
        cfg: read are ``SOLVER.AMP`` and ``MODEL.DEVICE``.

    Raises:
        ValueError: if ``SOLVER.AMP.DTYPE`` is unknown.
    """
    name = cfg.SOLVER.AMP.DTYPE
    if name not in AMP_DTYPES:
        raise ValueError(f"SOLVER.AMP.DTYPE must be one of {', '.join(AMP_DTYPES)}, got {name!r}")
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    return torch.bfloat16 if cfg.MODEL.DEVICE.startswith("cpu") else AMP_DTYPES[name]


class TrainStep(SimpleTrainer):
    """detectron2's ``SimpleTrainer`` and ``AMPTrainer`` in one, with gradient accumulation.

    With the defaults it computes what ``SimpleTrainer`` does. float16 needs CUDA and scales the
    loss, so that gradients do not underflow; bfloat16 has the exponent range of float32.

    A loss that is no finite number stops the run, and the error names the layer.
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
            model: gives a dict of losses, each the mean over the images it was given.
            data_loader: iterable of batches, lists of images.
            optimizer: of the model's parameters.
            accumulation_steps: parts that a batch is divided into; the gradients are those of the
                mean of the parts' losses. Batch statistics, and losses that are divided by the
                number of objects in a batch, are those of the parts.
            amp_dtype: what autocast computes the forward pass in; None for no autocast.
            policies: what makes copies of each batch, all of which are trained on: the gradients
                are those of the mean of their losses, and batch statistics those of each.
            while_waiting: a context to wait for images in, where nothing has changed yet.

        Raises:
            ValueError: if ``accumulation_steps`` is less than 1.
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
        """One step of the optimizer, with what the data loader gives next.

        Raises:
            FloatingPointError: if a loss is infinite or no number, with the iteration, the losses
                and the first layer that gave such numbers; of the kind :class:`FirstStepError` in
                the first step.
            ValueError: if the batch cannot be divided evenly.
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
        # Only now, when the device has its work: reading a number waits for it.
        values = {name: loss.item() for name, loss in losses.items()}
        if not all(math.isfinite(value) for value in values.values()):
            self._stop(f"the loss became infinite or NaN: {values}", parts)
        if self.policies is not None:
            # The parts of a copy follow each other.
            of_copies = torch.stack(totals).view(-1, self.accumulation_steps)
            self.policies.add_losses(of_copies.mean(dim=1))
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self._has_stepped = True

    def _parts(self, data: list[Any]) -> list[list[Any]]:
        """What goes through the network, one after the other, for a step."""
        copies = [data]
        if self.policies is not None:
            copies = self.policies.copies(data, self.device)
        return [part for copy in copies for part in divide(copy, self.accumulation_steps)]

    def _forward(self, part: list[Any]) -> Mapping[str, Tensor]:
        try:
            with self._autocast():
                losses = self.model(part)
        except FloatingPointError as error:  # detectron2's RPN looks at its proposals itself.
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
        # Not entered without need: torch would complain of an unknown device type.
        if self.amp_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.amp_dtype)

    def _reducing_gradients(self, is_last: bool) -> ContextManager[Any]:
        """Processes exchange gradients once per step, when all are summed."""
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
        # Runs without float16 on CUDA have no state of it: the scaler then finds its own scale.
        scaler_state = state_dict.get("grad_scaler")
        if scaler_state and self.grad_scaler.is_enabled():
            self.grad_scaler.load_state_dict(scaler_state)


def _check_optimizer(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Stop if a saved state is not one of this optimizer and its parameters: torch notices the
    parameters, without saying what to do, and the optimizer only in its first step.

    Raises:
        ValueError: naming the keys.
    """
    groups, own = saved["param_groups"], optimizer.param_groups
    # What tells SGD and Adam apart; versions of torch differ in others.
    if any((name in groups[0]) != (name in own[0]) for name in ("momentum", "betas")):
        raise ValueError(
            f"the run to be resumed has another optimizer than {type(optimizer).__name__}: resume "
            "with the SOLVER.OPTIMIZER that it began with, or begin another in another OUTPUT_DIR"
        )
    sizes = [[len(group["params"]) for group in each] for each in (groups, own)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"the run to be resumed trained {sum(sizes[0])} parameters in {len(sizes[0])} groups, "
            f"this one {sum(sizes[1])} in {len(sizes[1])}: resume with the MODEL keys that it "
            "began with (BACKBONE.FREEZE_AT, NORM, the heads) and the SOLVER's keys of rates and "
            "weight decay, or begin another in another OUTPUT_DIR"
        )


def divide(data: list[Any], parts: int) -> list[list[Any]]:
    """Divide a batch into parts of one size, in order.

    Raises:
        ValueError: if that is not possible.
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
