"""Time the backends of the COCO metrics."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import coco_evaluation
from detectron2.utils.visualizer import GenericMask
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from shakedrop_det.evaluation.coco_backends import check_coco_backend, faster_coco_eval


def made_up_detections(coco: COCO, *, per_image: int = 100, seed: int = 0) -> list[dict[str, Any]]:
    """Simulate the detections of a detector: each is a random object, moved a little.

    Args:
        coco: annotations.
        per_image: number of detections in each image that has objects.
        seed: seed of the random numbers.

    Returns:
        list: detections in COCO's results format, with boxes and masks.
    """
    rng = np.random.default_rng(seed)
    detections = []
    for image_id, image in coco.imgs.items():
        annotations = coco.imgToAnns[image_id]
        size = image["height"], image["width"]
        masks = [GenericMask(a["segmentation"], *size).mask for a in annotations]
        for index in rng.integers(0, len(annotations), per_image if annotations else 0):
            x, y, width, height = annotations[index]["bbox"]
            dx, dy = (rng.normal(0, 0.1, 2) * (width, height)).round().astype(int)
            moved = np.roll(masks[index], (dy, dx), (0, 1))
            rle = mask_util.encode(np.asfortranarray(moved, dtype=np.uint8))
            detections.append(
                {
                    "image_id": image_id,
                    "category_id": annotations[index]["category_id"],
                    "bbox": [x + float(dx), y + float(dy), width, height],
                    "score": rng.random(),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    return detections


def coco_variants(
    annotations: Path, task: str, *, per_image: int = 100
) -> dict[str, Callable[[], object]]:
    """Build a variant for each installed backend, pycocotools first, with the same detections.

    The timed part is what detectron2's evaluator does after loading the annotations and collecting
    all detections: everything from COCO's results format to the summary.

    Args:
        annotations: path of a COCO annotation file.
        task: "bbox" or "segm".
        per_image: see :func:`made_up_detections`.

    Raises:
        ValueError: if the file has no annotations with masks.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(annotations)
    if not any(a.get("segmentation") for a in coco.anns.values()):
        raise ValueError(f"{annotations} has no objects with masks to simulate detections from")
    detections = made_up_detections(coco, per_image=per_image)
    backends: dict[str, Any] = {"pycocotools": COCOeval}
    if coco_evaluation.COCOeval_opt is not COCOeval:
        backends["detectron2's C++"] = coco_evaluation.COCOeval_opt
    with contextlib.suppress(ValueError):
        check_coco_backend("faster_coco_eval")
        backends["faster-coco-eval"] = faster_coco_eval

    def run(cocoeval: Any) -> object:
        with contextlib.redirect_stdout(io.StringIO()):
            return coco_evaluation._evaluate_predictions_on_coco(
                coco, detections, task, cocoeval_fn=cocoeval
            )

    return {name: functools.partial(run, cocoeval) for name, cocoeval in backends.items()}
