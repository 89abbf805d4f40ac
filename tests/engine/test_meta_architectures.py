"""The trainer takes each meta-architecture from pictures on disk to metrics of its evaluator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from shakedrop_det.engine import Trainer
from tests.modeling.architectures import ARCHITECTURES, CLASSES, SIZE, Architecture, damped

BOXES = [(4, 6, 30, 40), (28, 20, 60, 58)]
METRICS = {
    "rpn_fpn": {"box_proposals"},
    "rpn_c4": {"box_proposals"},
    "retinanet": {"bbox"},
    "faster_rcnn": {"bbox"},
    "faster_c4": {"bbox"},
    "faster_dc5": {"bbox"},
    "mask_rcnn": {"bbox", "segm"},
    "mask_c4": {"bbox", "segm"},
    "mask_dc5": {"bbox", "segm"},
    "cascade": {"bbox", "segm"},
    "point_rend": {"bbox", "segm"},
    "implicit_point_rend": {"bbox", "segm"},
    "panoptic_fpn": {"bbox", "segm"},
    "keypoint": {"bbox", "keypoints"},
    "semantic_fpn": {"sem_seg"},
    "semantic_point_rend": {"sem_seg"},
    "deeplab_v3": {"sem_seg"},
    "deeplab_v3_plus": {"sem_seg"},
}


def polygon(x0: int, y0: int, x1: int, y1: int) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


@pytest.fixture(scope="module")
def rectangles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two rectangles per picture, with masks, keypoints along a diagonal and a map of classes."""
    root = tmp_path_factory.mktemp("rectangles")
    records = [_record(root, number) for number in range(2)]
    for kind in ("coco", "sem_seg"):
        name = f"rectangles_{kind}"
        DatasetCatalog.register(name, lambda: [dict(record) for record in records])
        things = {number: number for number in range(CLASSES)}
        points = [str(number) for number in range(17)]
        MetadataCatalog.get(name).set(
            evaluator_type=kind,
            thing_classes=[str(number) for number in things],
            thing_dataset_id_to_contiguous_id=things,
            stuff_classes=[str(number) for number in things],
            stuff_dataset_id_to_contiguous_id=things,
            ignore_label=255,
            keypoint_names=points,
            keypoint_flip_map=[],
        )
    yield "rectangles"
    for kind in ("coco", "sem_seg"):
        DatasetCatalog.remove(f"rectangles_{kind}")
        MetadataCatalog.remove(f"rectangles_{kind}")


def _record(root: Path, number: int) -> dict[str, Any]:
    classes = np.zeros((SIZE, SIZE), dtype=np.uint8)
    annotations = []
    for category, (x0, y0, x1, y1) in enumerate(BOXES):
        classes[y0:y1, x0:x1] = category + 1
        diagonal = np.linspace((x0 + 1, y0 + 1, 2), (x1 - 1, y1 - 1, 2), 17)
        annotations.append(
            {
                "bbox": [x0, y0, x1, y1],
                "bbox_mode": 0,
                "category_id": category,
                "segmentation": [polygon(x0, y0, x1, y1)],
                "keypoints": diagonal.ravel().tolist(),
                "num_keypoints": 17,
                "iscrowd": 0,
            }
        )
    picture, labels = root / f"{number}.png", root / f"{number}_classes.png"
    noise = np.random.default_rng(number).integers(0, 60, (SIZE, SIZE, 3))
    Image.fromarray((classes[:, :, None] * 90 + noise).astype(np.uint8)).save(picture)
    Image.fromarray(classes).save(labels)
    return {
        "file_name": str(picture),
        "sem_seg_file_name": str(labels),
        "image_id": number,
        "height": SIZE,
        "width": SIZE,
        "annotations": annotations,
    }


@pytest.mark.parametrize("name", METRICS)
def test_it_trains_and_its_evaluator_gives_metrics(
    name: str, rectangles: str, tmp_path: Path
) -> None:
    architecture = ARCHITECTURES[name]
    assert isinstance(architecture, Architecture)
    cfg = architecture.cfg(stock=False, survival_prob=0.5)
    kind = "sem_seg" if METRICS[name] == {"sem_seg"} else "coco"
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (f"{rectangles}_{kind}",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (SIZE,), SIZE
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 2, 1, 1e-5
    cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.STEPS = 0, ()
    cfg.OUTPUT_DIR = str(tmp_path)
    trainer = Trainer(cfg)
    damped(trainer.model)
    assert set(trainer.train() or {}) == METRICS[name]
    if "bbox" in METRICS[name]:
        assert json.loads((tmp_path / "inference/coco_instances_results.json").read_text())
    if name == "panoptic_fpn":
        cfg.DATASETS.TEST = (f"{rectangles}_sem_seg",)
        assert set(Trainer.test(cfg, trainer.model)) == {"sem_seg"}
    if architecture.tta:
        results = Trainer.test_with_TTA(cfg, trainer.model)
        assert set(results) == {f"{metric}_TTA" for metric in METRICS[name]}
        assert json.loads((tmp_path / "inference_TTA/coco_instances_results.json").read_text())
