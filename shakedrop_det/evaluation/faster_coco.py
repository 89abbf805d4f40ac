"""faster-coco-eval, an optional package, with results bit-equal to pycocotools."""

from __future__ import annotations

import numpy as np
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO


class ExactCOCOeval(COCOeval_faster):
    """``COCOeval_faster`` on pycocotools' data, with results equal to those of pycocotools.

    pycocotools divides by ``tp + fp + np.spacing(1)``, faster-coco-eval by ``tp + fp``. In float64,
    the two differ only for ``tp + fp = 1``: if the first detection is correct, pycocotools gives a
    precision just below 1, which persists unless the second is correct, too. The precision at a
    recall between those of one and of two objects reveals this, so it is evaluated additionally.
    """

    def __init__(self, coco_gt: COCO, coco_dt: COCO, iou_type: str) -> None:
        """
        Args:
            coco_gt: annotations.
            coco_dt: detections, as returned by ``coco_gt.loadRes``.
            iou_type: "bbox", "segm" or "keypoints".
        """
        # Set the data afterwards: the base class's constructor needs its own COCO class.
        super().__init__(None, None, iou_type, print_function=print)
        self.cocoGt, self.cocoDt = coco_gt, coco_dt
        self.params.imgIds = sorted(coco_gt.getImgIds())
        self.params.catIds = sorted(coco_gt.getCatIds())

    def evaluate(self) -> None:
        """Evaluate and accumulate as the base class does.

        Raises:
            NotImplementedError: if ``params.useCats`` is not set.
        """
        if not self.params.useCats:
            raise NotImplementedError("params.useCats = 0 is not supported: use pycocotools")
        wanted = self.params.recThrs
        between = 1.5 / np.maximum(self._num_objects(), 1)
        asked = self.params.recThrs = np.union1d(wanted, between)
        super().evaluate()
        self.params.recThrs = self._paramsEval.recThrs = wanted
        precision = self.eval["precision"]  # (IoUs, recalls, categories, areas, detections)
        category, area = np.indices(between.shape)
        second = precision[:, np.searchsorted(asked, between), category, area]
        rows = np.searchsorted(asked, wanted)
        precision = precision[:, rows]
        only_first = (precision == 1) & (second != 1)[:, None]
        precision[only_first] = 1 / (1 + np.spacing(1))
        self.eval["precision"], self.eval["scores"] = precision, self.eval["scores"][:, rows]
        self.eval["counts"] = list(precision.shape)

    def _num_objects(self) -> np.ndarray:
        """Return the number of annotations to detect, (categories, areas)."""
        params = self.params
        categories = {number: index for index, number in enumerate(np.unique(params.catIds))}
        numbers = self.cocoGt.getAnnIds(imgIds=params.imgIds, catIds=params.catIds)
        counts = np.zeros((len(categories), len(params.areaRng)), dtype=int)
        for annotation in self.cocoGt.loadAnns(numbers):
            ignored = annotation.get("iscrowd", 0)
            if params.iouType == "keypoints":
                ignored = ignored or annotation["num_keypoints"] == 0
            if not ignored:
                row = counts[categories[annotation["category_id"]]]
                row += [low <= annotation["area"] <= high for low, high in params.areaRng]
        return counts
