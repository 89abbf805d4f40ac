"""One category of a dataset by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from shakedrop_det.data.one_category import load_category, register_category
from shakedrop_det.engine import Trainer


def test_only_its_annotations_are_left_and_all_images(datasets_root: str) -> None:
    every = DatasetCatalog.get("tiny_scenes_train")
    threes = load_category("tiny_scenes_train", "3")
    assert [record["file_name"] for record in threes] == [r["file_name"] for r in every]
    boxes = [a["bbox"] for r in every for a in r["annotations"] if a["category_id"] == 3]
    assert boxes and [a["bbox"] for r in threes for a in r["annotations"]] == boxes
    assert {a["category_id"] for r in threes for a in r["annotations"]} == {0}
    assert {a["category_id"] for r in every for a in r["annotations"]} > {0, 3}


def test_a_detector_of_one_class_is_evaluated_on_it(
    tiny: Callable[..., CfgNode], request: pytest.FixtureRequest
) -> None:
    for split in ("train", "val"):
        name = f"tiny_sevens_{split}"
        register_category(name, f"tiny_scenes_{split}", "7")
        request.addfinalizer(
            lambda name=name: (DatasetCatalog.remove(name), MetadataCatalog.pop(name))
        )
    cfg = tiny("mask_rcnn", "MODEL.ROI_HEADS.NUM_CLASSES", 1)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("tiny_sevens_train",), ("tiny_sevens_val",)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.TEST.EVAL_PERIOD = 1, (), 0
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert results is not None and "AP" in results["bbox"]


def test_people_are_there_by_name() -> None:
    for split in ("train", "val"):
        metadata = MetadataCatalog.get(f"coco_2017_{split}_person")
        assert (metadata.thing_classes, metadata.evaluator_type) == (["person"], "coco")


def test_a_category_that_is_not_there_is_named_with_those_that_are(datasets_root: str) -> None:
    with pytest.raises(ValueError, match="'tiny_scenes_val' has no category 'person': .* 0, 1, 2"):
        load_category("tiny_scenes_val", "person")
