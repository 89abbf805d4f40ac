"""Every meta-architecture of detectron2 takes the backbone: it trains, and evaluates.

With survival probability 1 each equals its stock model bit for bit, in losses, gradients, what it
learns in a step and what it detects.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from shakedrop_det.modeling import ShakenBlock

from .architectures import ARCHITECTURES, inputs

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
with_tta = pytest.mark.parametrize("name", [n for n, a in ARCHITECTURES.items() if a.tta])


def training_step(model: nn.Module, *, seed: int = 0) -> dict[str, Tensor]:
    """Losses and gradients of one step of SGD, which is applied."""
    model.train()
    torch.manual_seed(seed)
    with EventStorage():
        losses = model(inputs(targets=True))
    sum(losses.values()).backward()
    found = {name: loss.detach() for name, loss in losses.items()}
    parameters = dict(model.named_parameters())
    found.update((n, p.grad.clone()) for n, p in parameters.items() if p.grad is not None)
    torch.optim.SGD(parameters.values(), lr=1e-5).step()
    return found


@torch.no_grad()
def detections(model: Any) -> list[Any]:
    """Outputs of detectron2's formats, as nested lists, dicts and tensors."""
    torch.manual_seed(0)  # PointRend
    return [plain(output) for output in model(inputs(targets=False))]


def plain(output: Any) -> Any:
    if isinstance(output, Instances):
        assert len(output) > 0, "nothing detected is nothing compared"
        return {name: plain(value) for name, value in output.get_fields().items()}
    if isinstance(output, dict):
        return {name: plain(value) for name, value in output.items()}
    if isinstance(output, (list, tuple)):
        return [plain(value) for value in output]
    return output.tensor if isinstance(output, Boxes) else output


def assert_bit_equal(got: Any, expected: Any, name: str = "") -> None:
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for key in expected:
            assert_bit_equal(got[key], expected[key], f"{name}.{key}")
    elif isinstance(expected, list):
        assert len(got) == len(expected), name
        for index, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert_bit_equal(a, b, f"{name}[{index}]")
    elif isinstance(expected, Tensor):
        assert torch.isfinite(expected.double()).all(), name
        assert torch.equal(got, expected), name
    else:
        assert got == expected, name


def pair(name: str, **shakedrop: Any) -> tuple[nn.Module, nn.Module]:
    """The stock model, and ours with its weights."""
    stock, shaken = ARCHITECTURES[name].stock(), ARCHITECTURES[name].shaken(**shakedrop)
    shaken.load_state_dict(stock.state_dict(), strict=True)
    return stock, shaken


@every_architecture
def test_with_survival_probability_1_it_equals_stock_bit_for_bit(name) -> None:
    stock, shaken = pair(name, survival_prob=1.0)
    training_step(copy.deepcopy(stock))  # TorchScript's first pass over a focal loss rounds else
    assert any(isinstance(module, ShakenBlock) for module in shaken.modules())
    assert_bit_equal(training_step(shaken), training_step(stock))
    assert_bit_equal(shaken.state_dict(), stock.state_dict())
    stock.eval()
    shaken.eval()
    assert_bit_equal(detections(shaken), detections(stock))


@every_architecture
def test_a_step_under_noise_reaches_all_that_is_trained_and_then_it_evaluates(name) -> None:
    stock, shaken = pair(name, survival_prob=0.2)
    before = copy.deepcopy(shaken.state_dict())
    found = training_step(shaken)
    assert all(torch.isfinite(value).all() for value in found.values())
    expected = training_step(stock)
    assert found.keys() == expected.keys()
    assert any(not torch.equal(found[key], expected[key]) for key in found if "loss" in key)
    trained = {n for n, p in shaken.named_parameters() if p.requires_grad}
    assert trained <= found.keys()
    assert any(not torch.equal(before[n], shaken.state_dict()[n]) for n in trained)
    assert len(detections(shaken.eval())) == 2


@every_architecture
def test_inverted_it_detects_what_stock_does_with_the_same_weights(name) -> None:
    stock, shaken = pair(name, survival_prob=0.2, inverted=True)
    assert_bit_equal(detections(shaken.eval()), detections(stock.eval()))


@with_tta
def test_test_time_augmentation_equals_stock_with_survival_probability_1(name) -> None:
    stock, shaken = pair(name, survival_prob=1.0)
    cfg = ARCHITECTURES[name].cfg(stock=True)
    augmented = [GeneralizedRCNNWithTTA(cfg, model.eval()) for model in (shaken, stock)]
    got, expected = map(detections, augmented)
    assert_bit_equal(got, expected)
    plain_boxes = detections(stock)[0]["instances"]["pred_boxes"]
    assert not torch.equal(expected[0]["instances"]["pred_boxes"], plain_boxes)


@with_tta
def test_test_time_augmentation_of_a_network_under_noise_is_repeatable(name) -> None:
    _, shaken = pair(name, survival_prob=0.2)
    augmented = GeneralizedRCNNWithTTA(ARCHITECTURES[name].cfg(stock=True), shaken.eval())
    assert_bit_equal(detections(augmented), detections(augmented))
