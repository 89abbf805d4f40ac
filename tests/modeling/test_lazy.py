"""The builders of lazy configs."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

from shakedrop_det import ShakeDropSpec, model_zoo, shake
from shakedrop_det.modeling import ShakenBlock, resnext_stages, shaken_resnet, shaken_stage


def lazy_resnet(**kwargs):
    return L(shaken_resnet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm=""),
        stages=L(ResNet.make_default_stages)(depth=18, norm=""),
        spec=L(ShakeDropSpec)(alpha=[-1.0, 1.0], survival_prob=0.2, erase_relu=True),
        **kwargs,
    )


def probs(network: nn.Module) -> list[float]:
    return [m.survival_prob for m in network.modules() if isinstance(m, ShakenBlock)]


def test_settings_come_from_lists_of_a_lazy_config() -> None:
    network = instantiate(lazy_resnet(out_features=["res5"]))
    spec = ShakeDropSpec(alpha=(-1, 1), survival_prob=0.2, erase_relu=True)
    assert {m.spec for m in network.modules() if isinstance(m, ShakenBlock)} == {spec}
    assert probs(network) == pytest.approx([1 - i / 8 * 0.8 for i in range(1, 9)])


def test_a_network_that_is_cut_short_keeps_the_schedule_of_the_whole() -> None:
    network = instantiate(lazy_resnet(out_features=["res3"], freeze_at=3))
    assert probs(network) == pytest.approx([1 - i / 8 * 0.8 for i in range(1, 5)])
    assert all(not p.requires_grad for p in network.parameters())
    assert set(network.output_shape()) == {"res3"}


def test_a_last_stage_ends_the_schedule() -> None:
    stage = {"num_blocks": 3, "in_channels": 8, "out_channels": 16, "bottleneck_channels": 4}
    stage["norm"] = ""
    spec = ShakeDropSpec(survival_prob=0.2)
    res5 = shaken_stage(spec=spec, last_block=16, block_class=BottleneckBlock, **stage)
    assert probs(res5) == pytest.approx([1 - i / 16 * 0.8 for i in (14, 15, 16)])
    stock = nn.Sequential(*ResNet.make_stage(BottleneckBlock, **stage))
    assert list(res5.state_dict()) == list(stock.state_dict())
    assert res5(torch.zeros(2, 8, 4, 4)).shape == (2, 16, 4, 4)


@pytest.mark.parametrize("backbone", ["X_101_32x8d", "X_152_32x4d"])
def test_a_resnext_is_that_of_detectron2s_builder(backbone) -> None:
    cfg = model_zoo.get_config(f"overlays/{backbone}.yaml")
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    resnets = cfg.MODEL.RESNETS
    groups = {"num_groups": resnets.NUM_GROUPS, "width_per_group": resnets.WIDTH_PER_GROUP}
    with torch.device("meta"):
        stock = build_backbone(cfg, ShapeSpec(channels=3))
        stages = resnext_stages(
            depth=resnets.DEPTH, norm=resnets.NORM, stride_in_1x1=resnets.STRIDE_IN_1X1, **groups
        )
        network = ResNet(BasicStem(norm=resnets.NORM), stages, out_features=["res5"])
    assert repr(network) == repr(stock)


def test_a_resnext_of_another_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="depth must be one of 50, 101, 152, got 18"):
        resnext_stages(depth=18, num_groups=32, width_per_group=4)


@pytest.mark.parametrize("function", [shaken_resnet, shaken_stage, resnext_stages])
def test_arguments_have_names(function) -> None:
    with pytest.raises(TypeError, match="positional"):
        function(1)


def test_any_other_lazy_network_is_shaken_by_shake_itself() -> None:
    stage = L(ResNet.make_stage)(
        block_class=BottleneckBlock,
        num_blocks=2,
        in_channels=8,
        out_channels=8,
        bottleneck_channels=4,
        norm="",
    )
    wrapped = L(shake)(module=L(_sequential)(blocks=stage), spec=L(ShakeDropSpec)())
    assert probs(instantiate(wrapped)) == pytest.approx([0.95, 0.9])


def _sequential(blocks) -> nn.Module:
    return nn.Sequential(*blocks)
