"""A folder of class folders in the config of a classifier is a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from shakedrop_det.data import folders_in_config
from shakedrop_det.engine import check_config, load_config
from shakedrop_det.engine.checks import check_best_metric
from tests.conftest import CONFIGS
from tests.own_data import forgotten_after

CONFIG = str(CONFIGS / "tiny_classifier.yaml")
KEY = "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES"


@pytest.fixture(autouse=True)
def _leave_no_trace() -> Iterator[None]:
    with forgotten_after(folders_in_config._registered):
        yield


def write_folders(root: Path, *classes: str) -> str:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(2):
            pixels = np.full((16, 20, 3), 40 * number + index, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return str(root)


def load(*options: object, config: str = CONFIG) -> CfgNode:
    return load_config(config, [str(option) for option in options])


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    for part in ("nest_train", "nest_val"):
        write_folders(tmp_path / "birds" / part, "hen", "owl", "tit")
    return tmp_path / "birds"


def test_a_path_is_a_data_set_with_a_class_for_each_folder(birds: Path) -> None:
    cfg = load("DATASETS.TRAIN", birds / "nest_train", "DATASETS.TEST", birds / "nest_val")
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("nest_train",), ("nest_val",))
    expected = [["nest_train", str(birds / "nest_train")], ["nest_val", str(birds / "nest_val")]]
    assert expected == cfg.DATASETS.IMAGE_FOLDERS
    assert cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES == 3
    assert [record["label"] for record in DatasetCatalog.get("nest_train")] == [0, 0, 1, 1, 2, 2]
    assert MetadataCatalog.get("nest_val").evaluator_type == "classification"


def test_the_saved_config_is_enough(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a resumed run, a spawned process, or a process in another folder."""
    monkeypatch.chdir(birds.parent)
    cfg = load("DATASETS.TRAIN", "birds/nest_train", "DATASETS.TEST", "birds/nest_val")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    for name in ("nest_train", "nest_val"):
        DatasetCatalog.remove(name)
        del folders_in_config._registered[name]
    monkeypatch.chdir("/")
    again = load(config=str(tmp_path / "config.yaml"))
    assert again.DATASETS == cfg.DATASETS
    assert again.MODEL.IMAGE_CLASSIFIER == cfg.MODEL.IMAGE_CLASSIFIER
    assert len(DatasetCatalog.get(again.DATASETS.TRAIN[0])) == 6


def test_an_entry_of_a_relative_folder_becomes_absolute(
    birds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(birds)
    cfg = load("DATASETS.IMAGE_FOLDERS", "[['nest', 'nest_train']]")
    assert [["nest", str(birds / "nest_train")]] == cfg.DATASETS.IMAGE_FOLDERS


def test_folders_of_one_name_become_two_data_sets(tmp_path: Path) -> None:
    paths = [write_folders(tmp_path / name / "nest", "a", "b") for name in ("one", "two")]
    cfg = load("DATASETS.TRAIN", ",".join(paths))
    assert cfg.DATASETS.TRAIN == ("nest", "two_nest")


def test_an_explicit_number_of_classes_is_kept_and_checked(birds: Path) -> None:
    cfg = load("DATASETS.TRAIN", birds / "nest_train", "DATASETS.TEST", "()", KEY, 4)
    assert cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES == 4
    with pytest.raises(ValueError, match=f"{KEY}.* 4.* 3"):
        check_config(cfg)


def test_a_trained_classifier_keeps_its_classes_on_another_test_set(
    birds: Path, tmp_path: Path
) -> None:
    cfg = load("DATASETS.TRAIN", birds / "nest_train", "DATASETS.TEST", birds / "nest_val")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    other = write_folders(tmp_path / "other", "hen", "owl")
    again = load("DATASETS.TEST", other, config=str(tmp_path / "config.yaml"))
    assert again.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES == 3
    with pytest.raises(ValueError, match="do not have the same classes"):
        check_config(again)


def test_it_is_trained_and_evaluated_on(birds: Path, tiny) -> None:
    cfg = load("DATASETS.TRAIN", birds / "nest_train", "DATASETS.TEST", birds / "nest_val")
    cfg.SOLVER.BEST_CHECKPOINT_METRIC = "classification/top1"
    check_config(cfg)
    check_best_metric(cfg)


def test_a_path_without_a_folder_is_answered_with_what_is_expected(tmp_path: Path) -> None:
    cfg = load("DATASETS.TRAIN", tmp_path / "trian")
    with pytest.raises(ValueError, match="no dataset .*trian'.* a folder of images for each class"):
        check_config(cfg)


def test_a_folder_without_classes_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty/<class>/<image>, but .* no subfolders"):
        load("DATASETS.TRAIN", tmp_path / "empty")


@pytest.mark.parametrize("entry", ["['a']", "['a', '']", "['a', 'b', 'c']", "'a'"])
def test_a_wrong_entry_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match=r"IMAGE_FOLDERS must be \[name, folder\], such as"):
        load("DATASETS.IMAGE_FOLDERS", f"[{entry}]")


def test_the_name_of_another_data_set_is_refused(birds: Path) -> None:
    with pytest.raises(ValueError, match="the name 'digits_train' of another dataset"):
        load("DATASETS.IMAGE_FOLDERS", f"[['digits_train', '{birds / 'nest_train'}']]")


def test_a_detector_takes_no_folders(birds: Path) -> None:
    config = str(CONFIGS / "tiny_mask_rcnn.yaml")
    with pytest.raises(ValueError, match="no dataset .*json and its image folder"):
        check_config(load("DATASETS.TRAIN", birds / "nest_train", config=config))
