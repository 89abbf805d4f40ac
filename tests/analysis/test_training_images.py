"""Pictures of what training sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.env import seed_all_rng
from matplotlib.axes import Axes
from PIL import Image

from shakedrop_det.analysis import draw_training_images
from shakedrop_det.data import use_coco_files
from shakedrop_det.engine import Trainer
from tests.own_data import write_own_data

Tiny = Callable[..., CfgNode]


def seen_in_training(cfg: CfgNode, number: int) -> list[dict[str, Any]]:
    """The first records that the trainer's loader gives."""
    seed_all_rng(cfg.SEED)
    records: list[dict[str, Any]] = []
    for batch in Trainer.build_train_loader(cfg):
        records += batch
        if len(records) >= number:
            return records[:number]
    raise AssertionError("training goes on forever")


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_pictures_are_the_augmented_images(tiny: Tiny, tmp_path: Path, image_format: str) -> None:
    augmentation = ["INPUT.RANDOM_FLIP", "horizontal", "INPUT.CROP.ENABLED", True]
    cfg = tiny("mask_rcnn", *augmentation, "INPUT.FORMAT", image_format)
    paths = draw_training_images(cfg, tmp_path / "new", num_images=3)
    assert paths == sorted((tmp_path / "new").iterdir())
    for path, record in zip(paths, seen_in_training(cfg, 3), strict=True):
        assert path.stem[5:] == Path(record["file_name"]).stem
        pixels = record["image"].permute(1, 2, 0).numpy()
        pixels = pixels if image_format == "RGB" else pixels[:, :, ::-1]
        picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
        scale = round(400 / max(pixels.shape))
        assert picture.shape == (scale * pixels.shape[0], scale * pixels.shape[1], 3)
        middle = picture[scale // 2 :: scale, scale // 2 :: scale]
        same = np.abs(middle - pixels).max(axis=2) <= 16
        masks = record["instances"].gt_masks.tensor.numpy().any(axis=0)
        left, top, right, bottom = record["instances"].gt_boxes.tensor.T.numpy()
        outside = np.ones_like(masks)
        for box in zip(left, top, right, bottom, strict=True):
            x0, y0, x1, y1 = np.round(box).astype(int)
            outside[max(y0 - 2, 0) : y1 + 8, max(x0 - 2, 0) : max(x1 + 2, x0 + 12)] = False
        assert same[outside].mean() > 0.9
        assert same[masks].mean() < 0.5


def test_classification_images_are_on_one_sheet(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, titles = [], []
    imshow, set_title = Axes.imshow, Axes.set_title
    monkeypatch.setattr(
        Axes, "imshow", lambda self, x, **k: shown.append(x) or imshow(self, x, **k)
    )
    monkeypatch.setattr(
        Axes, "set_title", lambda self, t, **k: titles.append(t) or set_title(self, t, **k)
    )
    cfg = tiny("classifier")
    assert draw_training_images(cfg, tmp_path, num_images=5) == [tmp_path / "images.png"]
    expected = seen_in_training(cfg, 5)
    for image, record in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(image, record["image"].permute(1, 2, 0).numpy())
    assert titles == [str(record["label"]) for record in expected]
    with Image.open(tmp_path / "images.png") as sheet:
        assert sheet.size == (600, 460)


def test_semantic_labels_have_a_picture_of_their_own(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = tiny("mask_rcnn")
    record = seen_in_training(cfg, 1)[0]
    record["sem_seg"] = torch.zeros(record["image"].shape[1:], dtype=torch.int64)
    record["sem_seg"][:32] = 1
    monkeypatch.setattr(Trainer, "build_train_loader", lambda cfg: [[record]])
    metadata = MetadataCatalog.get("tiny_scenes_train")
    monkeypatch.setitem(metadata.__dict__, "stuff_classes", ["ground", "sky"])
    monkeypatch.setitem(metadata.__dict__, "stuff_colors", [(0, 200, 0), (0, 0, 200)])
    paths = draw_training_images(cfg, tmp_path, num_images=1)
    assert [path.name.endswith("_sem_seg.png") for path in paths] == [False, True]
    picture = np.asarray(Image.open(paths[1]).convert("RGB")).astype(int)
    top, bottom = picture[5:25].mean(axis=(0, 1)), picture[40:60].mean(axis=(0, 1))
    assert top[2] - bottom[2] > 50
    assert bottom[1] - top[1] > 50


def test_semantic_labels_without_names_of_classes(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = tiny("mask_rcnn", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 2)
    record = seen_in_training(cfg, 1)[0]
    record["sem_seg"] = torch.full(record["image"].shape[1:], 255)
    record["sem_seg"][:32] = 1
    monkeypatch.setattr(Trainer, "build_train_loader", lambda cfg: [[record]])
    _, path = draw_training_images(cfg, tmp_path, num_images=1)
    pixels = record["image"].permute(1, 2, 0).numpy().astype(int)
    difference = np.abs(np.asarray(Image.open(path).convert("RGB")) - pixels)
    assert difference[40:].max() == 0
    assert difference[:28].mean() > 10


def test_number_of_images(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--num-images must be at least 1, got 0"):
        draw_training_images(tiny("mask_rcnn"), tmp_path, num_images=0)


def test_what_a_run_left_out_of_bad_annotations_is_left_alone(tiny: Tiny, tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"][2]["segmentation"] = None

    cfg = tiny("mask_rcnn", "MODEL.ROI_HEADS.NUM_CLASSES", 2)
    cfg.DATASETS.SKIP_BAD_ANNOTATIONS = True
    cfg.DATASETS.TRAIN = (write_own_data(tmp_path / "own", spoil),)
    use_coco_files(cfg)
    draw_training_images(cfg, tmp_path / "pictures", num_images=1)
    assert not Path(cfg.OUTPUT_DIR).exists()
    assert (tmp_path / "pictures" / "usable_annotations" / "instances.json").exists()
