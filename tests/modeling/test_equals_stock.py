"""With survival probability 1 the network is detectron2's, bit for bit; keys always are."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone import ResNet, resnet
from torch import nn

from shakedrop_det import add_shakedrop_config, shake
from shakedrop_det.modeling import SHAKEN_BLOCKS, ShakenBlock, ShakenDeformBottleneckBlock

from ..paper_form import paper_form
from .networks import DEPTHS, assert_equal_runs, group_norm, images, narrow_resnet, run

BUILDERS = {
    "build_resnet_backbone": "build_shakedrop_resnet_backbone",
    "build_resnet_fpn_backbone": "build_shakedrop_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone": "build_shakedrop_retinanet_resnet_fpn_backbone",
}


def both(network: nn.Module, **settings) -> tuple[nn.Module, nn.Module]:
    """A stock network, and a copy of it under ShakeDrop."""
    return network, shake(copy.deepcopy(network), paper_form(**settings))


@pytest.mark.parametrize(
    "norm", ["FrozenBN", "BN", group_norm, ""], ids=["Frozen", "BN", "GN", "no"]
)
@pytest.mark.parametrize("depth", [18, 50])
def test_outputs_and_gradients_equal_stock_for_each_norm(depth, norm) -> None:
    stock, shaken = both(narrow_resnet(depth, norm=norm), survival_prob=1.0)
    for mode in (True, False):
        stock.train(mode)
        shaken.train(mode)
        assert_equal_runs(run(shaken, images()), run(stock, images()))


@pytest.mark.parametrize("depth", [34, 101, 152])
def test_outputs_and_gradients_equal_stock_for_each_depth(depth) -> None:
    stock, shaken = both(narrow_resnet(depth, norm="BN"), survival_prob=1.0)
    assert_equal_runs(run(shaken, images()), run(stock, images()))


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
@pytest.mark.parametrize("depth", [18, 50])
def test_the_inverted_form_equals_stock_at_test_time_and_where_it_is_frozen(depth, norm) -> None:
    stock, shaken = both(narrow_resnet(depth, norm=norm), survival_prob=0.5, inverted=True)
    assert_equal_runs(run(shaken.eval(), images()), run(stock.eval(), images()))
    for network in (stock, shaken):
        network.freeze(5).train()
    x = images().requires_grad_()
    for name, value in stock(x).items():
        assert torch.equal(shaken(x)[name], value)


class _FakeDeformConv(nn.Conv2d):
    """Stands for detectron2's compiled operator, and depends on all that it is given."""

    def __init__(self, *args, deformable_groups=1, norm=None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.norm = norm

    def forward(self, x, offset, mask=None):
        out = self.norm(super().forward(x) + offset.mean())
        return out if mask is None else out * mask.mean()


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_blocks_equal_stock(modulated, monkeypatch) -> None:
    for name in ("DeformConv", "ModulatedDeformConv"):
        monkeypatch.setattr(resnet, name, _FakeDeformConv)
    block = resnet.DeformBottleneckBlock(
        8, 8, bottleneck_channels=4, norm="BN", deform_modulated=modulated
    )
    nn.init.normal_(block.conv2_offset.weight)
    stock, shaken = both(nn.Sequential(block), survival_prob=1.0)
    assert type(shaken[0]) is ShakenDeformBottleneckBlock
    x = torch.randn(2, 8, 6, 6)
    assert_equal_runs(run(shaken, x), run(stock, x))


def backbone_cfg(name: str, **resnets) -> CfgNode:
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    for key, value in resnets.items():
        cfg.MODEL.RESNETS[key] = value
    return cfg


@pytest.mark.parametrize(
    "resnets",
    [
        {"DEPTH": 50},
        {"DEPTH": 101, "NORM": "BN"},
        {"DEPTH": 50, "NUM_GROUPS": 4, "WIDTH_PER_GROUP": 2},
        {"DEPTH": 50, "RES5_DILATION": 2},
        {"DEPTH": 18, "RES2_OUT_CHANNELS": 64},
        {"DEPTH": 50, "DEFORM_ON_PER_STAGE": [False, True, True, True]},
        {"DEPTH": 50, "DEFORM_ON_PER_STAGE": [False, False, False, True], "DEFORM_MODULATED": True},
    ],
    ids=["R50", "R101", "ResNeXt", "dilated", "R18", "deformable", "modulated"],
)
@pytest.mark.parametrize("stock_name", BUILDERS)
def test_state_dict_keys_of_each_builder_are_those_of_stock_detectron2(
    stock_name, resnets, monkeypatch
) -> None:
    if "RES5_DILATION" in resnets and "fpn" in stock_name:
        pytest.skip("detectron2's FPN takes no dilated res5")
    if "DEFORM_ON_PER_STAGE" in resnets:
        for name in ("DeformConv", "ModulatedDeformConv"):
            monkeypatch.setattr(resnet, name, _FakeDeformConv)
    shape = ShapeSpec(channels=3)
    stock = build_backbone(backbone_cfg(stock_name, **resnets), shape)
    shaken = build_backbone(backbone_cfg(BUILDERS[stock_name], **resnets), shape)
    assert list(shaken.state_dict()) == list(stock.state_dict())
    assert [n for n, _ in shaken.named_parameters()] == [n for n, _ in stock.named_parameters()]
    shaken.load_state_dict(stock.state_dict(), strict=True)
    kinds = {type(m) for m in shaken.modules()}
    assert not kinds & set(SHAKEN_BLOCKS), "no stock residual block is left"


@pytest.mark.parametrize("stock_name", BUILDERS)
def test_with_the_defaults_swapping_the_builder_changes_training_alone(stock_name) -> None:
    """So stock weights, and whatever was trained on top of them, go on working."""
    shape = ShapeSpec(channels=3)
    stock = build_backbone(backbone_cfg(stock_name, NORM="BN"), shape)
    shaken = build_backbone(backbone_cfg(BUILDERS[stock_name], NORM="BN"), shape)
    shaken.load_state_dict(stock.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = stock.eval()(images), shaken.eval()(images)
        trained, noisy = stock.train()(images), shaken.train()(images)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(*(list(features.values())[-1] for features in (noisy, trained)))


def test_disabled_means_the_stock_types() -> None:
    cfg = backbone_cfg("build_shakedrop_resnet_backbone")
    cfg.MODEL.SHAKEDROP.ENABLED = False
    network = build_backbone(cfg, ShapeSpec(channels=3))
    stock = build_backbone(backbone_cfg("build_resnet_backbone"), ShapeSpec(channels=3))
    assert [type(m) for m in network.modules()] == [type(m) for m in stock.modules()]


def test_parameters_are_shared_with_the_network_that_was_shaken() -> None:
    network = narrow_resnet(18)
    before = dict(network.named_parameters())
    assert shake(network, paper_form()) is network
    assert all(p is before[name] for name, p in network.named_parameters())


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_default_stages_of_detectron2_can_be_shaken(depth) -> None:
    stages = ResNet.make_default_stages(depth, norm="")
    network = nn.Sequential(*[nn.Sequential(*blocks) for blocks in stages])
    count = sum(DEPTHS[depth][1])
    shake(network, paper_form())
    probs = [m.survival_prob for m in network.modules() if hasattr(m, "survival_prob")]
    assert probs == pytest.approx([1 - 0.5 * i / count for i in range(1, count + 1)])


@pytest.mark.parametrize("out_features", [["res5"], ["res3"], ["res2", "res4"]])
@pytest.mark.parametrize("depth", DEPTHS)
def test_builders_count_all_blocks_of_a_depth_also_where_the_network_is_cut_short(
    depth, out_features
) -> None:
    cfg = backbone_cfg(
        "build_shakedrop_resnet_backbone",
        DEPTH=depth,
        OUT_FEATURES=out_features,
        RES2_OUT_CHANNELS=64 if depth < 50 else 8,
    )
    cfg.MODEL.ROI_HEADS.NAME = "ShakeDropRes5ROIHeads"
    network = build_backbone(cfg, ShapeSpec(channels=3))
    probs = [m.survival_prob for m in network.modules() if hasattr(m, "survival_prob")]
    count = sum(DEPTHS[depth][1])
    built = sum(DEPTHS[depth][1][: int(out_features[-1][-1]) - 1])
    assert probs[:built] == pytest.approx([1 - 0.1 * i / count for i in range(1, built + 1)])
    assert len([m for m in network.modules() if isinstance(m, ShakenBlock)]) == built
