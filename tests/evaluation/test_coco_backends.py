"""The backends of COCO's metrics: equal to pycocotools in each number."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.evaluation import coco_evaluation
from detectron2.utils.visualizer import GenericMask
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util
from pycocotools.cocoeval import COCOeval

from shakedrop_det.evaluation import COCO_BACKENDS, check_coco_backend
from shakedrop_det.evaluation.coco_backends import computed_by, faster_coco_eval

from .coco_data import Detections, evaluated, random_coco

HAS_FASTER = importlib.util.find_spec("faster_coco_eval") is not None
needs_faster = pytest.mark.skipif(not HAS_FASTER, reason="needs faster-coco-eval")
TASKS = ("bbox", "segm", "keypoints")


def assert_equal(
    coco: dict[str, Any],
    detections: Detections,
    task: str,
    reference: Callable[..., Any] = COCOeval,
    **params: Any,
) -> None:
    expected = evaluated(reference, coco, detections, task, **params)
    found = evaluated(faster_coco_eval, coco, detections, task, **params)
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(found.eval[name], expected.eval[name], strict=True)
    np.testing.assert_array_equal(found.stats, expected.stats)
    assert list(found.params.recThrs) == list(expected.params.recThrs)


@needs_faster
@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), task=st.sampled_from(TASKS))
def test_equal_on_random_detections(seed: int, task: str) -> None:
    coco, detections = random_coco(seed)
    if detections:
        assert_equal(coco, detections, task)


@needs_faster
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_equal_for_other_areas_and_numbers_of_detections(task: str) -> None:
    areas = [[0, 1e10], [0, 400], [400, 5000], [5000, 1e10]]
    for seed in range(3):
        coco, detections = random_coco(seed)
        assert_equal(coco, detections, task, areaRng=areas, imgIds=[4, 1, 3], catIds=[3, 1])
        # detectron2's, whose summary is of the greatest number of detections.
        reference = coco_evaluation.COCOevalMaxDets
        assert_equal(coco, detections, task, reference, maxDets=[1, 2, 4])


@needs_faster
def test_precision_of_a_first_detection_that_is_right() -> None:
    """pycocotools gives 1 / (1 + 2**-52) to one right detection alone, and 1 to two."""
    box = [10.0, 10.0, 50.0, 50.0]
    image = {"id": 1, "height": 100, "width": 100}
    for num_right in (1, 2, 3):
        annotations = [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [20 * i, 0, 9, 9], "area": 81}
            for i in range(1, 4)
        ]
        detections = [
            {"image_id": 1, "category_id": 1, "bbox": a["bbox"], "score": 0.9}
            for a in annotations[:num_right]
        ]
        detections.append({"image_id": 1, "category_id": 1, "bbox": box, "score": 0.5})
        for annotation in annotations:
            annotation["iscrowd"] = 0
        coco = {"images": [image], "annotations": annotations, "categories": [{"id": 1}]}
        precision = evaluated(faster_coco_eval, coco, detections, "bbox").eval["precision"]
        assert (precision[0, 0, 0, 0, -1] == 1) == (num_right > 1)
        assert_equal(coco, detections, "bbox")


@needs_faster
def test_merged_categories_are_refused() -> None:
    coco, detections = random_coco(0)
    with pytest.raises(NotImplementedError, match="useCats"):
        evaluated(faster_coco_eval, coco, detections, "bbox", useCats=0)


@needs_faster
@pytest.mark.skipif("DETECTRON2_DATASETS" not in os.environ, reason="needs DETECTRON2_DATASETS")
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_equal_on_annotations_of_coco(task: str) -> None:
    path = Path(os.environ["DETECTRON2_DATASETS"], "coco/annotations/instances_val2017.json")
    if not path.is_file():
        pytest.skip(f"needs {path}")
    coco = json.loads(path.read_text())
    chosen = {image["id"] for image in coco["images"][:40]}
    coco["images"] = [image for image in coco["images"] if image["id"] in chosen]
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in chosen]
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco["images"]}
    rng = np.random.default_rng(0)
    detections = []
    for annotation in coco["annotations"] * 2:
        box = np.array(annotation["bbox"]) * rng.normal(1, 0.1, 4)
        result = {"bbox": box.tolist(), "score": rng.random()}
        size = sizes[annotation["image_id"]]
        result["segmentation"] = mask_util.encode(
            np.asfortranarray(np.roll(GenericMask(annotation["segmentation"], *size).mask, 2))
        )
        result.update({key: annotation[key] for key in ("image_id", "category_id")})
        if rng.random() < 0.2:
            result["category_id"] = int(rng.choice([c["id"] for c in coco["categories"]]))
        detections.append(result)
    assert_equal(coco, detections, task)


def test_only_the_chosen_backend_is_put_in_place() -> None:
    stock = coco_evaluation.COCOeval_opt, coco_evaluation.COCOevalMaxDets
    for backend in COCO_BACKENDS:
        with computed_by(backend):
            now = coco_evaluation.COCOeval_opt, coco_evaluation.COCOevalMaxDets
            assert (now == (faster_coco_eval,) * 2) == (backend == "faster_coco_eval")
        assert (coco_evaluation.COCOeval_opt, coco_evaluation.COCOevalMaxDets) == stock


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="TEST.COCO_BACKEND must be one of .*, got 'fast'"):
        check_coco_backend("fast")


def test_backend_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install shakedrop_det\[fast-eval\]"):
        check_coco_backend("faster_coco_eval")
    check_coco_backend("pycocotools")
