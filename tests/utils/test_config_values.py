"""Values that nothing can be built or computed with are named with what is allowed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode

from shakedrop_det.engine import check_config, load_config
from shakedrop_det.utils.config_values import check_values, remedies

Tiny = Callable[..., CfgNode]
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    "key, value, allowed",
    [
        ("MODEL.PIXEL_STD", [1.0, 0.0, 1.0], "other than 0"),
        ("MODEL.FPN.OUT_CHANNELS", 0, "positive"),
        ("MODEL.RPN.BBOX_REG_LOSS_TYPE", "l1", "one of 'smooth_l1', 'giou', 'diou', 'ciou'"),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "l1", "one of 'smooth_l1', 'giou'"),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", (1.0,), "4 or 5 number"),
        ("SOLVER.WARMUP_ITERS", -1, "at least 0"),
        ("INPUT.MAX_SIZE_TRAIN", 0, "positive"),
        ("TEST.AUG.MIN_SIZES", (), "one or more positive"),
        ("TEST.EXPECTED_RESULTS", [["bbox", "AP"]], "lists of a task, a metric"),
    ],
)
def test_they_are_refused_before_anything_is_read(
    tiny: Tiny, key: str, value: Any, allowed: str
) -> None:
    cfg = tiny("mask_rcnn", "DATASETS.TRAIN", ("none",))
    *nodes, name = key.split(".")
    functools.reduce(getattr, nodes, cfg)[name] = value
    with pytest.raises(ValueError, match=f"^{key} must be {allowed}.*, got "):
        check_config(cfg)


@pytest.mark.parametrize(
    "kind, size, is_allowed",
    [
        ("relative_range", [0.9, 0.9], True),
        ("relative", [2, 2], False),
        ("relative", [0.5], False),
        ("absolute", [300, 300], True),
        ("absolute_range", [0.9, 0.9], False),
    ],
)
def test_crops_have_the_size_of_their_type(
    tiny: Tiny, kind: str, size: list[float], is_allowed: bool
) -> None:
    cfg = tiny("mask_rcnn")
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = kind, size
    check_values(cfg)
    cfg.INPUT.CROP.ENABLED = True
    if is_allowed:
        check_values(cfg)
        return
    with pytest.raises(ValueError, match=f"INPUT.CROP.SIZE must be .*'{kind}', got "):
        check_values(cfg)


@pytest.mark.parametrize(
    "key, value, text",
    [
        ("MODEL.RPN.IN_FEATURES", ["p9"], "MODEL.RPN.IN_FEATURES must be some of p2, p3"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16]], "must be one list, or as many as"),
        ("MODEL.ROI_BOX_HEAD.NUM_FC", 0, "NUM_FC or NUM_CONV must be positive"),
        ("MODEL.LOAD_PROPOSALS", True, "DATASETS.PROPOSAL_FILES_TRAIN must have a file for each"),
        ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "the least and the largest number of pixels"),
    ],
)
def test_keys_that_belong_together(tiny: Tiny, key: str, value: Any, text: str) -> None:
    (line,) = [line for line in remedies(tiny("mask_rcnn", key, value)) if text in line]
    assert ", got " in line


WHOLE = [
    path
    for path in sorted(CONFIGS.glob("*/*.yaml"))
    if path.parent.name not in ("overlays", "Experiments") and not path.name.startswith("Base")
]


def test_nothing_is_said_against_configs_that_work() -> None:
    assert len(WHOLE) > 50
    for path in WHOLE:
        cfg = load_config(str(path))
        check_values(cfg)
        assert remedies(cfg) == [], path
