"""The datasets that are registered at import."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from shakedrop_det.data import builtin, digit_scenes, digit_split, prepare_digit_scenes

FORK = multiprocessing.get_context("fork")
ROOT = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_metadata_name_the_files_the_classes_and_the_evaluator(split: str) -> None:
    scenes = MetadataCatalog.get(f"digit_scenes_{split}")
    assert scenes.json_file == f"{ROOT}/digit_scenes/annotations/instances_{split}.json"
    assert scenes.image_root == f"{ROOT}/digit_scenes/{split}"
    assert scenes.evaluator_type == "coco"
    digits = MetadataCatalog.get(f"digits_{split}")
    assert digits.evaluator_type == "classification"
    assert scenes.thing_classes == digits.classes == list("0123456789")
    for name in ("imagenet", "cifar10", "cifar100"):
        metadata = MetadataCatalog.get(f"{name}_{split}")
        assert metadata.image_root == f"{ROOT}/{name}/{split}"
        assert metadata.evaluator_type == "classification"


def import_anew(root: Path, pipe: Connection) -> None:
    DatasetCatalog.clear()
    MetadataCatalog.clear()
    os.environ["DETECTRON2_DATASETS"] = str(root)
    importlib.reload(builtin)
    pipe.send(MetadataCatalog.get("digit_scenes_val").json_file)


def test_the_variable_is_read_at_import(tmp_path: Path) -> None:
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=import_anew, args=(tmp_path, theirs))
    process.start()
    assert ours.recv() == f"{tmp_path}/digit_scenes/annotations/instances_val.json"
    process.join()


def test_digits_are_those_of_the_side() -> None:
    records = DatasetCatalog.get("digits_val")
    assert [record["label"] for record in records] == digit_split(False)[1].tolist()


def test_scenes_load_with_classes_from_0(datasets_root: str) -> None:
    records = DatasetCatalog.get("tiny_scenes_val")
    assert len(records) == 4
    annotations = [annotation for record in records for annotation in record["annotations"]]
    assert {annotation["category_id"] for annotation in annotations} <= set(range(10))
    assert all(annotation["bbox_mode"] == BoxMode.XYWH_ABS for annotation in annotations)
    assert all(os.path.isfile(record["file_name"]) for record in records)


def test_first_use_builds_once_for_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = digit_scenes.build_digit_scenes

    def count_and_build(root: Path) -> None:
        with open(tmp_path / "builds", "a") as file:
            file.write("x")
        build(root, num_train=2, num_val=1)

    monkeypatch.setattr(digit_scenes, "build_digit_scenes", count_and_build)
    processes = [
        FORK.Process(target=prepare_digit_scenes, args=(tmp_path / "new" / "scenes",))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "builds").read_text() == "x"
    assert len(os.listdir(tmp_path / "new" / "scenes" / "train")) == 2
