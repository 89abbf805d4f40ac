"""The evaluation that was due when a run ended, when the run is resumed."""

from __future__ import annotations

from typing import Any

from detectron2.engine import HookBase, hooks


class MissedEvaluation(HookBase):
    """Run the evaluation of the last finished step before the first step of a resumed run, if it
    was due then and the checkpoint was saved before the evaluation finished.

    A signal may arrive in an evaluation, or in a step that one follows. Without this hook, the
    metrics of that iteration would be missing, and possibly the best weights. A periodic checkpoint
    is saved before the evaluation of its step, which is repeated if the process is killed later:
    the checkpoint does not have the best metric so far. Register the hook after those that
    evaluate.
    """

    def __init__(self) -> None:
        self._evaluated: int | None = None

    def before_train(self) -> None:
        trainer, start = self.trainer, self.trainer.start_iter
        if start == 0 or start >= trainer.max_iter or self._evaluated == start - 1:
            return
        trainer.iter = trainer.storage.iter = start - 1
        for hook in trainer._hooks:
            # These find out whether an evaluation is due.
            if isinstance(hook, (hooks.EvalHook, hooks.BestCheckpointer)):
                hook.after_step()
        trainer.iter = trainer.storage.iter = start

    def after_step(self) -> None:
        self._evaluated = self.trainer.iter

    def state_dict(self) -> dict[str, Any]:
        """Return the last iteration whose evaluation, if one was due, was finished."""
        return {} if self._evaluated is None else {"evaluated": self._evaluated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of :meth:`state_dict`."""
        self._evaluated = state["evaluated"]
