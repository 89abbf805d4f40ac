"""The detection mapper: detectron2's, but for errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper

from shakedrop_det.data import DetectionMapper


def test_same_output_as_detectron2s(datasets_root: str) -> None:
    cfg = get_cfg()
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.MIN_SIZE_TRAIN = (96,)
    record = DatasetCatalog.get("tiny_scenes_val")[0]
    ours = DetectionMapper(cfg, True)(record)
    theirs = DatasetMapper(cfg, True)(record)
    assert torch.equal(ours["image"], theirs["image"])
    assert torch.equal(ours["instances"].gt_masks.tensor, theirs["instances"].gt_masks.tensor)


def test_truncated_image_is_named(tmp_path: Path, datasets_root: str) -> None:
    record = DatasetCatalog.get("tiny_scenes_val")[0]
    file = tmp_path / "truncated.png"
    file.write_bytes(Path(record["file_name"]).read_bytes()[:2000])
    with pytest.raises(OSError, match=f"cannot read image {file}"):
        DetectionMapper(get_cfg(), True)({**record, "file_name": str(file)})
