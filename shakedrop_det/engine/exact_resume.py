"""State that a checkpoint needs so that a resumed run equals an uninterrupted one."""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from shakedrop_det.augmentation import PolicySearch

from .resumable_loader import ResumableLoader
from .rng import rng_state, set_rng_state


class ExactResume(HookBase):
    """Save and restore the random number generators and the position in the training data.

    detectron2's checkpoints already have the model, optimizer and schedule. The state of all
    processes is gathered when a checkpoint is due. Register this hook before those that save or
    stop a run.
    """

    def __init__(
        self,
        period: int,
        loader: Any,
        model: nn.Module,
        device: torch.device,
        policies: PolicySearch | None = None,
    ) -> None:
        """
        Args:
            period: Number of iterations between checkpoints, as in ``PeriodicCheckpointer``.
            loader: Training data loader. Its position is saved if it is a :class:`ResumableLoader`.
            model: Model that is trained, without the DistributedDataParallel wrapper.
            device: Device of the model.
            policies: Policy search whose losses since its last update are saved.
        """
        self._policies = policies
        self._period = period
        self._loader = loader if isinstance(loader, ResumableLoader) else None
        self._model = model
        self._device = device
        self._finished: tuple[int, dict[str, Any]] = (-1, {})
        self._gathered: tuple[int, list[dict[str, Any]]] = (-1, [])
        self._loaded: dict[str, Any] = {}

    def before_train(self) -> None:
        # Not in load_state_dict, since hooks may draw numbers before training.
        if "rng" in self._loaded:
            set_rng_state(self._loaded["rng"], self._device)

    def after_step(self) -> None:
        # A signal may stop a run while the next batch is being read, which changes both.
        self._finished = (self.trainer.iter, self._reading_state())
        next_iter = self.trainer.iter + 1
        is_due = self._period > 0 and next_iter % self._period == 0
        if is_due or next_iter >= self.trainer.max_iter:
            self.gather()

    def gather(self) -> None:
        """Gather the state of all processes for a checkpoint that is saved now. All must call
        this."""
        self._gathered = (self.trainer.iter, comm.gather(self._local_state()))

    def _reading_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"rng": rng_state(self._device)}
        if self._loader is not None:
            state["loader"] = self._loader.state_dict()
        return state

    def _local_state(self) -> dict[str, Any]:
        iteration, finished = self._finished
        state = dict(finished) if iteration == self.trainer.iter else self._reading_state()
        # detectron2's RetinaNet and FCOS keep this running average in a plain attribute.
        normalizer = getattr(self._model, "loss_normalizer", None)
        if normalizer is not None:
            state["loss_normalizer"] = float(normalizer)
        if self._policies is not None:
            state["policies"] = self._policies.loss_state()
        return state

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all processes; empty if there are several and no save is due."""
        if comm.get_world_size() == 1:
            return {"processes": [self._local_state()]}
        iteration, states = self._gathered
        return {"processes": states} if iteration == self.trainer.iter else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the process of the same rank stopped.

        Args:
            state: State from :meth:`state_dict`. If the number of processes differs, the data
                continue at about the same position, and random numbers are new.
        """
        states = state["processes"]
        if len(states) == comm.get_world_size():
            self._loaded = states[comm.get_rank()]
        else:
            logging.getLogger(__name__).warning(
                "Resuming with %d processes a run that began with %d: it continues from the same "
                "weights and position in the data, but not exactly as it would have",
                comm.get_world_size(),
                len(states),
            )
            self._loaded = _elsewhere(states, comm.get_world_size())
        if self._loader is not None and "loader" in self._loaded:
            self._warn_of_batch_size([state["loader"] for state in states])
            self._loader.load_state_dict(self._loaded["loader"])
        if self._policies is not None and "policies" in self._loaded:
            self._policies.load_loss_state(self._loaded["policies"])
        if "loss_normalizer" in self._loaded:
            self._model.loss_normalizer = self._loaded["loss_normalizer"]

    def _warn_of_batch_size(self, loaders: list[dict[str, Any]]) -> None:
        """Warn if the batch size changed: detectron2 resumes at the same iteration, which is then
        another point of the schedule in epochs."""
        taken = sum(state["next"] - sum(map(len, state["waiting"])) for state in loaders)
        iterations = self.trainer.iter + 1
        batch_size = self._loader.batch_size * comm.get_world_size() if self._loader else 0
        # Rounded, since a change of the number of processes leaves out a few images.
        if round(taken / iterations) != batch_size:
            logging.getLogger(__name__).warning(
                "The batch size is %d, but the resumed run used %d images in %d iterations, %.4g "
                "in each: lengths in epochs, and those scaled by SOLVER.REFERENCE_WORLD_SIZE, are "
                "computed as if all batches had this size. To keep the schedule, resume with the "
                "SOLVER.IMS_PER_BATCH and the number of processes of the original run",
                batch_size,
                taken,
                iterations,
                taken / iterations,
            )


def _elsewhere(states: list[dict[str, Any]], world_size: int) -> dict[str, Any]:
    """Return the state for each process of a run with another number of processes."""
    result = {key: value for key, value in states[0].items() if key == "loss_normalizer"}
    if all("loader" in state for state in states):
        read = sum(state["loader"]["next"] for state in states)
        place = {"next": read // world_size, "waiting": ([], [])}
        result["loader"] = {**states[0]["loader"], **place}
    return result
