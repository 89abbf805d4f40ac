"""Checks of a config before training starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from shakedrop_det.data import (
    check_dataset,
    num_classes,
    register_coco_files,
    register_image_folders,
)
from shakedrop_det.data.annotation_checks import needs_of
from shakedrop_det.data.checks import prepare, use_cleaned
from shakedrop_det.data.classes import check_same_classes
from shakedrop_det.data.coco_files import is_coco_file
from shakedrop_det.data.keypoints import check_keypoints
from shakedrop_det.data.label_checks import check_labels
from shakedrop_det.evaluation import check_coco_backend
from shakedrop_det.utils.config_values import check_values
from shakedrop_det.utils.errors import raised_here
from shakedrop_det.utils.output_folder import make_output_folder

from .best_metric import check_best_metric
from .evaluators import find_evaluator_type
from .policy_search import check_policies
from .proposal_files import check_proposal_files


def is_classifier(cfg: CfgNode) -> bool:
    """Return whether the config describes the classification stage."""
    return cfg.MODEL.META_ARCHITECTURE == "ImageClassifier"


def check_config(cfg: CfgNode, *, train: bool = True) -> None:
    """Check that a run can work, before anything is built.

    Args:
        cfg: Config of the run.
        train: Whether the run trains, which requires ``DATASETS.TRAIN``. Otherwise, it evaluates,
            which requires ``DATASETS.TEST``.

    Raises:
        ValueError: Names the key, its value and the remedy if ``OUTPUT_DIR`` is not writable; a
            dataset is unknown, unreadable or empty, has unusable annotations or labels, or classes
            other than those of the model or the other datasets; a file of proposals could run code;
            ``TEST.AUG`` is set for a model without it; ``TEST.COCO_BACKEND`` is unknown or not
            installed; a batch cannot be divided evenly; ``SOLVER.CHECKPOINT_PERIOD`` is not
            positive; ``DATALOADER.RANDOM_SUBSET_RATIO`` is not in (0, 1]; another value
            cannot be used, see :func:`shakedrop_det.utils.config_values.check_values`; a norm
            cannot be computed; or Adversarial AutoAugment cannot be used.
    """
    check_values(cfg)
    check_tta(cfg)
    check_coco_backend(cfg.TEST.COCO_BACKEND)
    if train:
        check_batch_size(cfg)
        check_checkpoint_period(cfg)
        check_subset(cfg)
        check_norms(cfg)
        check_policies(cfg)
    make_output_folder(cfg.OUTPUT_DIR, key="OUTPUT_DIR")
    register_coco_files(cfg)
    register_image_folders(cfg)
    # One process per machine checks while the others wait, since the check may also create a
    # dataset in a shared folder.
    if comm.get_local_rank() == 0:
        check_datasets(cfg, train=train)
        if train:
            check_best_metric(cfg)
    comm.synchronize()
    if comm.get_local_rank() > 0:
        for name in (*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST):
            prepare(name)
    if cfg.DATASETS.SKIP_BAD_ANNOTATIONS and comm.get_local_rank() > 0:
        for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
            use_cleaned(name, folder_of_cleaned(cfg, train=train))


def check_tta(cfg: CfgNode) -> None:
    """Check that detectron2 supports ``TEST.AUG`` for the model if it is enabled.

    Raises:
        ValueError: If it does not. The message names the keys.
    """
    if not cfg.TEST.AUG.ENABLED:
        return
    if cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN":
        raise ValueError(
            "TEST.AUG.ENABLED True needs MODEL.META_ARCHITECTURE 'GeneralizedRCNN', got "
            f"{cfg.MODEL.META_ARCHITECTURE!r}; set TEST.AUG.ENABLED to False"
        )
    for key in ("KEYPOINT_ON", "LOAD_PROPOSALS"):
        if cfg.MODEL[key]:
            raise ValueError(
                f"TEST.AUG.ENABLED True needs MODEL.{key} False, got True; set TEST.AUG.ENABLED to "
                "False"
            )


def check_batch_size(cfg: CfgNode) -> None:
    """Check that a batch divides evenly among processes and ``SOLVER.ACCUMULATION_STEPS``.

    Raises:
        ValueError: If it does not. The message names the keys.
    """
    processes, steps = comm.get_world_size(), cfg.SOLVER.ACCUMULATION_STEPS
    # With a reference world size, the batch grows with the number of processes.
    divisor = (cfg.SOLVER.REFERENCE_WORLD_SIZE or processes) * max(steps, 1)
    if steps < 1:
        raise ValueError(f"SOLVER.ACCUMULATION_STEPS must be at least 1, got {steps!r}")
    if cfg.SOLVER.IMS_PER_BATCH < 1 or cfg.SOLVER.IMS_PER_BATCH % divisor:
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        what = "SOLVER.REFERENCE_WORLD_SIZE" if reference else "the number of processes"
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} must be a multiple of {divisor}: "
            f"{what}, {divisor // steps}, times SOLVER.ACCUMULATION_STEPS, {steps}"
        )


def check_checkpoint_period(cfg: CfgNode) -> None:
    """Check that ``SOLVER.CHECKPOINT_PERIOD``, by which detectron2 divides after the first step, is
    positive. ``SOLVER.CHECKPOINT_EPOCHS`` would replace it.

    Raises:
        ValueError: If it is not. The message names the key.
    """
    period = cfg.SOLVER.CHECKPOINT_PERIOD
    if period < 1 and not cfg.SOLVER.CHECKPOINT_EPOCHS:
        raise ValueError(
            f"SOLVER.CHECKPOINT_PERIOD must be at least 1, got {period!r}; to save only at the end "
            f"of training, set it to SOLVER.MAX_ITER, {cfg.SOLVER.MAX_ITER}, or more"
        )


def check_subset(cfg: CfgNode) -> None:
    """Check that ``DATALOADER.RANDOM_SUBSET_RATIO`` is in (0, 1], which detectron2 only asserts.

    Raises:
        ValueError: If it is not. The message names the key.
    """
    ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
    if not 0 < ratio <= 1:
        raise ValueError(
            f"DATALOADER.RANDOM_SUBSET_RATIO must be in (0, 1], got {ratio!r}: set it to 1.0 to "
            "train on all images"
        )


def check_norms(cfg: CfgNode) -> None:
    """Check that processes on CPUs do not use torch's synchronized BatchNorm, which needs GPUs.

    Raises:
        ValueError: If they do. The message names the keys and the norms that work on CPUs.
    """
    if comm.get_world_size() == 1 or not cfg.MODEL.DEVICE.startswith("cpu"):
        return
    nodes = {name: node for name, node in cfg.MODEL.items() if isinstance(node, CfgNode)}
    keys = [f"MODEL.{name}.NORM" for name, node in nodes.items() if node.get("NORM") == "SyncBN"]
    if keys:
        raise ValueError(
            f"{', '.join(keys)} 'SyncBN' needs GPUs when there are several processes; set 'BN', "
            "which is separate in each process, or 'naiveSyncBN'"
        )


def check_datasets(cfg: CfgNode, *, train: bool) -> None:
    """Read and check the datasets of a run; see :func:`check_config`."""
    check_proposal_files(cfg, train=train)
    if train and not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: set it to the datasets to train on")
    if not train and not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST is empty: set it to the datasets to evaluate on")
    errors: list[Exception] = []
    checked: list[str] = []
    for part in ("TRAIN", "TEST") if train else ("TEST",):
        for name in cfg.DATASETS[part]:
            for check in _dataset_checks(cfg, name, part=part, train=train, checked=checked):
                try:
                    check()
                except (ValueError, FileNotFoundError) as error:
                    if isinstance(error, ValueError) and not raised_here(error):
                        raise  # A bug in a function that loads a dataset.
                    kind = ValueError if isinstance(error, ValueError) else FileNotFoundError
                    errors.append(kind(f"DATASETS.{part}: {error}"))
            checked.append(name)
    if len(errors) > 1:
        raise ValueError("\n".join(map(str, errors)))
    if errors:
        raise errors[0]


def folder_of_cleaned(cfg: CfgNode, *, train: bool) -> str:
    """Return the folder for the files of ``DATASETS.SKIP_BAD_ANNOTATIONS``. An evaluation leaves
    those of a run that trains in the same ``OUTPUT_DIR`` alone."""
    return cfg.OUTPUT_DIR if train else os.path.join(cfg.OUTPUT_DIR, "inference")


def _dataset_checks(
    cfg: CfgNode, name: str, *, part: str, train: bool, checked: Sequence[str]
) -> list[Callable[[], None]]:
    """Return the checks of a dataset. Its classes must equal those of the first that was
    checked."""
    key, number = num_classes(cfg)
    training, first = part == "TRAIN", next(iter(checked), None)
    checks: list[Callable[[], None]] = [
        lambda: check_dataset(
            name,
            # The other datasets must have the same classes as the first.
            num_classes=number if first is None else None,
            key=key,
            needs=needs_of(cfg, training=training),
            skip_bad=cfg.DATASETS.SKIP_BAD_ANNOTATIONS,
            folder=folder_of_cleaned(cfg, train=train),
            again=name in checked,
        )
    ]
    if name in DatasetCatalog:
        checks.append(lambda: check_keypoints(cfg, name, training=training))
        checks.append(lambda: check_semantics(cfg, name))
        if is_classifier(cfg):
            checks.append(lambda: _check_labels(cfg, name))
        if not training:
            checks.append(lambda: _check_evaluator(name))
        if first in DatasetCatalog and first is not None:
            checks.append(lambda: check_same_classes(first, name))
    return checks


def _check_labels(cfg: CfgNode, name: str) -> None:
    number = cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES
    # Missing files are skipped where unreadable ones are.
    check_labels(name, num_classes=number, files=cfg.DATALOADER.UNREADABLE_IMAGES != "skip")


def _check_evaluator(name: str) -> None:
    """Raise an error now rather than at the first evaluation."""
    find_evaluator_type(name)


def check_semantics(cfg: CfgNode, name: str) -> None:
    """Check that a model that needs per-pixel labels is not given a COCO file of objects.

    Raises:
        ValueError: If it is. The message names the architecture.
    """
    if cfg.MODEL.META_ARCHITECTURE in ("PanopticFPN", "SemanticSegmentor") and is_coco_file(name):
        raise ValueError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE!r} needs per-pixel labels, "
            f"which the COCO file of {name!r} does not have: register a dataset that has them"
        )
