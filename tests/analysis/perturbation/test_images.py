"""The choice of images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shakedrop_det import add_training_config
from shakedrop_det.analysis.perturbation.images import PER_CLASS, load_images, spread
from shakedrop_det.data import register_image_folder

from .conftest import Build

NAME = "test_perturbation_images"


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=300),
    st.integers(PER_CLASS, 400),
)
def test_chosen_images_are_few_different_and_several_of_a_class(
    labels: list[int], limit: int
) -> None:
    chosen = spread(labels, limit)
    assert 0 < len(chosen) == len(set(chosen)) <= limit
    there = Counter(labels)
    for label, number in Counter(labels[index] for index in chosen).items():
        assert number >= min(PER_CLASS, there[label])


def test_all_classes_are_there_where_the_limit_allows() -> None:
    labels = [index // 50 for index in range(500)]
    assert Counter(labels[index] for index in spread(labels, 200)) == dict.fromkeys(range(10), 20)
    assert sorted(spread(labels, 500)) == list(range(500))
    assert {labels[index] for index in spread(labels, 25)} == {0, 9}


def test_too_low_a_limit_is_named() -> None:
    with pytest.raises(ValueError, match="--num-images must be at least 10, got 3"):
        spread([0, 1], 3)


def test_an_unreadable_image_is_left_out_if_the_config_says_so(
    classifier: Build, tmp_path: Path
) -> None:
    for number in range(3):
        folder = tmp_path / f"class_{number}"
        folder.mkdir()
        Image.new("RGB", (8, 8), (number,) * 3).save(folder / "a.png")
    (tmp_path / "class_1" / "a.png").write_text("no image")
    register_image_folder(NAME, tmp_path)
    cfg = get_cfg()
    add_training_config(cfg)
    cfg.DATALOADER.UNREADABLE_IMAGES = "skip"
    cfg.INPUT.CLASSIFICATION.TEST_SIZE = cfg.INPUT.CLASSIFICATION.TEST_RESIZE = 8
    try:
        found = load_images(cfg, classifier(), NAME, limit=30)
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)
    assert found.labels.tolist() == found.images[:, 0, 0, 0].tolist() == [0, 2]
