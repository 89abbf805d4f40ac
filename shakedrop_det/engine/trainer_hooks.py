"""Hooks of the trainer, in their required order."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Sequence

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.modeling import without_noise

from .best_checkpoint import BestOfRun
from .best_metric import is_of_average
from .divergence import CheckFinite
from .ema import EMAHook
from .exact_resume import ExactResume
from .interruption import StopBetweenSteps
from .missed_evaluation import MissedEvaluation
from .policy_search import PolicyUpdate
from .resumable_loader import ResumableLoader, resumable

if TYPE_CHECKING:
    from .trainer import Trainer


def complete_hooks(trainer: Trainer, stock: Sequence[HookBase | None]) -> list[HookBase | None]:
    """Add this package's hooks to detectron2's.

    Args:
        trainer: Trainer with its config, model, loader, checkpointer and averaged model.
        stock: Hooks from ``DefaultTrainer.build_hooks``, which saves before it evaluates.

    Returns:
        All hooks. Weights are averaged before they are saved and evaluated; the state for resuming
        is gathered, signals are handled and weights checked right before saving; metrics are
        written last.
    """
    cfg = trainer.cfg
    period, model = cfg.SOLVER.CHECKPOINT_PERIOD, trainer.checkpointer.model
    found: list[HookBase | None] = []
    for hook in stock:
        if isinstance(hook, hooks.PreciseBN):
            isolate(hook, trainer)
        found.append(hook)
        if isinstance(hook, hooks.LRScheduler) and trainer.ema is not None:
            found.append(EMAHook(trainer.ema, model))
        if isinstance(hook, hooks.EvalHook):
            found += evaluation_hooks(trainer)
    for hook in found:
        if isinstance(hook, hooks.EvalHook):
            hook._func = trainer.interruption.allowed()(hook._func)
    before: list[HookBase] = []
    if trainer.policies is not None:
        sizes = {
            "num_images": trainer.data_loader.num_images,
            "batch_size": cfg.SOLVER.IMS_PER_BATCH,
        }
        # First, so that a checkpoint of an interrupted run includes the update.
        before.append(PolicyUpdate(trainer.policies, **sizes))
    if cfg.SOLVER.EXACT_RESUME:
        before.append(
            ExactResume(period, trainer.data_loader, model, trainer.device, trainer.policies)
        )
    before += [StopBetweenSteps(trainer.interruption), CheckFinite(period, model)]
    # Only the main process has a hook that saves.
    later = (hooks.PeriodicCheckpointer, hooks.EvalHook)
    place = next(i for i, hook in enumerate(found) if isinstance(hook, later))
    found[place:place] = before
    found.append(MissedEvaluation())
    return found


def isolate(precise_bn: hooks.PreciseBN, trainer: Trainer) -> None:
    """Make PreciseBN see the network as at test time, and the same images each time.

    Args:
        precise_bn: Hook to change in place.
        trainer: Trainer whose images it reads.
    """
    me = weakref.proxy(trainer)
    loader = getattr(precise_bn, "_data_loader", None)
    if trainer.cfg.SOLVER.EXACT_RESUME and loader is not None:
        loader = precise_bn._data_loader = resumable(
            loader, rank=comm.get_rank(), world_size=comm.get_world_size()
        )
    update = without_noise(trainer.model)(precise_bn.update_stats)

    def update_stats() -> None:
        if isinstance(loader, ResumableLoader):
            # A resumed run does not know how often this ran before.
            loader.restart_like(me.data_loader)
            precise_bn._data_iter = None
        update()

    precise_bn.update_stats = update_stats


def evaluation_hooks(trainer: Trainer) -> list[HookBase]:
    """Return the hooks that follow an evaluation: tests of model variants, saving the best."""
    me: Any = weakref.proxy(trainer)
    cfg = trainer.cfg
    found: list[HookBase] = []

    def test_ema() -> dict[str, Any]:
        results = me.test_under_name(me.cfg, me.ema.model, "ema")
        me._last_eval_results = {**me._last_eval_results, **results}
        return results

    if trainer.ema is not None:
        found.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, test_ema))
    if cfg.TEST.AUG.ENABLED:
        found.append(hooks.EvalHook(0, lambda: me.test_with_TTA(me.cfg, me.model)))
    metric = cfg.SOLVER.BEST_CHECKPOINT_METRIC
    if metric and comm.is_main_process():
        # Evaluations and predictions use the average of a file that has one, so a file that is best
        # by the metric of the weights themselves has none.
        averaged: dict[str, Any] = {"ema": trainer.ema} if is_of_average(cfg, metric) else {}
        model = trainer.checkpointer.model
        weights = Checkpointer(model, cfg.OUTPUT_DIR, cfg=cfg, tag_last=False, **averaged)
        found.append(BestOfRun(cfg.TEST.EVAL_PERIOD, weights, metric))
    return found
