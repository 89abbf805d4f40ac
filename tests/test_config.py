"""The config keys: their defaults and their errors."""

from __future__ import annotations

import dataclasses
import re

import pytest
from detectron2.config import CfgNode, get_cfg

from shakedrop_det import ShakeDropSpec, add_shakedrop_config, add_training_config
from shakedrop_det.config import spec_from_config


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    return cfg


def test_the_keys_and_their_defaults_are_those_of_the_spec(cfg) -> None:
    keys = {k.lower(): v for k, v in cfg.MODEL.SHAKEDROP.items() if k != "ENABLED"}
    assert set(keys) == {field.name for field in dataclasses.fields(ShakeDropSpec)}
    assert spec_from_config(cfg) == ShakeDropSpec()


@pytest.mark.parametrize(
    "key, value, allowed",
    [
        ("ALPHA", [1.0, 0.0], "two finite numbers"),
        ("ALPHA", [0.0], "two finite numbers"),
        ("BETA", [0.0, float("nan")], "two finite numbers"),
        ("SURVIVAL_PROB", 1.5, r"a probability in \[0, 1\]"),
        ("DECAY", "cosine", "linear, constant"),
        ("LEVEL", "row", "batch, image, channel, pixel"),
        ("GATE_LEVEL", "pixel", "batch, image"),
        ("ERASE_RELU", 1, "True or False"),
        ("INVERTED", "no", "True or False"),
        ("SKIP", "sometimes", "exact, always"),
        ("ENABLED", "yes", "True or False"),
    ],
)
def test_a_bad_value_is_refused_with_key_value_and_what_is_allowed(
    cfg, key, value, allowed
) -> None:
    cfg.MODEL.SHAKEDROP[key] = value
    pattern = rf"^MODEL.SHAKEDROP.{key} .*{allowed}.*got {re.escape(repr(value))}"
    with pytest.raises(ValueError, match=pattern):
        spec_from_config(cfg)


def test_a_config_without_the_keys_says_how_to_add_them() -> None:
    with pytest.raises(ValueError, match=r"add_shakedrop_config\(cfg\) right after"):
        spec_from_config(get_cfg())


@pytest.mark.parametrize("add", [add_shakedrop_config, add_training_config])
def test_what_another_extension_has_set_stays(add) -> None:
    """As SparseInst sets ``SOLVER.OPTIMIZER``."""
    cfg = get_cfg()
    cfg.SOLVER.OPTIMIZER = "ADAMW"
    cfg.MODEL.SHAKEDROP = CfgNode({"SURVIVAL_PROB": 0.8})
    add(cfg)
    assert cfg.SOLVER.OPTIMIZER == "ADAMW"
    assert cfg.MODEL.SHAKEDROP.SURVIVAL_PROB == 0.8
    assert cfg.MODEL.SHAKEDROP.ALPHA == [0.0, 0.0]


def test_swapping_a_backbone_adds_nothing_outside_of_the_model() -> None:
    cfg, stock = get_cfg(), get_cfg()
    add_shakedrop_config(cfg)
    assert {key for key in cfg if cfg[key] != stock[key]} == {"MODEL"}
    assert set(cfg.MODEL) - set(stock.MODEL) == {"SHAKEDROP"}


def test_configs_that_are_made_one_after_the_other_share_no_list() -> None:
    first, second = get_cfg(), get_cfg()
    for cfg in (first, second):
        add_training_config(cfg)
    first.MODEL.SHAKEDROP.ALPHA.append(1.0)
    assert second.MODEL.SHAKEDROP.ALPHA == [0.0, 0.0]
