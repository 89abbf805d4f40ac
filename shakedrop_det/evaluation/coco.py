"""detectron2's COCO evaluation with a choice of backend, tables by category and plots."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Sequence

from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from pycocotools.coco import COCO

from .coco_backends import check_coco_backend, computed_by
from .coco_plots import draw_precision_recall, draw_sizes
from .coco_tables import category_table, metrics_by_category, write_category_table
from .converted import converted_to_coco


def _renumber(coco: COCO) -> None:
    """Number the annotations from 1, in place, if their ids are not positive integers: pycocotools
    and its successors record the id of the object that matches a detection, and use 0 for none."""
    if all(isinstance(number, int) and number > 0 for number in coco.anns):
        return
    for number, annotation in enumerate(coco.dataset["annotations"], start=1):
        annotation["id"] = number
    coco.createIndex()


def _check_image_ids(coco: COCO, dataset_name: str) -> None:
    """faster_coco_eval's C++ code stores the ids of images as unsigned integers."""
    wrong = next((i for i in coco.imgs if not isinstance(i, int) or i < 0), None)
    if wrong is not None:
        raise ValueError(
            f"TEST.COCO_BACKEND 'faster_coco_eval' needs image ids that are integers from 0 on, "
            f"but dataset {dataset_name!r} has {wrong!r}: set it to 'detectron2' or 'pycocotools'"
        )


class DetectionEvaluator(COCOEvaluator):
    """:class:`detectron2.evaluation.COCOEvaluator` with tables by category and optional plots.

    The metrics and their names are the same. If an output folder is given, ``categories_TASK.csv``
    is written there for each task and, with ``plots``, also ``precision_recall_TASK.png`` and
    ``sizes_TASK.png``.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        backend: str = "detectron2",
        plots: bool = False,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            dataset_name, tasks, distributed, output_dir, kwargs: see the base class.
            backend: implementation of the metrics, one of ``COCO_BACKENDS``. "detectron2" is its
                C++ version if built, and otherwise pycocotools.
            plots: whether to draw plots into ``output_dir``.

        Raises:
            ValueError: if the backend is unknown, not installed, or cannot use the image ids.
        """
        check_coco_backend(backend)
        kwargs["use_fast_impl"] = backend == "detectron2"
        metadata = MetadataCatalog.get(dataset_name)
        has_file = hasattr(metadata, "json_file")
        if not has_file and output_dir is not None:
            metadata.json_file = converted_to_coco(dataset_name, output_dir)
        try:
            super().__init__(dataset_name, tasks, distributed, output_dir, **kwargs)
        finally:
            # Another dataset may use this name next time.
            if not has_file and hasattr(metadata, "json_file"):
                del metadata.json_file
        if hasattr(self, "_coco_api"):
            _renumber(self._coco_api)
        if backend == "faster_coco_eval":
            if hasattr(self, "_coco_api"):
                _check_image_ids(self._coco_api, dataset_name)
            self._use_fast_impl = True  # selects the class that computed_by() replaces
        self._backend = backend
        self._plots = plots

    def _eval_predictions(self, predictions: Any, img_ids: Any = None) -> None:
        with computed_by(self._backend):
            super()._eval_predictions(predictions, img_ids)

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        # Without names, the base class does not print its own table.
        results = super()._derive_coco_results(coco_eval, iou_type)
        if coco_eval is None:
            self._remove_tables(iou_type)
            return results
        names = class_names or [
            c["name"] for c in coco_eval.cocoGt.loadCats(coco_eval.params.catIds)
        ]
        rows = metrics_by_category(coco_eval, names)
        self._logger.info("%s by category:\n%s", iou_type, category_table(rows))
        if class_names is not None and len(class_names) > 1:
            results.update({f"AP-{row.category}": row.metrics["AP"] for row in rows[:-1]})
        if self._output_dir:
            path = os.path.join(self._output_dir, "{}_" + iou_type + ".{}")
            write_category_table(rows, path.format("categories", "csv"))
            if self._plots:
                draw_precision_recall(coco_eval, names, path.format("precision_recall", "png"))
                draw_sizes(coco_eval, rows, path.format("sizes", "png"))
        return results

    def _remove_tables(self, iou_type: str) -> None:
        """Remove what an earlier evaluation wrote: without detections there is nothing to write."""
        self._logger.warning("There is no detection, so no table of %s by category", iou_type)
        if not self._output_dir:
            return
        for name in ("categories_{}.csv", "precision_recall_{}.png", "sizes_{}.png"):
            Path(self._output_dir, name.format(iou_type)).unlink(missing_ok=True)
