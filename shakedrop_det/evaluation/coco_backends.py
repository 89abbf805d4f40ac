"""Backends of the COCO metrics: pycocotools, detectron2 (C++) and faster-coco-eval."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import Any, Iterator
from unittest import mock

from detectron2.evaluation import coco_evaluation
from pycocotools.coco import COCO

COCO_BACKENDS = ("detectron2", "pycocotools", "faster_coco_eval")
"""Values of ``TEST.COCO_BACKEND``."""


def check_coco_backend(backend: str) -> None:
    """Check that a backend is known and installed.

    Args:
        backend: value of ``TEST.COCO_BACKEND``.

    Raises:
        ValueError: if it is not, naming the allowed values or the package to install.
    """
    if backend not in COCO_BACKENDS:
        raise ValueError(
            f"TEST.COCO_BACKEND must be one of {', '.join(COCO_BACKENDS)}, got {backend!r}"
        )
    if backend == "faster_coco_eval" and importlib.util.find_spec("faster_coco_eval") is None:
        raise ValueError(
            "TEST.COCO_BACKEND 'faster_coco_eval' needs the package faster-coco-eval: "
            "pip install shakedrop_det[fast-eval], or set it to 'detectron2'"
        )


def faster_coco_eval(coco_gt: COCO, coco_dt: COCO, iou_type: str) -> Any:
    """Create faster-coco-eval's counterpart of ``pycocotools.cocoeval.COCOeval``.

    Args:
        coco_gt: annotations.
        coco_dt: detections, as returned by ``coco_gt.loadRes``.
        iou_type: "bbox", "segm" or "keypoints".

    Returns:
        COCOeval_faster: an evaluator with results equal to those of pycocotools.
    """
    from .faster_coco import ExactCOCOeval

    return ExactCOCOeval(coco_gt, coco_dt, iou_type)


@contextlib.contextmanager
def computed_by(backend: str) -> Iterator[None]:
    """Make detectron2's ``COCOEvaluator`` use a backend within the context.

    Args:
        backend: one of :data:`COCO_BACKENDS`.
    """
    if backend != "faster_coco_eval":
        yield
        return
    # detectron2 looks these up in its module; the second is for another maximum of detections.
    with (
        mock.patch.object(coco_evaluation, "COCOeval_opt", faster_coco_eval),
        mock.patch.object(coco_evaluation, "COCOevalMaxDets", faster_coco_eval),
    ):
        yield
