"""shake(): which blocks it finds, how it numbers them, and what it refuses."""

from __future__ import annotations

import functools
import logging

import pytest
import torch
import torchvision
from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import nn

from shakedrop_det import ShakeDropSpec, shake
from shakedrop_det.modeling import ShakenBlock, ShakenBottleneckBlock

from ..paper_form import paper_form
from .networks import images, narrow_resnet, run
from .recording import recorded_scales

SPEC = paper_form(survival_prob=0.2)


def probs(module: nn.Module) -> list[float]:
    return [m.survival_prob for m in module.modules() if isinstance(m, ShakenBlock)]


def bottleneck(channels: int = 8) -> BottleneckBlock:
    return BottleneckBlock(channels, channels, bottleneck_channels=4, norm="BN")


class Parallel(nn.Module):
    """Runs its blocks itself, from a list."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(bottleneck() for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_blocks_are_numbered_over_the_whole_module() -> None:
    network = shake(narrow_resnet(50), SPEC)
    assert probs(network) == pytest.approx([1 - i / 16 * 0.8 for i in range(1, 17)])


def test_a_network_that_was_cut_short_keeps_the_schedule_of_the_whole() -> None:
    network = shake(narrow_resnet(50, out_features=["res3"]), SPEC, 16)
    assert probs(network) == pytest.approx([1 - i / 16 * 0.8 for i in range(1, 8)])


def test_later_parts_of_a_network_continue_the_schedule() -> None:
    part = shake(nn.Sequential(bottleneck(), bottleneck()), SPEC, 16, first_block=14)
    assert probs(part) == pytest.approx([1 - 14 / 16 * 0.8, 1 - 15 / 16 * 0.8])


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(bottleneck(), nn.ReLU(), nn.Sequential(bottleneck(), bottleneck())),
        Parallel(),
        bottleneck(),
        nn.ModuleDict({"a": bottleneck()})["a"],
    ],
    ids=["nested Sequential", "ModuleList", "one block", "from a dict"],
)
def test_any_arrangement_of_blocks_trains_and_is_perturbed(module) -> None:
    module = shake(module, paper_form(alpha=(-1, 1), survival_prob=0.0, decay="constant"))
    x = torch.randn(2, 8, 6, 6)
    assert not torch.equal(module.train()(x), module(x))
    module(x).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    assert torch.equal(module.eval()(x), module(x))


def test_a_block_that_is_used_twice_counts_once() -> None:
    block = bottleneck()
    module = shake(nn.Sequential(block, block), SPEC)
    assert module[0] is module[1] and probs(module) == pytest.approx([0.2])


def test_modules_stay_the_same_objects() -> None:
    """So whoever holds one, an optimizer or a hook, goes on holding the one that runs."""
    network = narrow_resnet(50)
    modules, parameters = list(network.modules()), list(network.parameters())
    assert shake(network, SPEC) is network
    assert all(a is b for a, b in zip(network.modules(), modules, strict=True))
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))


def test_one_bare_block_is_shaken_itself() -> None:
    block = bottleneck()
    assert shake(block, SPEC) is block and type(block) is ShakenBottleneckBlock


def test_a_subclass_is_left_alone_with_a_warning(caplog) -> None:
    class Mine(BottleneckBlock):
        pass

    stack = nn.Sequential(bottleneck(), Mine(8, 8, bottleneck_channels=4))
    with caplog.at_level(logging.WARNING):
        shake(stack, SPEC)
    assert type(stack[1]) is Mine
    assert (
        "Mine (such as 1)" in caplog.text and "shakedrop_det.register_shaken_block" in caplog.text
    )


def test_a_block_of_another_kind_is_named_and_stems_are_not(caplog) -> None:
    """As TridentNet's, which is no subclass of a block that is known."""
    network = narrow_resnet(18)
    network.res3[1] = Trident(16, 16, 1)
    with caplog.at_level(logging.WARNING):
        shake(network, SPEC)
    assert "Trident (such as res3.1)" in caplog.text and "Stem" not in caplog.text
    assert len(probs(network)) == 7


class Trident(CNNBlockBase):
    pass


def test_nothing_to_shake_is_an_error() -> None:
    with pytest.raises(ValueError, match="Linear holds no residual block"):
        shake(nn.Linear(2, 2), SPEC)


def test_shaking_twice_is_an_error() -> None:
    network = shake(narrow_resnet(18), SPEC)
    with pytest.raises(ValueError, match="res2.0 already has ShakeDrop"):
        shake(network, SPEC)


@pytest.mark.parametrize("num_blocks, first_block", [(7, 1), (8, 2), (8, 0)])
def test_a_schedule_that_is_too_short_is_an_error(num_blocks, first_block) -> None:
    with pytest.raises(ValueError, match=f"num_blocks={num_blocks} and first_block={first_block}"):
        shake(narrow_resnet(18), SPEC, num_blocks, first_block=first_block)


