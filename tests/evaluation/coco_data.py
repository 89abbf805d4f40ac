"""Random annotations and detections in COCO's format."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

SIDE = 160
KEYPOINTS = 17

Detections = list[dict[str, Any]]


def random_coco(
    seed: int, *, num_images: int = 5, num_categories: int = 3
) -> tuple[dict[str, Any], Detections]:
    """Annotations of objects of all sizes, crowds among them, and detections near and far.

    Some detections have the same score, and some images or categories nothing at all.
    """
    rng = np.random.default_rng(seed)
    images = [
        {"id": i, "height": SIDE, "width": SIDE, "file_name": f"{i}.png"}
        for i in range(1, num_images + 1)
    ]
    annotations: Detections = []
    detections: Detections = []
    for image in images:
        for _ in range(rng.integers(0, 8)):
            found = _object(rng, _box(rng), num_categories)
            found.update(id=len(annotations) + 1, image_id=image["id"])
            found["iscrowd"] = int(rng.random() < 0.15)
            annotations.append(found)
            for _ in range(rng.integers(0, 3)):
                near = _object(rng, np.array(found["bbox"]) * rng.uniform(0.85, 1.15, 4), 1)
                category = found["category_id"] if rng.random() < 0.9 else near["category_id"]
                points = np.array(found["keypoints"]).reshape(-1, 3)
                points[:, :2] += rng.normal(0, 3, (KEYPOINTS, 2))
                near.update(category_id=category, keypoints=points.ravel().tolist())
                detections.append(_detection(near, image, round(rng.random(), 1)))
        for _ in range(rng.integers(0, 5)):
            far = _object(rng, _box(rng), num_categories)
            detections.append(_detection(far, image, rng.random()))
    categories = [{"id": i, "name": f"category {i}"} for i in range(1, num_categories + 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def _box(rng: np.random.Generator) -> np.ndarray:
    size = np.exp(rng.uniform(np.log(3), np.log(0.95 * SIDE), 2))
    return np.concatenate([rng.random(2) * (SIDE - size), size])


def _object(rng: np.random.Generator, box: np.ndarray, num_categories: int) -> dict[str, Any]:
    """An ellipse in a box."""
    x, y, width, height = box
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = ((columns - x) / width - 0.5) ** 2 + ((rows - y) / height - 0.5) ** 2 <= 0.25
    rle = mask_util.encode(np.asfortranarray(inside, dtype=np.uint8))
    points = box[:2] + box[2:] * rng.random((KEYPOINTS, 2))
    visible = rng.integers(0, 3, KEYPOINTS) * (rng.random() < 0.9)
    return {
        "category_id": int(rng.integers(1, num_categories + 1)),
        "bbox": box.tolist(),
        "area": float(mask_util.area(rle)),
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        "keypoints": np.column_stack([points, visible]).ravel().tolist(),
        "num_keypoints": int(np.count_nonzero(visible)),
    }


def _detection(found: dict[str, Any], image: dict[str, Any], score: float) -> dict[str, Any]:
    keys = ("category_id", "bbox", "segmentation", "keypoints")
    return {"image_id": image["id"], "score": float(score), **{key: found[key] for key in keys}}


def evaluated(
    cocoeval: Callable[..., Any],
    coco: dict[str, Any],
    detections: Detections,
    task: str,
    **params: Any,
) -> Any:
    """A ``COCOeval`` that has been evaluated, accumulated and summarized, without a word."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco_gt = COCO()
        coco_gt.dataset = copy.deepcopy(coco)
        coco_gt.createIndex()
        results = copy.deepcopy(detections)
        for result in results if task == "segm" else ():
            del result["bbox"]  # or the box would count as the area
        coco_eval = cocoeval(coco_gt, coco_gt.loadRes(results), task)
        for name, value in params.items():
            setattr(coco_eval.params, name, value)
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval
