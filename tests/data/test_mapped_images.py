"""Images that cannot be read: an error, or skipped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from shakedrop_det import add_training_config
from shakedrop_det.data import (
    build_classification_test_loader,
    build_classification_train_loader,
    register_image_folder,
)
from shakedrop_det.data.mapped_images import MappedImages
from shakedrop_det.utils.reading import UnreadableImageError

NAME = "test_mapped_images"
BAD = (2, 5)


@pytest.fixture
def cfg(tmp_path: Path) -> Iterator[CfgNode]:
    """Eight images of which two are no images; each one grey, which is its label."""
    for number in range(8):
        folder = tmp_path / "data" / f"class_{number}"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (number,) * 3).save(folder / "a.png")
        if number in BAD:
            (folder / "a.png").write_text("no image")
    register_image_folder(NAME, tmp_path / "data")
    cfg = get_cfg()
    add_training_config(cfg)
    cfg.DATASETS.TRAIN = (NAME,)
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.DATALOADER.NUM_WORKERS = 0
    node = cfg.INPUT.CLASSIFICATION
    node.TRAIN_SIZE = node.TEST_SIZE = node.TEST_RESIZE = 8
    yield cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_error_is_the_default_and_names_the_image(cfg: CfgNode, num_workers: int) -> None:
    cfg.DATALOADER.NUM_WORKERS = num_workers
    with pytest.raises(OSError, match="cannot read image .*class_[25]/a.png"):
        for _, _ in zip(range(3), build_classification_train_loader(cfg), strict=False):
            pass
    with pytest.raises(OSError, match="cannot read image .*class_2/a.png"):
        list(build_classification_test_loader(cfg, NAME))


def test_training_takes_another_image(cfg: CfgNode, caplog: pytest.LogCaptureFixture) -> None:
    cfg.DATALOADER.UNREADABLE_IMAGES = "skip"
    batches = zip(range(40), build_classification_train_loader(cfg), strict=False)
    with caplog.at_level(logging.WARNING):
        images = [image for _, batch in batches for image in batch]
    assert len(images) == 160
    labels = torch.tensor([image["label"] for image in images])
    assert all((image["image"] == image["label"]).all() for image in images)
    # Each good image in each of the 20 epochs, and those in place of the 40 bad ones.
    counts = labels.bincount(minlength=8)
    assert all(counts[bad] == 0 for bad in BAD)
    good = [int(counts[label]) for label in range(8) if label not in BAD]
    assert min(good) >= 20 and sum(good) == 160
    assert max(good) < 40, "one image stands in for all bad ones"
    # At least that often: what is drawn in place of a bad image may be bad.
    skipped = [message for message in caplog.messages if message.startswith("Skipped an image")]
    assert len(skipped) >= 40
    assert "(7 since the start): cannot read image" in skipped[6]


def test_evaluation_goes_without_it(cfg: CfgNode, caplog: pytest.LogCaptureFixture) -> None:
    cfg.DATALOADER.UNREADABLE_IMAGES = "skip"
    cfg.SOLVER.IMS_PER_BATCH = 1
    with caplog.at_level(logging.WARNING):
        batches = list(build_classification_test_loader(cfg, NAME))
    labels = [[image["label"] for image in batch] for batch in batches]
    assert labels == [[0], [1], [], [3], [4], [], [6], [7]]
    assert len(caplog.messages) == 2
    assert "class_2/a.png" in caplog.messages[0] and "class_5/a.png" in caplog.messages[1]


def test_workers_count_together(cfg: CfgNode) -> None:
    cfg.DATALOADER.UNREADABLE_IMAGES = "skip"
    cfg.DATALOADER.NUM_WORKERS = 2
    cfg.SOLVER.IMS_PER_BATCH = 2
    loader = build_classification_test_loader(cfg, NAME)
    assert sum(len(batch) for batch in loader) == 6
    assert loader.dataset._skipped.item() == 2


def test_a_missing_disk_is_an_error_in_the_end() -> None:
    def fail(record: dict[str, Any]) -> dict[str, Any]:
        raise UnreadableImageError("cannot read image x")

    images = MappedImages([{"label": 0}] * 9, fail, unreadable="skip")
    with pytest.raises(UnreadableImageError, match="100 images in a row .* disk .*image x"):
        images[0]


def test_good_images_in_between_start_the_count_anew() -> None:
    def fail_often(record: dict[str, Any]) -> dict[str, Any]:
        if record["label"] % 50:
            raise UnreadableImageError("cannot read image x")
        return record

    records = [{"label": label} for label in range(300)]
    images = MappedImages(records, fail_often, unreadable="skip", replace=False)
    assert sum(bool(images[index]) for index in range(300)) == 6


def test_records_are_left_as_they_are() -> None:
    """A mapper may change what it gets."""
    images = MappedImages([{"label": 3}], lambda record: {"label": record.pop("label")})
    assert [images[0]["label"] for _ in range(2)] == [3, 3]


@pytest.mark.parametrize("build", ["train", "test"])
def test_bad_values_are_named(cfg: CfgNode, build: str) -> None:
    cfg.DATALOADER.UNREADABLE_IMAGES = "ignore"
    with pytest.raises(ValueError, match="UNREADABLE_IMAGES must be one of error, skip.*'ignore'"):
        if build == "train":
            build_classification_train_loader(cfg)
        else:
            build_classification_test_loader(cfg, NAME)


def test_a_subset_is_sampled_and_other_samplers_are_refused(cfg: CfgNode) -> None:
    cfg.DATALOADER.SAMPLER_TRAIN = "RandomSubsetTrainingSampler"
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    assert len(build_classification_train_loader(cfg).dataset.sampler._indexes_subset) == 4
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    with pytest.raises(
        ValueError, match="'RepeatFactorTrainingSampler' is not supported for class.*set it"
    ):
        build_classification_train_loader(cfg)
