"""The CIFAR stem, with any of detectron2's depths."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch.nn import functional as F

from shakedrop_det import add_shakedrop_config
from shakedrop_det.modeling import ShakenBlock

BUILDER = "build_shakedrop_resnet_cifar_stem_backbone"


def config(builder: str = BUILDER, **resnets: object) -> CfgNode:
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    cfg.MODEL.BACKBONE.NAME = builder
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    settings = {"NORM": "BN", "OUT_FEATURES": ["res2", "res5"]}
    for key, value in {**settings, **resnets}.items():
        cfg.MODEL.RESNETS[key] = value
    return cfg


@pytest.mark.parametrize(
    "resnets",
    [
        {"DEPTH": 18, "RES2_OUT_CHANNELS": 64},
        {"DEPTH": 50},
        {"DEPTH": 101, "NUM_GROUPS": 32, "WIDTH_PER_GROUP": 8},
        {"DEPTH": 152, "NUM_GROUPS": 32, "WIDTH_PER_GROUP": 4},
    ],
)
def test_each_depth_takes_it_and_keeps_everything_else(resnets) -> None:
    with torch.device("meta"):
        usual, small = (
            build_backbone(config(builder, **resnets), ShapeSpec(channels=3))
            for builder in ("build_shakedrop_resnet_backbone", BUILDER)
        )
    assert [shape.stride for shape in usual.output_shape().values()] == [4, 32]
    assert [shape.stride for shape in small.output_shape().values()] == [1, 8]
    usual_state, small_state = usual.state_dict(), small.state_dict()
    assert usual_state.keys() == small_state.keys()
    changed = {key for key in usual_state if usual_state[key].shape != small_state[key].shape}
    assert changed == {"stem.conv1.weight"}
    probs = [
        [m.survival_prob for m in net.modules() if isinstance(m, ShakenBlock)]
        for net in (usual, small)
    ]
    assert probs[0] == probs[1] and probs[0][-1] == 0.9


def test_it_is_a_3x3_convolution_a_norm_and_a_relu_at_full_resolution() -> None:
    stem = build_backbone(config(DEPTH=50), ShapeSpec(channels=3)).stem.eval()
    x = torch.randn(2, 3, 9, 9)
    expected = F.conv2d(x, stem.conv1.weight, padding=1) / (1 + stem.conv1.norm.eps) ** 0.5
    torch.testing.assert_close(stem(x), expected.clamp(min=0))


def test_it_can_be_frozen() -> None:
    cfg = config(DEPTH=50)
    cfg.MODEL.BACKBONE.FREEZE_AT = 1
    network = build_backbone(cfg, ShapeSpec(channels=3))
    assert not any(p.requires_grad for p in network.stem.parameters())
    assert all(p.requires_grad for p in network.res2.parameters())
