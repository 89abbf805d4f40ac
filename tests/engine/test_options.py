"""Options are taken as people type them, or refused with what is expected."""

from __future__ import annotations

from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg

from shakedrop_det import add_training_config
from shakedrop_det.engine.options import merge_options, replace_none


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_training_config(cfg)
    return cfg


@pytest.mark.parametrize(
    "options, key, expected",
    [
        (["DATASETS.TRAIN", "birds"], "DATASETS.TRAIN", ("birds",)),
        (["DATASETS.TRAIN", "('birds',)"], "DATASETS.TRAIN", ("birds",)),
        (["DATASETS.TRAIN", "('birds')"], "DATASETS.TRAIN", ("birds",)),
        (["DATASETS.TRAIN", "[birds, bees]"], "DATASETS.TRAIN", ("birds", "bees")),
        (["DATASETS.TRAIN", "(birds,)"], "DATASETS.TRAIN", ("birds",)),
        (["DATASETS.TRAIN", "birds,bees"], "DATASETS.TRAIN", ("birds", "bees")),
        (["DATASETS.TRAIN", "2024_11"], "DATASETS.TRAIN", ("2024_11",)),
        (["DATASETS.TEST", "None"], "DATASETS.TEST", ()),
        (["DATASETS.TEST", "()"], "DATASETS.TEST", ()),
        (["SOLVER.STEPS", "30"], "SOLVER.STEPS", (30,)),
        (["SOLVER.STEPS", "30,40"], "SOLVER.STEPS", (30, 40)),
        (["SOLVER.STEPS", "[30, 40]"], "SOLVER.STEPS", (30, 40)),
        (["MODEL.SHAKEDROP.ALPHA", "-1,1"], "MODEL.SHAKEDROP.ALPHA", [-1, 1]),
        (["MODEL.SHAKEDROP.ENABLED", "false"], "MODEL.SHAKEDROP.ENABLED", False),
        (["MODEL.MASK_ON", "TRUE"], "MODEL.MASK_ON", True),
        (["MODEL.MASK_ON", "1"], "MODEL.MASK_ON", True),
        (["SOLVER.BASE_LR", "1"], "SOLVER.BASE_LR", 1.0),
        (["SOLVER.BASE_LR", "1e-3"], "SOLVER.BASE_LR", 1e-3),
        (["SOLVER.MAX_ITER", "9e4"], "SOLVER.MAX_ITER", 90000),
        (["SOLVER.MAX_ITER=7"], "SOLVER.MAX_ITER", 7),
        (["MODEL.WEIGHTS", "None"], "MODEL.WEIGHTS", ""),
        (["MODEL.WEIGHTS", "null"], "MODEL.WEIGHTS", ""),
        (["MODEL.WEIGHTS", ""], "MODEL.WEIGHTS", ""),
        (["INPUT.RANDOM_FLIP", "none"], "INPUT.RANDOM_FLIP", "none"),
        (["DATASETS.TEST", "none"], "DATASETS.TEST", ()),
        (["MODEL.WEIGHTS", "'a b.pth'"], "MODEL.WEIGHTS", "a b.pth"),
        (["MODEL.WEIGHTS", "a=b.pth"], "MODEL.WEIGHTS", "a=b.pth"),
        (["OUTPUT_DIR", "2024_11"], "OUTPUT_DIR", "2024_11"),
        (["SOLVER.WEIGHT_DECAY_BIAS", "0.1"], "SOLVER.WEIGHT_DECAY_BIAS", 0.1),
    ],
)
def test_an_option_takes_the_type_of_its_key(
    cfg: CfgNode, options: list[str], key: str, expected: Any
) -> None:
    merge_options(cfg, options)
    node: Any = cfg
    for name in key.split("."):
        node = node[name]
    assert node == expected
    assert type(node) is type(expected)


@pytest.mark.parametrize(
    "options, message",
    [
        (["SOLVER.MAX_ITERS", "3"], "no config key 'SOLVER.MAX_ITERS': did you mean SOLVER.MAX_I"),
        (["max_iter", "3"], "no config key 'max_iter': did you mean SOLVER.MAX_ITER"),
        (["solver.base_lr", "3"], "did you mean SOLVER.BASE_LR"),
        (["--SOLVER.BASE_LR", "3"], "did you mean SOLVER.BASE_LR"),
        (["SOLVER.MAX_ITER"], "'SOLVER.MAX_ITER' has no value"),
        (["SOLVER.MAX_ITER", "90k"], "SOLVER.MAX_ITER must be an integer, such as .*, got '90k'"),
        (["SOLVER.MAX_ITER", "0.5"], "SOLVER.MAX_ITER must be an integer"),
        (["SOLVER.MAX_ITER", "inf"], "SOLVER.MAX_ITER must be an integer"),
        (
            ["SOLVER.MAX_ITER", "None"],
            "SOLVER.MAX_ITER must be an integer, such as 40000, got None",
        ),
        (["SOLVER.BASE_LR", "fast"], "SOLVER.BASE_LR must be a number, such as .*, got 'fast'"),
        (["SOLVER.STEPS", "late"], "SOLVER.STEPS must be numbers, such as .*, got 'late'"),
        (["MODEL.MASK_ON", "maybe"], "MODEL.MASK_ON must be True or False, got 'maybe'"),
        (["MODEL.FPN", "x"], "MODEL.FPN cannot be set to 'x': it has keys of its own, e.g."),
        (["SEED.X", "1"], "no config key 'SEED.X'"),
    ],
)
def test_refused_with_what_is_expected(cfg: CfgNode, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        merge_options(cfg, options)


def test_nothing_in_a_file_is_an_empty_text_or_list(cfg: CfgNode) -> None:
    defaults = cfg.clone()
    cfg.MODEL.WEIGHTS = cfg.DATASETS.TEST = None
    replace_none(cfg, defaults)
    assert (cfg.MODEL.WEIGHTS, cfg.DATASETS.TEST) == ("", ())
    assert cfg.SOLVER.WEIGHT_DECAY_BIAS is None, "None is what detectron2 has there"
    cfg.SOLVER.MAX_ITER = None
    with pytest.raises(
        ValueError, match="SOLVER.MAX_ITER must be an integer, such as 40000, got None"
    ):
        replace_none(cfg, defaults)
