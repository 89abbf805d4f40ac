"""Training runs and evaluations from beginning to end."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.checkpoint.classes import CLASSES, check_same_classes, checked_classes

from .checks import check_config
from .trainer import Trainer
from .weights_check import check_weights


def train(
    cfg: CfgNode, *, resume: bool = False, quiet: bool = False, allow_pickle: bool = False
) -> dict[str, Any] | None:
    """Train as the config says, from ``MODEL.WEIGHTS`` or where ``OUTPUT_DIR`` left off.

    Args:
        cfg: see :func:`shakedrop_det.engine.setup`.
        resume: whether to continue from the last checkpoint in ``OUTPUT_DIR``, if there is one.
        quiet: whether to show one line of progress, see :class:`shakedrop_det.engine.Trainer`.
        allow_pickle: whether code that a file of weights carries may be run.

    Returns:
        dict: metrics of the last evaluation, if there was one.

    Raises:
        FileNotFoundError, ValueError: see :func:`check_weights` and :class:`Trainer`.
    """
    if not allow_pickle:  # or the code of the file would run twice
        check_weights(cfg, resume=resume)
    trainer = Trainer(cfg, quiet=quiet, allow_pickle=allow_pickle)
    trainer.resume_or_load(resume=resume)
    return trainer.train()


def evaluate(cfg: CfgNode, *, resume: bool = False, allow_pickle: bool = False) -> dict[str, Any]:
    """Evaluate ``MODEL.WEIGHTS`` on ``DATASETS.TEST``.

    Args:
        cfg: see :func:`shakedrop_det.engine.setup`.
        resume: whether to evaluate the last checkpoint in ``OUTPUT_DIR`` instead, if there is one.
        allow_pickle: see :func:`train`.

    Returns:
        dict: the metrics, by task, or by data set if there are several.

    Raises:
        FileNotFoundError, ValueError: see :func:`check_config` and :class:`Checkpointer`; also if
            the file lacks weights of the model, has them in another shape, or is of other classes.
    """
    check_config(cfg, train=False)
    model = Trainer.build_model(cfg)
    checkpointer = Checkpointer(
        model,
        save_dir=cfg.OUTPUT_DIR,
        cfg=cfg,
        heads_may_be_missing=False,
        allow_pickle=allow_pickle,
    )
    content = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    classes = checked_classes(content.get(CLASSES), source=cfg.MODEL.WEIGHTS)
    check_same_classes(classes, cfg.DATASETS.TEST, source=cfg.MODEL.WEIGHTS)
    results = Trainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        results.update(Trainer.test_with_TTA(cfg, model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results
