"""Keeping the best weights of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from detectron2.engine import hooks

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.checkpoint.weight_files import read_content

FILE_PREFIX = "model_best"


class BestCheckpointer(hooks.BestCheckpointer):
    """detectron2's hook, which also after resuming only replaces weights by better ones.

    The file holds weights alone, with their metric, and is never what a run is resumed from.
    Register it after the evaluation, in the main process.
    """

    def __init__(self, eval_period: int, checkpointer: Checkpointer, metric: str) -> None:
        """
        Args:
            eval_period: of the evaluation, in iterations.
            checkpointer: of the weights and nothing else, not naming its file as the last one.
            metric: name of the metric, of which higher values are better.
        """
        super().__init__(eval_period, checkpointer, metric, file_prefix=FILE_PREFIX)
        self._weights = checkpointer
        self._checkpointer: Any = self  # The base class calls its save().

    def before_train(self) -> None:
        path = os.path.join(self._weights.save_dir, f"{FILE_PREFIX}.pth")
        if self.trainer.start_iter == 0 or not self._weights.path_manager.isfile(path):
            return
        best = read_content(self._weights.path_manager.get_local_path(path))
        # Of a run that was made for another metric nothing can be said.
        if isinstance(best, Mapping) and best.get("metric") == self._val_metric:
            value, iteration = best.get("value"), best.get("iteration")
            if isinstance(value, float) and isinstance(iteration, int):
                self.best_metric, self.best_iter = value, iteration

    def save(self, name: str, **state: Any) -> None:
        """Save the weights under a name, with the metric that was just measured."""
        value, _ = self.trainer.storage.latest()[self._val_metric]
        self._weights.save(name, metric=self._val_metric, value=float(value), **state)
