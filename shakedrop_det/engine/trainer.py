"""Trainer of both stages: classification and detection."""

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
    DefaultTrainer,
    HookBase,
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
from shakedrop_det.checkpoint.checkpointer import EMA
from shakedrop_det.data import (
    DetectionMapper,
    build_classification_test_loader,
    build_classification_train_loader,
)
from shakedrop_det.data.coco_json import without_collection
from shakedrop_det.utils.claim import claimed
from shakedrop_det.utils.config_errors import errors_of_config

from . import slurm_job, torchrun
from .best_checkpoint import BestOfRun
from .checks import check_config, is_classifier
from .console import one_line_errors
from .divergence import remedies
from .ema import ModelEMA
from .evaluators import build_evaluator
from .interruption import Interrupted, Interruption, how_to_go_on, save_interrupted
from .optimizer import build_optimizer
from .policy_search import build_policy_search, uses_policies
from .progress import ProgressLine, prints_to_log
from .resumable_loader import ResumableLoader, resumable
from .resumed_options import options, restore_options
from .rng import preserved_rng
from .saved_config import save_config
from .schedule import build_lr_scheduler, epochs_to_iterations, uses_epochs
from .train_loop import TrainStep, amp_dtype
from .trainer_hooks import complete_hooks


class Trainer(DefaultTrainer):
    """:class:`detectron2.engine.DefaultTrainer` for image classifiers and all stock detectors.

    Differences from the stock trainer:

    * Data loaders follow ``MODEL.META_ARCHITECTURE``, evaluators the dataset's metadata.
    * Only one process at a time trains in an ``OUTPUT_DIR``, and a run that starts over there never
      resumes from an earlier run's checkpoint.
    * Interruptions cannot damage checkpoints, and weights that do not fit the backbone stop the
      run; see :class:`shakedrop_det.checkpoint.Checkpointer`.
    * PreciseBN gathers its statistics without ShakeDrop's noise.
    * Several processes and ``SOLVER.AMP`` (in bfloat16) also work on CPUs.
    * It supports lengths in epochs, gradient accumulation, averaged weights, the best checkpoint,
      exact resuming and Adversarial AutoAugment; see the keys of
      :func:`shakedrop_det.add_training_config`.
    * A loss that is not finite stops the run with an error that names the layer.
    * Ctrl-C and SIGTERM end the run after a step, with a checkpoint.
    """

    def __init__(self, cfg: CfgNode, *, quiet: bool = False, allow_pickle: bool = False) -> None:
        """
        Args:
            cfg: Config with the keys of :func:`shakedrop_det.add_training_config`.
            quiet: Whether to show a single progress line and log everything that is printed. For
                the log itself, see ``quiet`` of :func:`shakedrop_det.engine.setup`.
            allow_pickle: Whether code in a file of weights may run.

        Raises:
            ValueError: If the settings or data cannot be used for training; see
                :func:`shakedrop_det.engine.check_config`.
        """
        # Like DefaultTrainer's constructor, except for DDP and AMP on CPUs and the checkpointer.
        TrainerBase.__init__(self)
        self._configured = cfg
        self.interruption = Interruption()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()  # Not done yet: a notebook should show progress.
        check_config(cfg)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        with errors_of_config(cfg):
            model = self.build_model(cfg)
            optimizer = self.build_optimizer(cfg, model)
            data_loader = self.build_train_loader(cfg)
        if cfg.SOLVER.EXACT_RESUME or uses_epochs(cfg) or uses_policies(cfg):
            ranks = {"rank": comm.get_rank(), "world_size": comm.get_world_size()}
            data_loader = resumable(data_loader, **ranks)
        cfg = self._with_iterations(cfg, data_loader)
        self.policies = build_policy_search(cfg) if uses_policies(cfg) else None
        self.device = torch.device(cfg.MODEL.DEVICE)
        # DDP rejects device numbers, which detectron2 gives it by default, for a model on a CPU.
        device_ids: dict[str, Any] = {"device_ids": None} if self.device.type == "cpu" else {}
        wrapped = create_ddp_model(model, broadcast_buffers=False, **device_ids)
        self._trainer = TrainStep(
            wrapped,
            data_loader,
            optimizer,
            accumulation_steps=cfg.SOLVER.ACCUMULATION_STEPS,
            amp_dtype=amp_dtype(cfg),
            policies=self.policies,
            while_waiting=self.interruption.allowed,
        )
        with errors_of_config(cfg):
            self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        # A proxy, since the trainer owns the checkpointer.
        saved: dict[str, Any] = {"trainer": weakref.proxy(self)}
        self.ema: ModelEMA | None = None
        if cfg.SOLVER.EMA_DECAY:
            self.ema = saved[EMA] = ModelEMA(model, decay=cfg.SOLVER.EMA_DECAY)
        self.checkpointer = Checkpointer(
            model, cfg.OUTPUT_DIR, cfg=cfg, allow_pickle=allow_pickle, **saved
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.quiet = quiet
        self.register_hooks(self.build_hooks())
        if quiet and comm.is_main_process():
            self.register_hooks([ProgressLine()])

    @staticmethod
    def _with_iterations(cfg: CfgNode, data_loader: Any) -> CfgNode:
        if not uses_epochs(cfg) and not uses_policies(cfg):
            return cfg
        if not isinstance(data_loader, ResumableLoader):
            raise ValueError(
                "lengths in epochs (such as SOLVER.MAX_EPOCHS) and Adversarial AutoAugment need "
                "one of detectron2's training samplers, to know the number of images; use lengths "
                "in iterations (such as SOLVER.MAX_ITER), and set "
                "INPUT.CLASSIFICATION.ADVERSARIAL_AUGMENT.POLICIES to 0"
            )
        return epochs_to_iterations(cfg, data_loader.num_images)

    def train(self) -> dict[str, Any] | None:
        """Run training.

        Returns:
            Metrics of the last evaluation; None if there was none.

        Raises:
            ValueError: If another process is training in ``OUTPUT_DIR``.
            FloatingPointError: If a loss is not finite. The message suggests remedies.
            Interrupted: On Ctrl-C or SIGTERM. This KeyboardInterrupt says how to continue.
        """
        with contextlib.ExitStack() as stack:
            if comm.is_main_process():
                stack.enter_context(claimed(self.cfg.OUTPUT_DIR))
                save_config(self._configured)
                self.checkpointer.set_older_aside()
                # After that: from here on a restart of the same job resumes.
                slurm_job.note_begin()
                torchrun.note_begin()
            if self.quiet:
                stack.enter_context(prints_to_log())
            stack.enter_context(self.interruption.handled())
            stack.enter_context(one_line_errors())
            try:
                self._train_or_save()
            except FloatingPointError as error:
                help = remedies(self.cfg, error, checkpoint=self.checkpointer.last_checkpoint())
                raise FloatingPointError(f"{error}. {help}") from error
            except Exception as error:
                # A signal to the process group also ends data workers and other ranks.
                if (signum := self.interruption.received) is not None:
                    raise Interrupted(signum, how_to_go_on(self)) from error
                raise
        return getattr(self, "_last_eval_results", None)

    def _train_or_save(self) -> None:
        try:
            super().train()
        except Interrupted as stop:
            raise Interrupted(stop.signum, save_interrupted(self)) from None

    def after_train(self) -> None:
        """Run the hooks, except evaluation if the run was stopped, even in its last step."""
        if self.iter >= self.max_iter:
            super().after_train()
            return
        self.storage.iter = self.iter
        for hook in self._hooks:
            if not isinstance(hook, hooks.EvalHook):
                hook.after_train()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint's state, but keep the config's learning rate, weight decay and
        momentum; see :func:`shakedrop_det.engine.resumed_options.restore_options`."""
        configured = options(self.optimizer)
        if not comm.is_main_process():  # Which alone has this hook.
            found = state_dict.get("hooks", {})
            kept = {key: found[key] for key in found if key != BestOfRun.__qualname__}
            state_dict = {**state_dict, "hooks": kept}
        super().load_state_dict(state_dict)
        restore_options(self.optimizer, self.scheduler, configured)

    def build_hooks(self) -> list[HookBase | None]:
        """Return the stock hooks and those of this package."""
        return complete_hooks(self, super().build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build detectron2's model, in the memory format of ``MODEL.CHANNELS_LAST``."""
        model = super().build_model(cfg)
        if cfg.MODEL.CHANNELS_LAST:
            # A convolution's output has the format of its weight. Module.to on the whole backbone
            # would also try to convert tensors that are not images.
            for module in model.backbone.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(memory_format=torch.channels_last)
        return model

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """See :func:`shakedrop_det.engine.schedule.build_lr_scheduler`."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`shakedrop_det.engine.optimizer.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Build the loader of ``DATASETS.TRAIN`` that the meta-architecture needs."""
        if is_classifier(cfg):
            return build_classification_train_loader(cfg)
        with without_collection():
            return build_detection_train_loader(cfg, mapper=DetectionMapper(cfg, True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """Build the loader for evaluation on a dataset that the meta-architecture needs."""
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
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict[str, Any]:
        """Evaluate as in the base class, but leave the random number generators unchanged."""
        with preserved_rng(torch.device(cfg.MODEL.DEVICE)):
            return super().test(cfg, model, evaluators)

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate an R-CNN with the test-time augmentation of ``TEST.AUG``.

        Returns:
            Results as from :meth:`test`, with "_TTA" appended to each name.
        """
        logging.getLogger(__name__).info("Running inference with test-time augmentation ...")
        return cls.test_under_name(cfg, GeneralizedRCNNWithTTA(cfg, model), "TTA")

    @classmethod
    def test_under_name(cls, cfg: CfgNode, model: nn.Module, name: str) -> dict[str, Any]:
        """Evaluate another version of the model in addition to the model itself.

        Returns:
            Results as from :meth:`test`, with "_" and ``name`` appended to each name. Predictions
            are written to ``OUTPUT_DIR/inference_NAME``.
        """
        folder = os.path.join(cfg.OUTPUT_DIR, f"inference_{name}")
        evaluators = [cls.build_evaluator(cfg, dataset, folder) for dataset in cfg.DATASETS.TEST]
        results = cls.test(cfg, model, evaluators)
        return OrderedDict((f"{key}_{name}", value) for key, value in results.items())
