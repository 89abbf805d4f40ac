"""A COCO file and a folder of images in the config are a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from shakedrop_det.data import DetectionMapper, coco_files
from shakedrop_det.engine import check_config, load_config
from tests.conftest import CONFIGS
from tests.own_data import forgotten_after, write_own_data

CONFIG = str(CONFIGS / "tiny_mask_rcnn.yaml")


@pytest.fixture(autouse=True)
def _leave_no_trace() -> Iterator[None]:
    with forgotten_after(coco_files._registered):
        yield


def load(*options: object, config: str = "") -> CfgNode:
    return load_config(config, [str(option) for option in options])


def test_two_paths_are_a_data_set(tmp_path: Path) -> None:
    cfg = load("DATASETS.TRAIN", write_own_data(tmp_path / "birds"), "DATASETS.TEST", "()")
    (name,) = cfg.DATASETS.TRAIN
    assert [
        [name, str(tmp_path / "birds/instances.json"), str(tmp_path / "birds/images")]
    ] == cfg.DATASETS.COCO_FILES
    records = DatasetCatalog.get(name)
    assert records[0]["file_name"] == str(tmp_path / "birds/images/0.png")
    assert MetadataCatalog.get(name).thing_classes == ["cat", "dog"]
    assert MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id == {5: 0, 9: 1}


def test_images_are_beside_the_json_if_no_folder_is_named(tmp_path: Path) -> None:
    write_own_data(tmp_path / "birds")
    cfg = load("DATASETS.TRAIN", tmp_path / "birds" / "instances.json")
    assert cfg.DATASETS.COCO_FILES[0][2] == str(tmp_path / "birds")


def test_the_saved_config_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a resumed run, a spawned process, or a process in another folder."""
    write_own_data(tmp_path / "birds")
    monkeypatch.chdir(tmp_path)
    cfg = load("DATASETS.TRAIN", "birds/instances.json:birds/images", "DATASETS.TEST", None)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    _forget_all()
    monkeypatch.chdir("/")
    again = load(config=str(tmp_path / "config.yaml"))
    assert again.DATASETS == cfg.DATASETS
    assert again.MODEL.ROI_HEADS == cfg.MODEL.ROI_HEADS
    assert len(DatasetCatalog.get(again.DATASETS.TRAIN[0])) == 4


def _forget_all() -> None:
    for name in list(coco_files._registered):
        DatasetCatalog.remove(name)
    coco_files._registered.clear()


def test_files_of_one_name_get_several(tmp_path: Path) -> None:
    paths = [write_own_data(tmp_path / folder) for folder in ("one", "two")]
    cfg = load("DATASETS.TRAIN", paths[0], "DATASETS.TEST", ",".join(paths))
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (
        ("instances",),
        ("instances", "two_instances"),
    )
    # Names follow from the config alone, not from what the process read before.
    assert load("DATASETS.TRAIN", paths[1]).DATASETS.TRAIN == ("instances",)
    assert DatasetCatalog.get("instances")[0]["file_name"].startswith(str(tmp_path / "two"))


def test_the_name_of_another_data_set_is_refused(tmp_path: Path) -> None:
    entry = ["coco_2017_train", str(tmp_path / "a.json"), str(tmp_path)]
    with pytest.raises(ValueError, match="'coco_2017_train' of another dataset"):
        load("DATASETS.COCO_FILES", [entry])


@pytest.mark.parametrize("entry", ["a.json", ["name", "a.json"], ["name", "a.json", 3]])
def test_an_entry_of_another_form_is_refused(entry: object) -> None:
    with pytest.raises(ValueError, match=r"COCO_FILES must be \[name, json, image_root\], such as"):
        load("DATASETS.COCO_FILES", [entry])


