"""The state that a checkpoint needs so that a resumed run equals an uninterrupted one."""

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
    """Saves and restores random number generators and the place in the training data.

    Model, optimizer and schedule are in detectron2's checkpoints already. The state of each process
    is gathered when a checkpoint is due. Register it before the hook that saves.
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
            period: of saving, in iterations, as of detectron2's ``PeriodicCheckpointer``.
            loader: training loader; its place is kept if it is a :class:`ResumableLoader`.
            model: that is trained, not wrapped for several processes.
            device: of the model.
            policies: whose losses, since their last update, are kept.
        """
        self._policies = policies
        self._period = period
        self._loader = loader if isinstance(loader, ResumableLoader) else None
        self._model = model
        self._device = device
        self._gathered: tuple[int, list[dict[str, Any]]] = (-1, [])
        self._loaded: dict[str, Any] = {}

    def before_train(self) -> None:
        # Not when loading, since what hooks do before training may draw numbers.
        if "rng" in self._loaded:
            set_rng_state(self._loaded["rng"], self._device)

    def after_step(self) -> None:
        next_iter = self.trainer.iter + 1
        is_due = self._period > 0 and next_iter % self._period == 0
        if is_due or next_iter >= self.trainer.max_iter:
            self.gather()

    def gather(self) -> None:
        """Get the state of all processes, for a checkpoint that is saved now. To be called by
        all."""
        self._gathered = (self.trainer.iter, comm.gather(self._local_state()))

    def _local_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"rng": rng_state(self._device)}
        if self._loader is not None:
            state["loader"] = self._loader.state_dict()
        # detectron2's RetinaNet and FCOS average it over steps in a plain attribute.
        normalizer = getattr(self._model, "loss_normalizer", None)
        if normalizer is not None:
            state["loss_normalizer"] = float(normalizer)
        if self._policies is not None:
            state["policies"] = self._policies.loss_state()
        return state

    def state_dict(self) -> dict[str, Any]:
        """The state of all processes; empty if they are several and no checkpoint is due."""
        if comm.get_world_size() == 1:
            return {"processes": [self._local_state()]}
        iteration, states = self._gathered
        return {"processes": states} if iteration == self.trainer.iter else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let this process go on where the one of its number was.

        Args:
            state: of :meth:`state_dict`. With another number of processes the data go on about
                where they were, and random numbers are new.
        """
        states = state["processes"]
        if len(states) == comm.get_world_size():
            self._loaded = states[comm.get_rank()]
        else:
            logging.getLogger(__name__).warning(
                "Resuming with %d processes what %d began: the run goes on from the same weights "
                "and place in the data, but not exactly as it would have",
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
        """Say that the schedule no longer means what it did: detectron2 resumes the number of
        iterations."""
        taken = sum(state["next"] - sum(map(len, state["waiting"])) for state in loaders)
        iterations = self.trainer.iter + 1
        batch_size = self._loader.batch_size * comm.get_world_size() if self._loader else 0
        # Few are left out where the number of processes changes.
        if round(taken / iterations) != batch_size:
            logging.getLogger(__name__).warning(
                "Resuming in batches of %d images a run that took %d in %d iterations, %.4g in "
                "each: lengths in epochs, and in iterations that follow from "
                "SOLVER.REFERENCE_WORLD_SIZE, are as if all batches had been of this size. To keep "
                "the schedule, resume with the SOLVER.IMS_PER_BATCH and the number of processes "
                "that the run began with",
                batch_size,
                taken,
                iterations,
                taken / iterations,
            )


def _elsewhere(states: list[dict[str, Any]], world_size: int) -> dict[str, Any]:
    """The state for each of another number of processes."""
    result = {key: value for key, value in states[0].items() if key == "loss_normalizer"}
    if all("loader" in state for state in states):
        read = sum(state["loader"]["next"] for state in states)
        place = {"next": read // world_size, "waiting": ([], [])}
        result["loader"] = {**states[0]["loader"], **place}
    return result
