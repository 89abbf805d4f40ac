"""Mistakes in datasets are found and named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from shakedrop_det.data import check_dataset, register_digit_scenes, register_image_folder
from shakedrop_det.data import digit_scenes as scenes
from shakedrop_det.data.annotation_checks import Needs

NAME = "test_checks"
GOOD: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "1.png", "height": 8, "width": 8}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 1, 2, 2]}],
    "categories": [{"id": 1, "name": "a"}, {"id": 7, "name": "b"}],
}


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Callable[[str | None], Path]]:
    """Register a COCO dataset with the given text as its annotation file, or with none."""

    def register(text: str | None) -> Path:
        file = tmp_path / "instances.json"
        if text is not None:
            file.write_text(text)
        (tmp_path / "images").mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / "1.png")
        register_coco_instances(NAME, {}, str(file), str(tmp_path / "images"))
        return file

    yield register
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)


@pytest.mark.parametrize("num_classes", [None, 2])
def test_good_data_set(register: Callable, num_classes: int | None) -> None:
    register(json.dumps(GOOD))
    check_dataset(NAME, num_classes=num_classes)


def test_unknown_name_comes_with_near_ones() -> None:
    with pytest.raises(ValueError, match="'digit_scene_val': did you mean digit_scenes_val or "):
        check_dataset("digit_scene_val", num_classes=None)
    with pytest.raises(ValueError, match="'###': register it first, or give a COCO json and"):
        check_dataset("###", num_classes=None)
    assert "###" not in MetadataCatalog.list()


def test_missing_annotation_file(register: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "/somewhere")
    file = register(None)
    with pytest.raises(FileNotFoundError, match=f"{file} .*'{NAME}'.*which is '/somewhere'"):
        check_dataset(NAME, num_classes=None)


@pytest.mark.parametrize(
    "name, path",
    [
        ("voc_2007_trainval", "VOC2007/ImageSets/Main/trainval.txt"),
        ("cityscapes_fine_instance_seg_val", "cityscapes/leftImg8bit/val/"),
        ("cityscapes_fine_sem_seg_train", "cityscapes/leftImg8bit/train/"),
        ("coco_2017_val_panoptic", "coco/annotations/instances_val2017.json"),
        ("coco_2017_val_panoptic_separated", "coco/annotations/instances_val2017.json"),
        ("coco_2017_val_panoptic_stuffonly", "coco/val2017"),
        ("coco_2017_val_person", "coco/annotations/instances_val2017.json"),
        ("ade20k_sem_seg_val", "ADEChallengeData2016/images/validation"),
    ],
)
def test_missing_files_of_built_in_datasets_come_with_the_remedy(name: str, path: str) -> None:
    where = os.path.join(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")), path)
    if os.path.exists(where):
        pytest.skip(f"{where} exists")
    with pytest.raises(FileNotFoundError, match=f"{where} .* set the env.* DETECTRON2_DATASETS"):
        check_dataset(name, num_classes=None)


def test_missing_image_folder(register: Callable, tmp_path: Path) -> None:
    register(json.dumps(GOOD))
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(FileNotFoundError, match=f"image folder {tmp_path}/images of"):
        check_dataset(NAME, num_classes=None)


@pytest.mark.parametrize("text", ["", "{", "not json", json.dumps(GOOD)[:-5], "[" * 99999])
def test_annotation_file_that_is_not_json(register: Callable, text: str) -> None:
    file = register(text)
    with pytest.raises(ValueError, match=f"{file} of dataset '{NAME}' is not JSON"):
        check_dataset(NAME, num_classes=None)


@pytest.mark.parametrize("part", list(GOOD))
def test_annotation_file_without_a_part(register: Callable, part: str) -> None:
    file = register(json.dumps({key: value for key, value in GOOD.items() if key != part}))
    with pytest.raises(ValueError, match=f"{file} .* is not a COCO file: it has no list '{part}'"):
        check_dataset(NAME, num_classes=None)


@pytest.mark.parametrize("content", [[], 3, {**GOOD, "images": {}}])
def test_annotation_file_of_another_kind(register: Callable, content: Any) -> None:
    register(json.dumps(content))
    with pytest.raises(ValueError, match="is not a COCO file: it has no list 'images'"):
        check_dataset(NAME, num_classes=None)


@pytest.mark.parametrize("part", list(GOOD))
def test_empty_part(register: Callable, part: str) -> None:
    file = register(json.dumps({**GOOD, part: []}))
    with pytest.raises(ValueError, match=f"{file} .* has no {part}"):
        check_dataset(NAME, num_classes=None)


def test_images_to_predict_on_need_no_annotations(register: Callable) -> None:
    register(json.dumps({key: GOOD[key] for key in ("images", "categories")}))
    check_dataset(NAME, num_classes=2, needs=Needs(training=False))


@pytest.mark.parametrize("number", [1, 3, 80])
def test_the_model_has_as_many_classes(register: Callable, number: int) -> None:
    register(json.dumps(GOOD))
    message = rf"ROI_HEADS.NUM_CLASSES is {number}, but .* has 2 classes \(a, b\): set .* to 2"
    with pytest.raises(ValueError, match=message):
        check_dataset(NAME, num_classes=number)


def test_classification_data_sets(tmp_path: Path) -> None:
    key = "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES"
    check_dataset("digits_val", num_classes=10, key=key)
    with pytest.raises(ValueError, match=f"{key} is 9, but dataset 'digits_val' has 10"):
        check_dataset("digits_val", num_classes=9, key=key)
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    register_image_folder(NAME, tmp_path)
    try:
        with pytest.raises(ValueError, match=f"{key} is 2, but dataset '{NAME}' has 3"):
            check_dataset(NAME, num_classes=2, key=key)
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)


def test_generated_data_is_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = scenes.build_digit_scenes
    monkeypatch.setattr(scenes, "build_digit_scenes", lambda r: build(r, num_train=1, num_val=1))
    register_digit_scenes(NAME, str(tmp_path / "scenes"), split="val")
    try:
        check_dataset(NAME, num_classes=10)
        assert (tmp_path / "scenes" / "val" / "000001.png").is_file()
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)
