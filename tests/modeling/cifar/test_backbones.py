"""Networks for CIFAR from the config: their parts under ShakeDrop as any other network's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl
from torch.nn import functional as F

from shakedrop_det import fold
from shakedrop_det.modeling import ShakenBlock
from tests.modeling.networks import assert_equal_runs, images, run
from tests.modeling.small_networks import (
    PYRAMID,
    RESNET,
    SMALL,
    TWO_BRANCHES,
    WIDE,
    network_config,
    small_network,
)
from tests.modeling.test_two_passes import wrap_blocks

SHAKE_SHAKE = {
    "BRANCHES": "shake_shake",
    "ALPHA": [0.0, 1.0],
    "SURVIVAL_PROB": 0.0,
    "DECAY": "constant",
}
TYPE_B = {"BRANCHES": "each", "ALPHA": [-1.0, 1.0], "SURVIVAL_PROB": 0.3}
CASES = [
    *[(kind, {"ALPHA": [-1.0, 1.0], "SURVIVAL_PROB": 0.3}) for kind in SMALL],
    *[(kind, form) for kind in SMALL if "branches" in kind for form in (TYPE_B, SHAKE_SHAKE)],
]

WIDTHS = [
    # Depth, block, alpha; then the width of the last feature map and parameters in millions, of
    # the tables in Han et al., CVPR 2017. Theirs are up to 5 % less, the more the smaller.
    (110, "basic", 48.0, 64, 1.7),
    (110, "basic", 84.0, 100, 3.8),
    (110, "basic", 270.0, 286, 28.3),
    (164, "bottleneck", 48.0, 256, 1.7),
    (164, "bottleneck", 270.0, 1144, 27.0),
    (200, "bottleneck", 240.0, 1024, 26.6),
    (236, "bottleneck", 220.0, 944, 26.8),
    (272, "bottleneck", 200.0, 864, 26.0),
]


def on_meta(builder: str, **resnets: Any) -> nn.Module:
    cfg = network_config(builder, STEM_OUT_CHANNELS=16, **resnets)
    with torch.device("meta"):
        return build_backbone(cfg, ShapeSpec(channels=3))


def blocks_of(network: nn.Module) -> list[ShakenBlock]:
    return [m for m in network.modules() if isinstance(m, ShakenBlock)]


def millions(network: nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


@pytest.mark.parametrize("depth, block, alpha, width, parameters", WIDTHS)
def test_a_pyramidnet_is_as_wide_and_as_large_as_published(
    depth, block, alpha, width, parameters
) -> None:
    network = on_meta(PYRAMID, DEPTH=depth, BLOCK=block, PYRAMID_ALPHA=alpha)
    assert network.output_shape()["res4"].channels == width
    assert millions(network) == pytest.approx(parameters, rel=0.05)


@pytest.mark.parametrize(
    "settings, parameters",
    [
        ({"DEPTH": 26, "RES2_OUT_CHANNELS": 32}, 2.9),
        ({"DEPTH": 26, "RES2_OUT_CHANNELS": 64}, 11.7),
        ({"DEPTH": 26, "RES2_OUT_CHANNELS": 96}, 26.2),
        (  # 29 2x4x64d
            {
                "DEPTH": 29,
                "BLOCK": "bottleneck",
                "RES2_OUT_CHANNELS": 256,
                "NUM_GROUPS": 4,
                "WIDTH_PER_GROUP": 64,
            },
            34.4,
        ),
    ],
)
def test_a_network_of_two_branches_is_as_large_as_published(settings, parameters) -> None:
    """Gastaldi 2017, tables 1 and 2."""
    network = on_meta(TWO_BRANCHES, **settings)
    classes = 10 if settings["DEPTH"] == 26 else 100
    linear = (network.output_shape()["res4"].channels + 1) * classes / 1e6
    assert millions(network) + linear == pytest.approx(parameters, abs=0.1)


@pytest.mark.parametrize(
    "depth, factor, parameters",
    [
        (40, 4, 8.9),
        (40, 8, 35.7),
        (28, 10, 36.5),
        (28, 12, 52.5),
        (22, 8, 17.2),
        (16, 8, 11.0),
    ],
)
def test_a_wide_resnet_is_as_large_as_published(depth, factor, parameters) -> None:
    """Zagoruyko and Komodakis, table 4, of which the norm at the end of each branch is no part."""
    network = on_meta(WIDE, DEPTH=depth, WIDEN_FACTOR=factor, LAST_BRANCH_NORM=False)
    assert network.output_shape()["res4"].channels == 64 * factor
    linear = (64 * factor + 1) * 10 / 1e6
    assert millions(network) + linear == pytest.approx(parameters, abs=0.05)
    with_norms = on_meta(WIDE, DEPTH=depth, WIDEN_FACTOR=factor)
    blocks = blocks_of(with_norms)
    assert len(blocks) == (depth - 4) // 2
    added = sum(2 * block.out_channels for block in blocks) / 1e6
    assert millions(with_norms) - millions(network) == pytest.approx(added)


@pytest.mark.parametrize("groups, parameters", [(8, 34.4), (16, 68.1)])
def test_a_resnext_is_as_large_as_published(groups, parameters) -> None:
    """Xie et al., CVPR 2017, table 7: 29 layers, 8x64d and 16x64d."""
    settings = {"DEPTH": 29, "BLOCK": "bottleneck", "RES2_OUT_CHANNELS": 256}
    cfg = network_config(
        RESNET, **settings, STEM_OUT_CHANNELS=64, NUM_GROUPS=groups, WIDTH_PER_GROUP=64
    )
    with torch.device("meta"):
        network = build_backbone(cfg, ShapeSpec(channels=3))
    assert network.output_shape()["res4"].channels == 1024
    assert {block.conv2.groups for block in blocks_of(network)} == {groups}
    assert millions(network) + 1025 * 10 / 1e6 == pytest.approx(parameters, abs=0.1)


@pytest.mark.parametrize("kind", SMALL)
def test_three_stages_begin_with_strides_1_2_and_2(kind) -> None:
    network = small_network(kind)
    shapes = network.output_shape()
    assert [shapes[name].stride for name in ("res2", "res3", "res4")] == [1, 2, 4]
    for name, value in network(images()).items():
        assert value.shape == (2, shapes[name].channels, *[32 // shapes[name].stride] * 2)


@pytest.mark.parametrize("kind", SMALL)
def test_blocks_are_numbered_over_the_whole_network_even_if_it_is_cut_short(kind) -> None:
    cfg = network_config(**{**SMALL[kind], "OUT_FEATURES": ["res2"]})
    network = build_backbone(cfg, ShapeSpec(channels=3))
    probs = [block.survival_prob for block in blocks_of(network)]
    assert probs == pytest.approx([1 - 0.5 / 6, 1 - 1.0 / 6])


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("branches", ["sum", "each"])
def test_with_p_l_of_1_it_is_the_unshaken_network_bit_for_bit(kind, branches) -> None:
    stock = small_network(kind)
    shaken = small_network(kind, SURVIVAL_PROB=1.0, ALPHA=[-1.0, 1.0], BRANCHES=branches)
    assert blocks_of(shaken) and not blocks_of(stock)
    assert_equal_runs(run(shaken, images()), run(stock, images()))
    assert_equal_runs(shaken.eval()(images()), stock.eval()(images()))


@pytest.mark.parametrize("kind, form", CASES)
def test_folded_it_computes_the_same_with_the_same_keys(kind, form) -> None:
    network = small_network(kind, **form).eval()
    expected = network(images())
    folded = fold(copy.deepcopy(network))
    assert folded.state_dict().keys() == network.state_dict().keys()
    assert [type(m) for m in folded.modules()] == [type(m) for m in small_network(kind).modules()]
    for name, value in expected.items():
        assert (folded(images())[name] - value).abs().max() <= 1e-5 * value.abs().max()


@pytest.mark.parametrize("kind, form", CASES)
@pytest.mark.parametrize("implementation", list(CheckpointImpl))
def test_checkpointing_each_block_meets_the_same_scales_again(kind, form, implementation) -> None:
    plain = small_network(kind, **form).double()
    wrapped = wrap_blocks(copy.deepcopy(plain), implementation)
    expected, got = (run(network, images().double()) for network in (plain, wrapped))
    for (name, value), other in zip(expected.items(), got.values(), strict=True):
        if name.startswith("gradient"):  # up to the order in which they are added up
            torch.testing.assert_close(other, value, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("form", [TYPE_B, SHAKE_SHAKE, {"BRANCHES": "sum", "BETA": [0.0, 0.0]}])
def test_training_with_two_branches_is_one_graph_over_ten_draws(form) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    counter = CompileCounterWithBackend("aot_eager")
    network = nn.Sequential(small_network("two branches", **form)).train()
    compiled = torch.compile(network, fullgraph=True, backend=counter)
    outputs = {compiled(images())["res4"].sum().item() for _ in range(10)}
    assert counter.frame_count == 1 and len(outputs) > 1


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in SMALL if "original" not in kind])
def test_zero_init_lets_blocks_begin_as_the_identity(kind, enabled) -> None:
    cfg = network_config(**SMALL[kind], ZERO_INIT_RESIDUAL=True)
    cfg.MODEL.SHAKEDROP.ENABLED = enabled
    network = build_backbone(cfg, ShapeSpec(channels=3)).eval()
    block = network.res3[1]
    x = torch.rand(2, block.in_channels, 8, 8)
    expected = F.pad(x, (0, 0, 0, 0, 0, block.out_channels - block.in_channels))
    assert torch.equal(block(x), expected)


def test_zero_init_needs_a_norm_at_the_end_of_each_branch() -> None:
    cfg = network_config(**SMALL["original Wide ResNet"], ZERO_INIT_RESIDUAL=True)
    with pytest.raises(ValueError, match="res2.0 has NoneType.*LAST_BRANCH_NORM to True"):
        build_backbone(cfg, ShapeSpec(channels=3))


@pytest.mark.parametrize("kind, form", CASES)
def test_a_classifier_learns_ten_images_by_heart(kind, form) -> None:
    cfg = network_config(**{**SMALL[kind], "OUT_FEATURES": ["res4"]})
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "ImageClassifier", "cpu"
    cfg.MODEL.PIXEL_STD = [60.0] * 3
    cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES = 10
    cfg.MODEL.IMAGE_CLASSIFIER.IN_FEATURE = "res4"
    for key, value in {**form, "SURVIVAL_PROB": form["SURVIVAL_PROB"] and 0.9}.items():
        cfg.MODEL.SHAKEDROP[key] = value
    torch.manual_seed(0)
    model = build_model(cfg)
    pixels = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)
    batch = [{"image": image, "label": label} for label, image in enumerate(pixels)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(25):
        loss = model(batch)["loss_cls"]
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2 and min(losses) < 0.5


@pytest.mark.parametrize("kind", SMALL)
def test_frozen_stages_behave_as_at_test_time(kind) -> None:
    cfg = network_config(**SMALL[kind])
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    cfg.MODEL.SHAKEDROP.SURVIVAL_PROB = 0.0
    cfg.MODEL.SHAKEDROP.ALPHA = [-1.0, 1.0]
    network = build_backbone(cfg, ShapeSpec(channels=3)).train()
    first, second = network(images()), network(images())
    assert torch.equal(first["res2"], second["res2"])
    assert not torch.equal(first["res4"], second["res4"])


@pytest.mark.parametrize(
    "depth, block, message",
    [
        (51, "basic", "6 n \\+ 2 with MODEL.RESNETS.BLOCK 'basic', such as 14, 20, 110; got 51"),
        (110, "bottleneck ", "MODEL.RESNETS.BLOCK must be one of basic, bottleneck"),
        (21, "bottleneck", "9 n \\+ 2 .*; got 21"),
        (2, "basic", "got 2"),
    ],
)
def test_a_depth_without_a_network_is_refused(depth, block, message) -> None:
    cfg = network_config(RESNET, DEPTH=depth, BLOCK=block)
    with pytest.raises(ValueError, match=message):
        build_backbone(cfg, ShapeSpec(channels=3))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"DEPTH": 26}, "DEPTH must be 6 n \\+ 4 for a Wide ResNet, such as 16, 28, 40; got 26"),
        ({"DEPTH": 4}, "got 4"),
        ({"DEPTH": 28, "WIDEN_FACTOR": 0}, "WIDEN_FACTOR must be at least 1, got 0"),
    ],
)
def test_a_wide_resnet_that_there_is_not_is_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        build_backbone(network_config(WIDE, **settings), ShapeSpec(channels=3))


@pytest.mark.parametrize("kind", SMALL)
def test_nothing_is_said_of_parts_that_are_no_blocks(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    small_network(kind, SURVIVAL_PROB=0.5)
    assert "does not know these residual blocks" not in caplog.text


def test_a_key_of_no_effect_that_asks_for_none_is_fine() -> None:
    cfg = network_config(RESNET, DEPTH=20, DEFORM_ON_PER_STAGE=[False] * 3)
    assert build_backbone(cfg, ShapeSpec(channels=3)) is not None


@pytest.mark.parametrize(
    "builder, settings, message",
    [
        (RESNET, {"NUM_GROUPS": 8}, "NUM_GROUPS 8 would have no effect .*BLOCK 'basic'"),
        (TWO_BRANCHES, {"NUM_GROUPS": 8}, "NUM_GROUPS 8 would have no effect"),
        (PYRAMID, {"BLOCK": "bottleneck", "NUM_GROUPS": 2}, "NUM_GROUPS 2 would have no effect"),
        (WIDE, {"DEPTH": 16, "NUM_GROUPS": 2}, "NUM_GROUPS 2 would have no effect"),
        (RESNET, {"DEFORM_ON_PER_STAGE": [True] * 4}, "DEFORM_ON_PER_STAGE .* set it to .False"),
        (RESNET, {"RES5_DILATION": 2}, "RES5_DILATION 2 would have no effect .* set it to 1"),
    ],
)
def test_a_key_without_an_effect_is_refused(builder, settings, message) -> None:
    cfg = network_config(builder, **{"DEPTH": 20, **settings})
    with pytest.raises(ValueError, match=message):
        build_backbone(cfg, ShapeSpec(channels=3))
