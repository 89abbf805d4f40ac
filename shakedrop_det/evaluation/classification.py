"""Top-1 and top-5 accuracy."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any, Sequence

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm


class ClassificationEvaluator(DatasetEvaluator):
    """Evaluate top-1 and top-5 accuracy.

    With fewer than five classes, the top-5 accuracy is 100.
    """

    def __init__(self, dataset_name: str) -> None:
        """
        Args:
            dataset_name: name of the evaluated dataset, for messages.
        """
        self.dataset_name = dataset_name
        self.reset()

    def reset(self) -> None:
        """Discard all counts."""
        self._num_images = self._top1 = self._top5 = 0

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Count a batch.

        Args:
            inputs: one dict per image, with the class number ``label``.
            outputs: one dict per image, with ``scores``, a (num_classes,) tensor in which likelier
                classes have higher values.

        Raises:
            ValueError: if a label is not a class number of the model.
        """
        for image, output in zip(inputs, outputs, strict=True):
            label, scores = image["label"], output["scores"]
            if not 0 <= label < len(scores):
                raise ValueError(
                    f"dataset {self.dataset_name!r} has an image with label {label}, but the "
                    f"model has {len(scores)} classes: set MODEL.IMAGE_CLASSIFIER.NUM_CLASSES to "
                    "the number of classes in the dataset"
                )
            best = scores.topk(min(5, len(scores))).indices.tolist()
            self._num_images += 1
            self._top1 += best[0] == label
            self._top5 += label in best

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Compute the accuracy over the images of all processes. All of them must call this.

        Returns:
            ``{"classification": {"top1": ..., "top5": ...}}`` in percent on the main process; an
            empty dict on other processes, or without images.
        """
        counts = comm.gather((self._num_images, self._top1, self._top5))
        if not comm.is_main_process():
            return OrderedDict()
        num_images, top1, top5 = (sum(column) for column in zip(*counts, strict=True))
        if num_images == 0:
            logging.getLogger(__name__).warning(
                "No images of dataset %r were evaluated: there is no accuracy", self.dataset_name
            )
            return OrderedDict()
        accuracy = {"top1": 100 * top1 / num_images, "top5": 100 * top5 / num_images}
        return OrderedDict(classification=accuracy)
