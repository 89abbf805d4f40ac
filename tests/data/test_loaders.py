"""The loaders of the classification stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from shakedrop_det import add_training_config
from shakedrop_det.data import build_classification_test_loader, build_classification_train_loader

NAMES = ("test_loaders_a", "test_loaders_b")


def records(num: int) -> list[dict[str, Any]]:
    """Images of unlike shapes, each of one grey that is its label."""
    return [
        {"image": np.full((8 + i, 12, 3), i, dtype=np.uint8), "image_id": i, "label": i}
        for i in range(num)
    ]


@pytest.fixture
def names() -> Iterator[tuple[str, str]]:
    for name in NAMES:
        DatasetCatalog.register(name, lambda: records(10))
        MetadataCatalog.get(name).set(evaluator_type="classification", classes=["x"])
    yield NAMES
    for name in NAMES:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def config(*train: str) -> CfgNode:
    cfg = get_cfg()
    add_training_config(cfg)
    cfg.DATASETS.TRAIN = train
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.DATALOADER.NUM_WORKERS = 0
    node = cfg.INPUT.CLASSIFICATION
    node.TRAIN_SIZE = node.TEST_SIZE = node.TEST_RESIZE = 8
    return cfg


def test_training_goes_over_all_images_again_and_again(names: tuple[str, str]) -> None:
    loader = iter(build_classification_train_loader(config(names[0])))
    batches = [next(loader) for _ in range(10)]
    assert {len(batch) for batch in batches} == {4}
    images = [image for batch in batches for image in batch]
    assert sorted(image["label"] for image in images) == sorted([*range(10)] * 4)
    upright = [{image["height"] >= image["width"] for image in batch} for batch in batches]
    assert {True, False} in upright, "batches are grouped by aspect ratio"
    for image in images:
        assert image["image"].shape == (3, 8, 8)
        assert (image["image"] == image["label"]).all()


def test_training_on_two_data_sets(names: tuple[str, str]) -> None:
    loader = iter(build_classification_train_loader(config(*names)))
    labels = [image["label"] for _ in range(5) for image in next(loader)]
    assert sorted(labels) == sorted([*range(10)] * 2)


def test_data_sets_of_other_classes_are_refused(names: tuple[str, str]) -> None:
    MetadataCatalog.remove(names[1])
    MetadataCatalog.get(names[1]).set(classes=["y"])
    with pytest.raises(ValueError, match="do not have the same classes in the same order"):
        build_classification_train_loader(config(*names))


@pytest.mark.parametrize("classes, told", [(["y"], r"1 \(y\)"), (["z", "x"], r"2 \(z, x\)")])
def test_evaluation_on_other_classes_is_refused(
    names: tuple[str, str], classes: list[str], told: str
) -> None:
    MetadataCatalog.remove(names[1])
    MetadataCatalog.get(names[1]).set(classes=classes)
    cfg = config(names[0])
    message = f"'{names[1]}' do not have the same classes .*: 1 .x. in the first and {told} in the"
    with pytest.raises(ValueError, match=message):
        build_classification_test_loader(cfg, names[1])
    cfg.DATASETS.TEST = (names[1],)
    with pytest.raises(ValueError, match=message):
        build_classification_train_loader(cfg)


def test_evaluation_goes_once_over_all_images_in_order(names: tuple[str, str]) -> None:
    loader = build_classification_test_loader(config(), names[0])
    batches = [[image["label"] for image in batch] for batch in loader]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
