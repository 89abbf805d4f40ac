"""Saving the best weights of a run."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

from detectron2.engine import hooks

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.checkpoint.weight_files import read_content

FILE_PREFIX = "model_best"


class BestOfRun(hooks.BestCheckpointer):
    """Save the best weights; unlike detectron2's hook, remember the best metric after resuming.

    The file holds only weights, their metric and the run's id, which checkpoints hold as well: the
    best of an earlier run in the same folder does not count. Runs are never resumed from the file.
    Register this hook after the evaluation, in the main process only.
    """

    def __init__(self, eval_period: int, checkpointer: Checkpointer, metric: str) -> None:
        """
        Args:
            eval_period: Number of iterations between evaluations.
            checkpointer: Saves only weights, and does not tag its file as the last checkpoint.
            metric: Name of the metric. Higher values are better.
        """
        super().__init__(eval_period, checkpointer, metric, file_prefix=FILE_PREFIX)
        self._weights = checkpointer
        self._checkpointer: Any = self  # The base class calls its save().
        self._run = uuid.uuid4().hex

    def before_train(self) -> None:
        path = os.path.join(self._weights.save_dir, f"{FILE_PREFIX}.pth")
        if not self._weights.path_manager.isfile(path):
            return
        best = read_content(self._weights.path_manager.get_local_path(path))
        # The value of another metric cannot be compared with this one.
        of_this = (self._val_metric, self._run)
        if isinstance(best, Mapping) and (best.get("metric"), best.get("run")) == of_this:
            value, iteration = best.get("value"), best.get("iteration")
            if isinstance(value, float) and isinstance(iteration, int):
                self.best_metric, self.best_iter = value, iteration

    def save(self, name: str, **state: Any) -> None:
        """Save the weights under ``name`` with the metric that was just measured."""
        value, _ = self.trainer.storage.latest()[self._val_metric]
        kept = {"metric": self._val_metric, "value": float(value), "run": self._run}
        self._weights.save(name, **kept, **state)

    def state_dict(self) -> dict[str, Any]:
        """Return the run's id."""
        return {"run": self._run}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the id of the run that is resumed."""
        self._run = state["run"]
