"""Files of proposals run no code, and those that detectron2 takes are taken."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from shakedrop_det.analysis import draw_training_images
from shakedrop_det.engine import check_config, train

Tiny = Callable[..., CfgNode]


@pytest.fixture
def config(tiny: Tiny, tmp_path: Path) -> Callable[[Any], CfgNode]:
    """``config(content)``: of a detector whose proposals, of both sets, are that pickle."""

    def make(content: Any) -> CfgNode:
        path = tmp_path / "proposals.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
        cfg = tiny("mask_rcnn", "MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals")
        cfg.MODEL.LOAD_PROPOSALS = True
        cfg.DATASETS.PROPOSAL_FILES_TRAIN = cfg.DATASETS.PROPOSAL_FILES_TEST = (str(path),)
        return cfg

    return make


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_code_in_them_is_not_run(config: Callable[[Any], CfgNode], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    cfg = config({"ids": [], "boxes": [Code(trace)]})
    uses = (
        lambda: check_config(cfg),
        lambda: check_config(cfg, train=False),
        lambda: draw_training_images(cfg, tmp_path / "drawn"),
        lambda: train(cfg),
    )
    for use in uses:
        with pytest.raises(ValueError, match="PROPOSAL_FILES_T.*proposals.pkl'.*could run code"):
            use()
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"no pickle"])
def test_damaged_files_are_named(config: Callable[[Any], CfgNode], content: bytes) -> None:
    with pytest.raises(ValueError, match="PROPOSAL_FILES_TRAIN: '.*proposals.pkl' is damaged"):
        check_config(config(content))


def test_missing_files_are_named(config: Callable[[Any], CfgNode]) -> None:
    cfg = config({})
    cfg.DATASETS.PROPOSAL_FILES_TEST = ("none.pkl",)
    with pytest.raises(FileNotFoundError, match="PROPOSAL_FILES_TEST: there is no file 'none.pkl'"):
        check_config(cfg)


def test_those_of_detectron2_are_taken(config: Callable[[Any], CfgNode]) -> None:
    records = [*DatasetCatalog.get("tiny_scenes_train"), *DatasetCatalog.get("tiny_scenes_val")]
    ids = [record["image_id"] for record in records]
    boxes = [np.float32([[4, 4, 40, 40], [8, 8, 30, 50]]) for _ in ids]
    scores = [np.float32([2.0, 1.0]) for _ in ids]
    cfg = config({"ids": ids, "boxes": boxes, "objectness_logits": scores, "bbox_mode": 0})
    cfg.SOLVER.MAX_ITER = 1
    results = train(cfg)
    assert results is not None and "bbox" in results
