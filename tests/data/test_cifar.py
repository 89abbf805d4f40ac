"""CIFAR in torchvision's format and as folders."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from shakedrop_det.data import check_dataset, register_cifar

NAME = "test_cifar"
FORMATS = {"cifar10": CIFAR10, "cifar100": CIFAR100}


@pytest.fixture(autouse=True)
def forget_the_data_set() -> Iterator[None]:
    yield
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)


def write_batches(parent: Path, variant: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The files of CIFAR with two images in each; returns those of the training set."""
    data_format = FORMATS[variant]
    folder = parent / data_format.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = []

    def write(name: str, content: dict) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for part in ("train_list", "test_list"):
        checksums = []
        for name, _ in getattr(data_format, part):
            data = rng.integers(0, 256, (2, 3 * 32 * 32), dtype=np.uint8)
            key = "labels" if variant == "cifar10" else "fine_labels"
            checksums.append([name, write(name, {"data": data, key: [1, 0]})])
            if part == "train_list":
                images.append(data.reshape(2, 3, 32, 32).transpose(0, 2, 3, 1))
        monkeypatch.setattr(data_format, part, checksums)
    meta = dict(data_format.meta)
    meta["md5"] = write(meta["filename"], {meta["key"]: ["cat", "dog"]})
    monkeypatch.setattr(data_format, "meta", meta)
    return np.concatenate(images)


@pytest.mark.parametrize("variant", FORMATS)
@pytest.mark.parametrize("place", ["in the folder", "next to it"])
def test_torchvisions_format_is_read_in_or_beside_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, place: str
) -> None:
    root = tmp_path / variant
    expected = write_batches(
        root if place == "in the folder" else tmp_path, variant, monkeypatch=monkeypatch
    )
    register_cifar(NAME, str(root), variant=variant, split="train")
    check_dataset(NAME, num_classes=2)
    records = list(DatasetCatalog.get(NAME))
    np.testing.assert_array_equal([record["image"] for record in records], expected)
    assert [record["label"] for record in records] == [1, 0] * (len(expected) // 2)
    assert MetadataCatalog.get(NAME).classes == ["cat", "dog"]


def test_val_is_the_test_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batches(tmp_path, "cifar10", monkeypatch)
    register_cifar(NAME, str(tmp_path), variant="cifar10", split="val")
    assert len(DatasetCatalog.get(NAME)) == 2


def test_class_folders_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batches(tmp_path, "cifar10", monkeypatch)
    (tmp_path / "val" / "frog").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "val" / "frog" / "a.png")
    register_cifar(NAME, str(tmp_path), variant="cifar10", split="val")
    check_dataset(NAME, num_classes=1)
    assert MetadataCatalog.get(NAME).classes == ["frog"]
    assert [Path(r["file_name"]).name for r in DatasetCatalog.get(NAME)] == ["a.png"]


def test_missing_names_each_place(tmp_path: Path) -> None:
    register_cifar(NAME, str(tmp_path / "c"), variant="cifar100", split="train")
    with pytest.raises(FileNotFoundError) as caught:
        DatasetCatalog.get(NAME)
    for place in ("c/train/<class>", "c/cifar-100-python", "cifar-100-python"):
        assert str(tmp_path / place) in str(caught.value)


def test_damaged_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batches(tmp_path, "cifar10", monkeypatch)
    batch = tmp_path / CIFAR10.base_folder / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-9])
    register_cifar(NAME, str(tmp_path), variant="cifar10", split="train")
    with pytest.raises(OSError, match=f"{CIFAR10.base_folder} is incomplete or damaged.*replace"):
        DatasetCatalog.get(NAME)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "cifar20", "split": "train"}, "variant must be one of .*'cifar20'"),
        ({"variant": "cifar10", "split": "test"}, "split must be train or val, got 'test'"),
    ],
)
def test_bad_values_are_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_cifar(NAME, "x", **options)