def test_printing_shows_the_settings_and_the_probability_of_each_block() -> None:
    text = repr(shake(narrow_resnet(18), SPEC))
    for prob in ("0.9", "0.8", "0.7", "0.6", "0.5", "0.4", "0.3", "0.2"):
        assert f"survival_prob={prob}, test_scale={prob}" in text


def test_the_input_may_be_passed_by_name() -> None:
    network = shake(narrow_resnet(18), paper_form(alpha=(-1, 1))).train()
    torch.manual_seed(0)
    expected = network(images())["res5"]
    torch.manual_seed(0)
    assert torch.equal(network(x=images())["res5"], expected)


@pytest.mark.parametrize("survival_prob, equal", [(1.0, True), (0.5, False)])
def test_the_generator_is_left_alone_where_every_block_survives(survival_prob, equal) -> None:
    network = shake(narrow_resnet(18), paper_form(survival_prob=survival_prob)).train()
    before = torch.get_rng_state()
    network(images())
    assert torch.equal(torch.get_rng_state(), before) == equal


@pytest.mark.parametrize("level", ["batch", "image", "channel", "pixel"])
def test_a_network_that_was_moved_before_draws_where_it_is(level) -> None:
    with torch.device("meta"):
        network = narrow_resnet(18)
    shake(network, paper_form(survival_prob=0.2, gate_level="image", level=level)).train()
    out = network(images().to("meta"))["res5"]
    out.sum().backward()
    assert out.is_meta and all(p.grad.is_meta for p in network.parameters())


@pytest.mark.parametrize("gate_level", ["batch", "image"])
def test_a_network_takes_another_memory_format_as_stock_does(gate_level) -> None:
    spec = paper_form(alpha=(-1, 1), survival_prob=0.2, gate_level=gate_level)
    network = shake(narrow_resnet(18), spec).train().double()
    expected = run(network, images().double())
    got = run(network.to(memory_format=torch.channels_last), images().double())
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=name)


@pytest.mark.parametrize("part", ["res5", "res5.2"])
def test_a_part_trains_in_a_network_that_does_not(part: str) -> None:
    spec = paper_form(alpha=(-1, 1), survival_prob=0.0, erase_relu=True)
    network = shake(narrow_resnet(50, out_features=["res4", "res5"]), spec).eval()
    expected = network(images())
    network.get_submodule(part).train()
    torch.manual_seed(0)
    first, second = network(images()), network(images())
    assert torch.equal(first["res4"], expected["res4"])
    assert not torch.equal(first["res5"], second["res5"])


def test_a_network_of_another_library_is_told_apart() -> None:
    with pytest.raises(ValueError, match="resnet.ResNet holds no residual block .*drop_path"):
        shake(torchvision.models.resnet18(), SPEC)


@pytest.mark.parametrize("level", ["batch", "image", "channel", "pixel"])
def test_a_part_of_the_network_runs_by_itself(level) -> None:
    network = shake(narrow_resnet(18), paper_form(survival_prob=0.0, level=level)).train()
    x = torch.randn(5, 8, 8, 8)
    assert network.res3(x).shape == (5, 16, 4, 4)


def test_blocks_draw_independently() -> None:
    spec = paper_form(alpha=(-1, 1), survival_prob=0.0, decay="constant", level="batch")
    network = shake(narrow_resnet(50), spec).train()
    with recorded_scales() as scales:
        for _ in range(60):
            network.res4(torch.randn(1, 16, 4, 4))
    forward, backward = (torch.stack(values).view(60, 6).T for values in zip(*scales, strict=True))
    correlation = torch.cat([forward, backward]).corrcoef()
    assert (correlation.triu(1).abs() < 0.5).all()


def test_a_block_that_a_wrapper_gave_a_forward_of_its_own_is_refused_and_named() -> None:
    """The new class would not be asked."""
    network = narrow_resnet(18)
    block = network.res3[1]
    block.forward = functools.partial(type(block).forward, block)
    with pytest.raises(ValueError, match="res3.1 has a forward method of its own"):
        shake(network, ShakeDropSpec())
    assert not any(isinstance(module, ShakenBlock) for module in network.modules())


def test_blocks_that_are_frozen_or_released_later_are_so_from_the_next_train_on() -> None:
    block = shake(BasicBlock(4, 4, norm="BN"), ShakeDropSpec())
    assert block.requires_grad_(False).train().is_perturbed() is False
    assert block.requires_grad_(True).train().is_perturbed() is True
    frozen = BasicBlock(4, 4, norm="BN").requires_grad_(False)
    assert shake(frozen, ShakeDropSpec()).is_perturbed() is False
    assert frozen.requires_grad_(True).train().is_perturbed() is True
