"""Runs that cannot work stop before anything is built, saying which key to change."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils import comm
from PIL import Image

from shakedrop_det.data import use_coco_files
from shakedrop_det.engine import Trainer, build_evaluator, check_config
from shakedrop_det.engine.checks import check_batch_size
from shakedrop_det.utils.errors import message_for_user
from tests.own_data import write_own_data

Tiny = Callable[..., CfgNode]


@pytest.fixture
def coco(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """``coco(text)`` registers a dataset whose annotation file has that text."""
    path = tmp_path / "instances.json"
    register_coco_instances("checked", {}, str(path), str(tmp_path))

    def write(text: str) -> str:
        path.write_text(text)
        return "checked"

    yield write
    DatasetCatalog.remove("checked")
    MetadataCatalog.remove("checked")


@pytest.mark.parametrize("name", ["mask_rcnn", "retinanet", "c4", "classifier"])
def test_good_runs_pass(tiny: Tiny, name: str) -> None:
    check_config(tiny(name))


def test_unknown_data_set(tiny: Tiny) -> None:
    cfg = tiny("mask_rcnn", "DATASETS.TEST", ("tiny_scenes_vall",))
    with pytest.raises(ValueError, match="DATASETS.TEST.*tiny_scenes_vall.*tiny_scenes_val"):
        check_config(cfg)


def test_no_data_set(tiny: Tiny) -> None:
    cfg = tiny("mask_rcnn", "DATASETS.TRAIN", ())
    with pytest.raises(ValueError, match="DATASETS.TRAIN is empty"):
        check_config(cfg)
    check_config(cfg, train=False)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = cfg.DATASETS.TEST, ()
    check_config(cfg)
    with pytest.raises(ValueError, match="DATASETS.TEST is empty: set it to"):
        check_config(cfg, train=False)


def test_broken_annotations(tiny: Tiny, coco: Callable[[str], str], tmp_path: Path) -> None:
    cfg = tiny("mask_rcnn", "DATASETS.TRAIN", (coco('{"images": [{"id"'),))
    with pytest.raises(ValueError) as error:
        check_config(cfg)
    assert "DATASETS.TRAIN" in str(error.value)
    assert str(tmp_path / "instances.json") in str(error.value)


def test_training_without_annotations_is_refused(
    tiny: Tiny, coco: Callable[[str], str], tmp_path: Path
) -> None:
    image = {"id": 1, "file_name": "1.png", "height": 8, "width": 8}
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    categories = [{"id": i + 1, "name": str(i)} for i in range(10)]
    empty = {"images": [image], "categories": categories, "annotations": []}
    name = coco(json.dumps(empty))
    with pytest.raises(ValueError, match="DATASETS.TRAIN.*no annotations"):
        check_config(tiny("mask_rcnn", "DATASETS.TRAIN", (name,)))
    # Predictions can be made for images without.
    check_config(tiny("mask_rcnn", "DATASETS.TEST", (name,)))


@pytest.mark.parametrize(
    "name, key",
    [
        ("mask_rcnn", "MODEL.ROI_HEADS.NUM_CLASSES"),
        ("retinanet", "MODEL.RETINANET.NUM_CLASSES"),
        ("classifier", "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES"),
    ],
)
def test_too_few_classes(tiny: Tiny, name: str, key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} is 9.*10 classes"):
        check_config(tiny(name, key, 9))


def test_output_dir_that_cannot_be_written(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    output = str(tmp_path / "file" / "output")
    with pytest.raises(ValueError, match=f"OUTPUT_DIR '{output}' cannot be written"):
        check_config(tiny("mask_rcnn", "OUTPUT_DIR", output))


def test_test_time_augmentation_needs_an_rcnn(tiny: Tiny) -> None:
    check_config(tiny("mask_rcnn", "TEST.AUG.ENABLED", True))
    with pytest.raises(ValueError, match="TEST.AUG.ENABLED.*'RetinaNet'"):
        check_config(tiny("retinanet", "TEST.AUG.ENABLED", True))
    for key in ("KEYPOINT_ON", "LOAD_PROPOSALS"):
        with pytest.raises(ValueError, match=f"TEST.AUG.ENABLED.*MODEL.{key} False"):
            check_config(tiny("mask_rcnn", "TEST.AUG.ENABLED", True, f"MODEL.{key}", True))


def test_batches_must_be_divisible(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "synchronize", lambda: None)
    cfg = tiny("classifier", "SOLVER.IMS_PER_BATCH", 12, "SOLVER.ACCUMULATION_STEPS", 3)
    check_config(cfg)
    cfg.SOLVER.ACCUMULATION_STEPS = 4
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH 12 must be a multiple of 8.*2, tim"):
        check_config(cfg)
    check_config(cfg, train=False)
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 1  # The batch is to be twice as large on two.
    check_config(cfg)


@pytest.mark.parametrize("period", [0, -1])
def test_checkpoints_need_a_period(tiny: Tiny, period: int) -> None:
    """Of 0, as of TEST.EVAL_PERIOD, one might think that it only saves at the end."""
    cfg = tiny("classifier", "SOLVER.CHECKPOINT_PERIOD", period)
    with pytest.raises(ValueError, match=f"SOLVER.CHECKPOINT_PERIOD .*{period}.*MAX_ITER, 4,"):
        check_config(cfg)
    check_config(cfg, train=False)
    cfg.SOLVER.CHECKPOINT_EPOCHS = 1.0
    check_config(cfg)


@pytest.mark.parametrize("ratio", [0.0, -0.5, 1.5])
def test_a_subset_must_be_a_part(tiny: Tiny, ratio: float) -> None:
    cfg = tiny("classifier", "DATALOADER.RANDOM_SUBSET_RATIO", ratio)
    with pytest.raises(ValueError, match=rf"RANDOM_SUBSET_RATIO must be in \(0, 1\], got {ratio}"):
        check_config(cfg)


def test_synchronized_norm_needs_gpus(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = tiny("mask_rcnn", "MODEL.RESNETS.NORM", "SyncBN")
    check_config(cfg)  # One process synchronizes nothing.
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "synchronize", lambda: None)
    with pytest.raises(ValueError, match="MODEL.RESNETS.NORM 'SyncBN' needs GPUs.*'naiveSyncBN'"):
        check_config(cfg)
    cfg.MODEL.RESNETS.NORM = "naiveSyncBN"
    check_config(cfg)


def test_evaluator_needs_a_known_type(tiny: Tiny) -> None:
    MetadataCatalog.get("of_own_type").evaluator_type = "own"
    try:
        with pytest.raises(ValueError, match="'of_own_type'.*'own'.*coco"):
            build_evaluator(tiny("mask_rcnn"), "of_own_type")
    finally:
        MetadataCatalog.remove("of_own_type")


def test_train_and_test_are_told_of_together(tiny: Tiny, tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"][2]["segmentation"] = []

    options = ["MODEL.ROI_HEADS.NUM_CLASSES", 2, "MODEL.KEYPOINT_ON", True]
    cfg = tiny("mask_rcnn", *options)
    cfg.DATASETS.TRAIN = (write_own_data(tmp_path / "a", spoil),)
    cfg.DATASETS.TEST = (write_own_data(tmp_path / "b", categories=((1, "cat"), (2, "hen"))),)
    use_coco_files(cfg)
    with pytest.raises(ValueError) as error:
        check_config(cfg)
    message = str(error.value)
    assert "DATASETS.TRAIN: " in message
    assert "image 2, annotation 3 has no mask" in message
    assert "has no keypoint_names or no keypoint_flip_map" in message
    assert "DATASETS.TEST: datasets 'instances' and 'b_instances' do not" in message
    assert "2 (cat, dog) in the first and 2 (cat, hen) in the second" in message


def test_bad_annotations_are_left_out_of_a_run(tiny: Tiny, tmp_path: Path) -> None:
    """Training and the metrics see the rest."""

    def spoil(content: dict[str, Any]) -> None:
        # Only training on polygons cannot have it.
        content["annotations"][2]["segmentation"] = {"size": [64, 80], "counts": [10, 20, 5090]}

    cfg = tiny("mask_rcnn", "MODEL.ROI_HEADS.NUM_CLASSES", 2)
    cfg.DATASETS.SKIP_BAD_ANNOTATIONS = True
    cfg.INPUT.MASK_FORMAT = "polygon"
    data = write_own_data(tmp_path / "own", spoil)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (data,)
    use_coco_files(cfg)
    trainer = Trainer(cfg)
    assert sum(len(r["annotations"]) for r in DatasetCatalog.get("instances")) == 7
    assert len(trainer.build_evaluator(cfg, "instances")._coco_api.anns) == 7
    assert "AP" in (trainer.train() or {})["segm"]


def test_labels_of_pixels_do_not_come_with_a_coco_file(tiny: Tiny, tmp_path: Path) -> None:
    cfg = tiny("mask_rcnn", "MODEL.META_ARCHITECTURE", "PanopticFPN")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (write_own_data(tmp_path / "own"),), ()
    use_coco_files(cfg, given=["DATASETS.TRAIN"])
    with pytest.raises(
        ValueError, match="'PanopticFPN' needs per-pixel labels, which the COCO fil"
    ):
        check_config(cfg)


@pytest.fixture
def register() -> Iterator[Callable[[Callable[[], Any]], str]]:
    """``register(function)`` registers a dataset with a function."""
    name = "of_a_function"

    def under_name(function: Callable[[], Any]) -> str:
        DatasetCatalog.register(name, function)
        return name

    yield under_name
    DatasetCatalog.remove(name)
    MetadataCatalog.pop(name, None)


@pytest.mark.parametrize(
    "bug", [lambda: float("abc"), lambda: json.loads("{"), lambda: b"\xff".decode()]
)
def test_a_bug_in_the_function_of_a_dataset_keeps_its_traceback(
    tiny: Tiny, register: Callable[..., str], bug: Callable[[], Any]
) -> None:
    with pytest.raises(Exception) as expected:
        bug()
    with pytest.raises(type(expected.value)) as error:
        check_config(tiny("mask_rcnn", "DATASETS.TRAIN", (register(bug),)))
    assert error.traceback[-1].path == expected.traceback[-1].path
    assert message_for_user(error.value) is None


def test_a_file_that_such_a_function_does_not_find_is_a_line(
    tiny: Tiny, register: Callable[..., str]
) -> None:
    name = register(lambda: json.loads(Path("no/such/records.json").read_text()))
    with pytest.raises(FileNotFoundError, match="DATASETS.TRAIN: .*no/such/records.json") as error:
        check_config(tiny("mask_rcnn", "DATASETS.TRAIN", (name,)))
    assert message_for_user(error.value) is not None


LABELS = "label 10, which is not an integer from 0 to 9: MODEL.IMAGE_CLASSIFIER.NUM_CLASSES is 10"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"label": 10}, LABELS),
        ({"label": -1}, "has label -1, which is not"),
        ({"label": "3"}, "has label '3', which is not"),
        ({"label": 1.0}, "has label 1.0, which is not"),
        ({"label": None}, "image 5 has no 'label'"),
        ({"file_name": "gone.png"}, "image 5 has no file gone.png"),
        ({"file_name": 5}, "has file_name 5, which is not a path"),
        ({"file_name": None}, "has neither 'file_name' nor 'image'"),
    ],
)
def test_labels_and_files_of_a_function_are_checked(
    tiny: Tiny,
    register: Callable[..., str],
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    file = str(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(file)
    good = {"file_name": file, "image_id": 5, "label": np.int64(9)}
    records = [good]
    cfg = tiny("classifier", "DATASETS.TRAIN", (register(lambda: records),))
    check_config(cfg)
    records = [{key: value for key, value in {**good, **change}.items() if value is not None}]
    with pytest.raises(ValueError, match=f"DATASETS.TRAIN: dataset 'of_a.*\n.*{message}"):
        check_config(cfg)
    cfg.DATALOADER.UNREADABLE_IMAGES = "skip"
    if message.endswith("gone.png"):
        check_config(cfg)


def test_an_evaluation_leaves_the_files_of_a_run_alone(tiny: Tiny, tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"][2]["segmentation"] = None

    cfg = tiny("mask_rcnn", "MODEL.ROI_HEADS.NUM_CLASSES", 2)
    cfg.DATASETS.SKIP_BAD_ANNOTATIONS = True
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (write_own_data(tmp_path / "own", spoil),)
    use_coco_files(cfg)
    check_config(cfg)
    (used,) = Path(cfg.OUTPUT_DIR, "usable_annotations").iterdir()
    used.write_text("as it was")
    check_config(cfg, train=False)
    assert used.read_text() == "as it was"
    assert MetadataCatalog.get("instances").json_file == (
        f"{cfg.OUTPUT_DIR}/inference/usable_annotations/instances.json"
    )


def test_a_batch_is_divided_by_the_processes_of_the_reference(tiny: Tiny) -> None:
    cfg = tiny("classifier", "SOLVER.IMS_PER_BATCH", 12, "SOLVER.REFERENCE_WORLD_SIZE", 8)
    with pytest.raises(ValueError, match="multiple of 8: SOLVER.REFERENCE_WORLD_SIZE, 8, times"):
        check_batch_size(cfg)
