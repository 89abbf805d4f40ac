"""The trainer of both stages: classification and detection."""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections import OrderedDict
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    create_ddp_model,
    hooks,
)
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import nn

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.data import (
    DetectionMapper,
    build_classification_test_loader,
    build_classification_train_loader,
)
from shakedrop_det.modeling import without_noise

from .checks import check_config, is_classifier
from .evaluators import build_evaluator
from .optimizer import build_optimizer
from .progress import ProgressLine, prints_to_log
from .train_loop import CPUAMPTrainer


class Trainer(DefaultTrainer):
    """:class:`detectron2.engine.DefaultTrainer` for image classifiers and all stock detectors.

    What differs from the stock trainer:

    * data loaders follow ``MODEL.META_ARCHITECTURE``, evaluators the data set's metadata;
    * checkpoints are written so that no interruption damages them, and weights that do not fit the
      backbone stop the run, see :class:`shakedrop_det.checkpoint.Checkpointer`;
    * PreciseBN gathers its statistics without ShakeDrop's noise;
    * several processes and ``SOLVER.AMP`` (in bfloat16) also work on CPUs.
    """

    def __init__(self, cfg: CfgNode, *, quiet: bool = False) -> None:
        """
        Args:
            cfg: with the keys of :func:`shakedrop_det.add_shakedrop_config`.
            quiet: show one line of progress, and put what is printed into the log. For the log
                itself see ``quiet`` of :func:`shakedrop_det.engine.setup`.

        Raises:
            ValueError: for settings or data that cannot be trained with, see
                :func:`shakedrop_det.engine.check_config`.
        """
        # DefaultTrainer's own constructor, but for DDP and AMP on CPUs and for the checkpointer.
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()  # Nobody did: let a notebook show the progress.
        check_config(cfg)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        on_cpu = torch.device(cfg.MODEL.DEVICE).type == "cpu"
        # DDP rejects device numbers, which detectron2 gives it by default, for a model on a CPU.
        device_ids: dict[str, Any] = {"device_ids": None} if on_cpu else {}
        model = create_ddp_model(model, broadcast_buffers=False, **device_ids)
        if not cfg.SOLVER.AMP.ENABLED:
            self._trainer = SimpleTrainer(model, data_loader, optimizer)
        else:
            step = CPUAMPTrainer if on_cpu else AMPTrainer
            self._trainer = step(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        # A proxy, since the trainer owns the checkpointer.
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.quiet = quiet
        self.register_hooks(self.build_hooks())
        if quiet and comm.is_main_process():
            self.register_hooks([ProgressLine()])

    def train(self) -> dict[str, Any] | None:
        """Train.

        Returns:
            dict: metrics of the last evaluation, if there was one.
        """
        with prints_to_log() if self.quiet else contextlib.nullcontext():
            super().train()
        return getattr(self, "_last_eval_results", None)

    def build_hooks(self) -> list[HookBase | None]:
        """The stock hooks, of which PreciseBN sees the network as it is at test time."""
        found = super().build_hooks()
        for hook in found:
            if isinstance(hook, hooks.PreciseBN):
                hook.update_stats = without_noise(self.model)(hook.update_stats)
        if self.cfg.TEST.AUG.ENABLED:
            me = weakref.proxy(self)
            found.append(hooks.EvalHook(0, lambda: me.test_with_TTA(me.cfg, me.model)))
        return found

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`shakedrop_det.engine.optimizer.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """The loader of ``DATASETS.TRAIN`` that the meta-architecture needs."""
        if is_classifier(cfg):
            return build_classification_train_loader(cfg)
        return build_detection_train_loader(cfg, mapper=DetectionMapper(cfg, True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """The loader of a data set for evaluation that the meta-architecture needs."""
        if is_classifier(cfg):
            return build_classification_test_loader(cfg, dataset_name)
        return build_detection_test_loader(cfg, dataset_name, mapper=DetectionMapper(cfg, False))

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """See :func:`shakedrop_det.engine.build_evaluator`."""
        return build_evaluator(cfg, dataset_name, output_folder)

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate an R-CNN with the test-time augmentation under ``TEST.AUG``.

        Returns:
            dict: as :meth:`test`, "_TTA" appended to each name.
        """
        logging.getLogger(__name__).info("Running inference with test-time augmentation ...")
        folder = os.path.join(cfg.OUTPUT_DIR, "inference_TTA")
        evaluators = [cls.build_evaluator(cfg, name, folder) for name in cfg.DATASETS.TEST]
        results = cls.test(cfg, GeneralizedRCNNWithTTA(cfg, model), evaluators)
        return OrderedDict((f"{name}_TTA", value) for name, value in results.items())
