"""Load labelled images as a classifier takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from torch import Tensor
from torch.nn import functional as F

from shakedrop_det.data import build_classification_test_loader
from shakedrop_det.data.mapped_images import without_skipped
from shakedrop_det.modeling.classification import ImageClassifier

PER_CLASS = 10
"""Minimum number of images per class, if the dataset has as many."""


@dataclass(frozen=True)
class LabelledImages:
    """Images of one size with labels, on the model's device.

    Attributes:
        images: normalized images, (N, C, H, W).
        labels: integer class numbers, (N,).
    """

    images: Tensor
    labels: Tensor

    def loss(self, model: ImageClassifier) -> Tensor:
        """Return the mean cross-entropy over the images, a scalar."""
        return F.cross_entropy(model.logits(self.images).float(), self.labels)


def load_images(
    cfg: CfgNode, model: ImageClassifier, dataset_name: str, *, limit: int
) -> LabelledImages:
    """Load images of a dataset, preprocessed as for testing. Unreadable ones are left out if
    ``DATALOADER.UNREADABLE_IMAGES`` is "skip".

    Args:
        cfg: config of the model.
        model: a classifier, whose pixel normalization and device are used.
        dataset_name: name of a registered classification dataset.
        limit: see :func:`spread`.

    Raises:
        ValueError: if the limit is too low.
    """
    dataset = build_classification_test_loader(cfg, dataset_name).dataset
    chosen = spread([record["label"] for record in DatasetCatalog.get(dataset_name)], limit)
    inputs = without_skipped([dataset[index] for index in chosen])
    labels = torch.as_tensor([x["label"] for x in inputs], device=model.device)
    return LabelledImages(model.preprocess_image(inputs), labels)


def spread(labels: Sequence[int], limit: int) -> list[int]:
    """Choose images evenly, with several of each class and, if necessary, of fewer classes.

    Args:
        labels: labels of all images.
        limit: maximum number of images to choose.

    Returns:
        list[int]: indices of the chosen images.

    Raises:
        ValueError: if the limit is below ten, the number of images for a class.
    """
    if limit < PER_CLASS:
        raise ValueError(f"--num-images must be at least {PER_CLASS}, got {limit}")
    of_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        of_class.setdefault(label, []).append(index)
    classes = _evenly(sorted(of_class), limit // PER_CLASS)
    each = limit // len(classes)
    return [index for label in classes for index in _evenly(of_class[label], each)]


def _evenly(items: Sequence[int], number: int) -> list[int]:
    chosen = np.linspace(0, len(items) - 1, min(number, len(items))).round().astype(int)
    return [items[position] for position in chosen]
