"""Complete training and evaluation runs."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.checkpoint.classes import CLASSES, check_classes_of_weights, checked_classes
from shakedrop_det.utils.config_errors import errors_of_config

from .checks import check_config
from .trainer import Trainer
from .weights_check import check_weights


def train(
    cfg: CfgNode, *, resume: bool = False, quiet: bool = False, allow_pickle: bool = False
) -> dict[str, Any] | None:
    """Train as configured, from ``MODEL.WEIGHTS`` or from the last checkpoint in ``OUTPUT_DIR``.

    Args:
        cfg: Config from :func:`shakedrop_det.engine.setup`.
        resume: Whether to continue from the last checkpoint in ``OUTPUT_DIR``, if there is one.
        quiet: Whether to show a single progress line; see :class:`shakedrop_det.engine.Trainer`.
        allow_pickle: Whether code in a file of weights may run.

    Returns:
        Metrics of the last evaluation; None if there was none.

    Raises:
        FileNotFoundError, ValueError: See :func:`check_weights` and :class:`Trainer`.
    """
    if not allow_pickle:  # Otherwise the code of the file would run twice.
        check_weights(cfg, resume=resume)
    trainer = Trainer(cfg, quiet=quiet, allow_pickle=allow_pickle)
    trainer.resume_or_load(resume=resume)
    return trainer.train()


def evaluate(cfg: CfgNode, *, resume: bool = False, allow_pickle: bool = False) -> dict[str, Any]:
    """Evaluate ``MODEL.WEIGHTS`` on ``DATASETS.TEST``.

    Args:
        cfg: Config from :func:`shakedrop_det.engine.setup`.
        resume: Whether to evaluate the last checkpoint in ``OUTPUT_DIR`` instead, if there is one.
        allow_pickle: See :func:`train`.

    Returns:
        Metrics by task, or by dataset if there are several.

    Raises:
        FileNotFoundError, ValueError: See :func:`check_config` and :class:`Checkpointer`. Also
            raised if there is no file, or it lacks weights of the model, or has other shapes or
            classes.
    """
    check_config(cfg, train=False)
    with errors_of_config(cfg):
        model = Trainer.build_model(cfg)
    checkpointer = Checkpointer(
        model,
        save_dir=cfg.OUTPUT_DIR,
        cfg=cfg,
        heads_may_be_missing=False,
        allow_pickle=allow_pickle,
    )
    source = cfg.MODEL.WEIGHTS
    if resume and checkpointer.has_checkpoint():
        source = checkpointer.get_checkpoint_file()
    if not source:
        raise ValueError(
            "MODEL.WEIGHTS is empty, so random weights would be evaluated: set it to a checkpoint, "
            "or use --resume with an OUTPUT_DIR that has one"
        )
    content = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    classes = checked_classes(content.get(CLASSES), source=source)
    check_classes_of_weights(classes, cfg.DATASETS.TEST, source=source)
    results = Trainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        results.update(Trainer.test_with_TTA(cfg, model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results
