"""A trained model with its preprocessing, for one image at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.engine import DefaultPredictor
from torch import nn

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.checkpoint.classes import CLASSES, checked_classes
from shakedrop_det.data import ClassificationMapper
from shakedrop_det.modeling import ShakenBlock, fold
from shakedrop_det.utils.config_errors import errors_of_config

from .formats import is_colour


class Predictor(DefaultPredictor):
    """:class:`detectron2.engine.DefaultPredictor` with support for classifiers, folded by default.

    Weights are loaded as for evaluation: averaged weights are preferred, and weights that do not
    fit the model or were trained with other pixel conventions are rejected.
    """

    model: nn.Module

    def __init__(self, cfg: CfgNode, *, folded: bool = True, allow_pickle: bool = False) -> None:
        """
        Args:
            cfg: config of the model, with ``MODEL.WEIGHTS``. Class names and ids are read from that
                file, or if it has none, from the first dataset of ``DATASETS.TEST``.
            folded: whether to fold ShakeDrop into the weights, which leaves the outputs unchanged.
            allow_pickle: whether the file may execute pickled code.

        Raises:
            FileNotFoundError, ValueError: see :class:`shakedrop_det.checkpoint.Checkpointer`; also
                if ``MODEL.WEIGHTS`` is empty, or the model needs precomputed proposals.
        """
        if cfg.MODEL.LOAD_PROPOSALS:
            raise ValueError(
                "MODEL.LOAD_PROPOSALS True: the model needs the proposals of a dataset, which "
                "single images do not have; evaluate it with tools/train_net.py --eval-only"
            )
        if not cfg.MODEL.WEIGHTS:
            raise ValueError("MODEL.WEIGHTS is empty: name the checkpoint of a trained model")
        unloaded = cfg.clone()
        unloaded.defrost()
        unloaded.MODEL.WEIGHTS = ""
        if not is_colour(cfg.INPUT.FORMAT):
            unloaded.INPUT.FORMAT = "BGR"  # Keeps DefaultPredictor from converting the image.
        with errors_of_config(unloaded):
            super().__init__(unloaded)
        self.cfg = cfg.clone()
        checkpointer = Checkpointer(
            self.model, cfg=cfg, heads_may_be_missing=False, allow_pickle=allow_pickle
        )
        content = checkpointer.load(cfg.MODEL.WEIGHTS)
        if folded and any(isinstance(module, ShakenBlock) for module in self.model.modules()):
            self.model = fold(self.model)
        self.is_classifier = cfg.MODEL.META_ARCHITECTURE == "ImageClassifier"
        self._mapper = ClassificationMapper(cfg, False) if self.is_classifier else None
        classes = checked_classes(content.get(CLASSES), source=cfg.MODEL.WEIGHTS)
        self.metadata = class_metadata(cfg) if classes is None else with_classes(cfg, classes)

    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """
        Args:
            original_image: (H, W, 3), uint8, BGR; if ``INPUT.FORMAT`` is neither RGB nor BGR,
                (H, W, C) in that format.

        Returns:
            dict: the model's output for one image, see detectron2; for a classifier, ``scores``
            holds the class probabilities.
        """
        if self._mapper is None:
            return super().__call__(original_image)
        rgb = np.ascontiguousarray(original_image[:, :, ::-1])
        with torch.no_grad():
            return self.model([self._mapper({"image": rgb, "label": 0})])[0]


def with_classes(cfg: CfgNode, classes: dict[str, Any]) -> Metadata:
    """Combine the classes of a checkpoint with the metadata of the config's dataset.

    Args:
        cfg: config of the model; the annotations of its datasets are not needed.
        classes: classes as returned by :func:`shakedrop_det.checkpoint.classes.checked_classes`.
    """
    datasets = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    found = [MetadataCatalog.get(name).as_dict() for name in datasets if name in MetadataCatalog]
    known: dict[str, Any] = found[0] if found else {}
    names, ids = classes["names"], classes["ids"]
    if known.get("thing_classes") != names:
        known = {key: value for key, value in known.items() if key != "thing_colors"}
    is_classifier = cfg.MODEL.META_ARCHITECTURE == "ImageClassifier"
    known["classes" if is_classifier else "thing_classes"] = names
    if ids is not None:
        known["thing_dataset_id_to_contiguous_id"] = {id_: n for n, id_ in enumerate(ids)}
    return Metadata(**known)


def class_metadata(cfg: CfgNode) -> Metadata:
    """Return the metadata of the first test dataset, or else of the first training dataset."""
    names = (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)
    if not names:
        return Metadata()
    metadata = MetadataCatalog.get(names[0])
    try:
        if _is_told_by_file(metadata):
            DatasetCatalog.get(names[0])
        elif not metadata.get("classes") and not metadata.get("thing_classes"):
            metadata.get("prepare", lambda: None)()
    except OSError:
        pass  # The dataset is not on this machine, so classes are named by their numbers.
    return metadata


def _is_told_by_file(metadata: Metadata) -> bool:
    """Whether class names or COCO ids are still to be read from the annotations, as for datasets of
    ``register_coco_instances``. Without them, ids would be guessed."""
    keys = ("thing_classes", "thing_dataset_id_to_contiguous_id")
    is_coco = metadata.get("evaluator_type") == "coco" and metadata.get("json_file")
    return bool(is_coco) and not all(metadata.get(key) for key in keys)


def class_names(metadata: Metadata, num_classes: int) -> list[str]:
    """Return the class names of a model, or its class numbers if the metadata has too few names."""
    names = metadata.get("thing_classes") or metadata.get("classes") or []
    return list(names) if len(names) >= num_classes else [str(i) for i in range(num_classes)]


def set_confidence(cfg: CfgNode, confidence: float) -> None:
    """Set the minimum score of the detections that a detector returns, in place.

    Args:
        cfg: a config that is not frozen.
        confidence: minimum score, from 0 to 1.

    Raises:
        ValueError: if ``confidence`` is out of range.
    """
    if not 0 <= confidence <= 1:
        raise ValueError(f"--confidence must be in [0, 1], got {confidence!r}")
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = confidence
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = confidence
    cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = confidence