@pytest.mark.parametrize(
    "options, key, expected",
    [
        ([], "ROI_HEADS", 2),
        (["MODEL.META_ARCHITECTURE", "RetinaNet"], "RETINANET", 2),
        (["MODEL.ROI_HEADS.NUM_CLASSES", 7], "ROI_HEADS", 7),
    ],
)
def test_classes_are_those_of_the_file(
    tmp_path: Path, options: list[object], key: str, expected: int
) -> None:
    cfg = load("DATASETS.TRAIN", write_own_data(tmp_path / "birds"), *options)
    assert expected == cfg.MODEL[key].NUM_CLASSES


def test_classes_of_a_recipe_are_those_of_its_data(tmp_path: Path) -> None:
    """tiny_mask_rcnn.yaml has the ten classes of the digits."""
    cfg = load("DATASETS.TRAIN", write_own_data(tmp_path / "birds"), config=CONFIG)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert load(config=CONFIG).MODEL.ROI_HEADS.NUM_CLASSES == 10


def test_a_recipe_of_other_data_evaluates_on_own(tmp_path: Path) -> None:
    cfg = load("DATASETS.TEST", write_own_data(tmp_path / "birds"), config=CONFIG)
    assert cfg.DATASETS.TRAIN == ("digit_scenes_train",)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2


def test_a_file_that_is_not_there_is_left_to_who_needs_it(tmp_path: Path) -> None:
    """A config of another machine is enough to predict with."""
    cfg = load("DATASETS.TRAIN", tmp_path / "none.json")
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80


def test_a_corrected_file_is_read_in_the_same_process(tmp_path: Path) -> None:
    cfg = load("DATASETS.TRAIN", write_own_data(tmp_path / "birds"))
    DatasetCatalog.get("instances")
    path = tmp_path / "birds" / "instances.json"
    content = json.loads(path.read_text())
    content["categories"][1]["name"] = "hen"
    path.write_text(json.dumps(content))
    DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
    assert MetadataCatalog.get("instances").thing_classes == ["cat", "hen"]


def test_keypoints_come_from_the_file(tmp_path: Path) -> None:
    def name_keypoints(content: dict) -> None:
        content["categories"][0]["keypoints"] = ["nose", "left_eye", "right_eye"]

    path = write_own_data(tmp_path / "birds", name_keypoints)
    cfg = load("DATASETS.TRAIN", path, "MODEL.KEYPOINT_ON", True)
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 3
    metadata = MetadataCatalog.get("instances")
    metadata.prepare()
    assert metadata.keypoint_names == ["nose", "left_eye", "right_eye"]
    assert ("left_eye", "right_eye") in metadata.keypoint_flip_map


def with_keypoints(folder: Path) -> str:
    def change(content: dict) -> None:
        for category in content["categories"]:
            category["keypoints"] = ["nose", "left_eye", "right_eye"]
        for annotation in content["annotations"]:
            annotation.update(keypoints=[10, 12, 2] * 3, num_keypoints=3)

    return write_own_data(folder, change)


@pytest.mark.parametrize("train", [True, False])
def test_own_keypoints_in_each_process_and_in_an_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: bool
) -> None:
    """One process per machine checks the data, and an evaluation only what it needs."""
    paths = [with_keypoints(tmp_path / "train"), with_keypoints(tmp_path / "val")]
    options = ["DATASETS.TRAIN", paths[0], "DATASETS.TEST", paths[1]]
    options += ["MODEL.KEYPOINT_ON", True, "OUTPUT_DIR", tmp_path / "run"]
    options += ["TEST.KEYPOINT_OKS_SIGMAS", [0.1, 0.1, 0.1]]
    if train:
        monkeypatch.setattr("shakedrop_det.engine.checks.comm.get_local_rank", lambda: 1)
    cfg = load(*options, config=CONFIG)
    check_config(cfg, train=train)
    if train:
        assert DetectionMapper(cfg, True).keypoint_hflip_indices is not None
    record = DatasetCatalog.get(cfg.DATASETS.TEST[0])[0]
    assert DetectionMapper(cfg, False)(record)["image"].shape[0] == 3
