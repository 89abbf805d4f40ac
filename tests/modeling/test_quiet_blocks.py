"""Blocks that behave as at test time in training: frozen ones, and those without noise."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shakedrop_det import ShakeDrop, shake, without_noise
from shakedrop_det.modeling import ShakenBlock

from ..paper_form import paper_form
from .networks import images, narrow_resnet


def blocks_of(module: nn.Module) -> list[ShakenBlock]:
    return [m for m in module.modules() if isinstance(m, ShakenBlock)]


@pytest.mark.parametrize("inverted", [False, True])
def test_a_frozen_block_behaves_as_at_test_time_while_others_train(inverted) -> None:
    network = narrow_resnet(50, freeze_at=3)
    shake(network, paper_form(inverted=inverted, survival_prob=0.1))
    frozen = {"res2", "res3"}
    for name in ("res2", "res3", "res4", "res5"):
        assert {b.frozen for b in blocks_of(getattr(network, name))} == {name in frozen}
    x = images()
    network.train()
    trained = [network(x) for _ in range(8)]
    network.eval()
    expected = network(x)
    for name in frozen:
        assert all(torch.equal(out[name], expected[name]) for out in trained)
    assert any(not torch.equal(out["res5"], expected["res5"]) for out in trained)


def test_freezing_after_shaking_counts_as_well() -> None:
    network = shake(narrow_resnet(18, norm="BN"), paper_form())
    network.freeze(2)
    assert [b.frozen for b in blocks_of(network.res2)] == [True, True]
    assert [b.frozen for b in blocks_of(network.res3)] == [False, False]
    assert "frozen" in repr(network.res2[0]) and "frozen" not in network.res3[0].extra_repr()


@pytest.mark.parametrize("after_shaking", [False, True])
@pytest.mark.parametrize("freeze_at", range(6))
def test_freeze_at_freezes_as_in_stock_detectron2(freeze_at, after_shaking) -> None:
    stock = narrow_resnet(18, norm="BN", freeze_at=freeze_at)
    spec = paper_form(alpha=(-1, 1), survival_prob=0.0, decay="constant")
    if after_shaking:
        shaken = shake(narrow_resnet(18, norm="BN"), spec)
        shaken.freeze(freeze_at)
    else:
        shaken = shake(copy.deepcopy(stock), spec)
    trainable = [n for n, p in stock.named_parameters() if p.requires_grad]
    assert [n for n, p in shaken.named_parameters() if p.requires_grad] == trainable
    shaken.train()
    first, second = shaken(images()), shaken(images())
    for stage, name in enumerate(("res2", "res3", "res4", "res5"), start=2):
        assert torch.equal(first[name], second[name]) == (stage <= freeze_at)


def test_without_noise_a_training_pass_is_that_of_test_time_but_for_batch_statistics() -> None:
    network = shake(narrow_resnet(50), paper_form(survival_prob=0.0)).train()
    x = images()
    with without_noise(network):
        quiet = network(x)["res5"]
    assert torch.equal(quiet, network.eval()(x)["res5"])
    assert not torch.equal(quiet, network.train()(x)["res5"])


def test_without_noise_layers_behave_as_at_test_time_too() -> None:
    layer = ShakeDrop(0.0, inverted=False)
    network = nn.Sequential(layer).train()
    x = torch.randn(2, 3, 4, 4)
    with without_noise(network):
        assert torch.equal(network(x), x * layer.test_scale)
    assert layer.noise
