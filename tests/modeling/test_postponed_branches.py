"""Branches that are dropped and run in the backward pass alone, against ones that always run."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl

from shakedrop_det import ShakeDropSpec, shake
from tests.saved_tensors import saved_storages

from .networks import randomize_norms, run, running_convolutions
from .test_two_passes import wrap_blocks

KINDS = [BasicBlock, BottleneckBlock]
LEVELS = ["batch", "image", "channel", "pixel"]


def stack(kind: type = BasicBlock) -> nn.Sequential:
    """A stock block with a convolution in its shortcut, and one without."""
    special = {"bottleneck_channels": 4} if kind is BottleneckBlock else {}
    torch.manual_seed(0)
    blocks = nn.Sequential(
        kind(4, 6, stride=2, norm="FrozenBN", **special), kind(6, 6, norm="FrozenBN", **special)
    )
    randomize_norms(blocks)
    return blocks.double()


def feature_map(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 4, 8, 8, dtype=torch.float64, generator=generator).to(dtype)


def dropped(stock: nn.Module, skip: str = "exact", **settings) -> nn.Module:
    """A copy all of whose branches are dropped in each step, and take gradients."""
    spec = ShakeDropSpec(survival_prob=0.0, decay="constant", skip=skip, **settings)
    return shake(copy.deepcopy(stock), spec).train()


def pair(stock: nn.Module, **settings) -> tuple[nn.Module, nn.Module]:
    """Two such copies: all branches run in the forward pass, and none."""
    running, postponed = (dropped(stock, skip, **settings) for skip in ("never", "exact"))
    shortcuts = [p for name, p in postponed.named_parameters() if "shortcut" in name]
    with running_convolutions() as weights:
        postponed(feature_map(next(stock.parameters()).dtype))
    assert {id(weight) for weight in weights} == {id(parameter) for parameter in shortcuts}
    return running, postponed


def assert_close_gradients(
    got: nn.Module, expected: nn.Module, *, rtol: float = 1e-9, atol: float = 1e-9
) -> None:
    """Also in which parameters have one; some of a branch has to be other than zero."""
    for (name, p), q in zip(got.named_parameters(), expected.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=rtol, atol=atol, msg=name)
    branches = [p.grad for name, p in got.named_parameters() if "shortcut" not in name]
    assert any(grad is not None and grad.any() for grad in branches)


@pytest.mark.parametrize("relu", [True, False], ids=["ReLU", "EraseReLU"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_branches_that_run(kind, level, relu) -> None:
    running, postponed = pair(stack(kind), level=level, erase_relu=not relu)
    expected, got = (run(network, feature_map()) for network in (running, postponed))
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-9, msg=name)
    assert_close_gradients(postponed, running)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_under_autocast_is_that_of_branches_that_run(kind, level) -> None:
    """The backward pass is outside of it, as everywhere."""
    stock = stack(kind).float()
    found = []
    for network in pair(stock, level=level):
        torch.manual_seed(3)
        x = feature_map(torch.bfloat16).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16), running_convolutions() as weights:
            out = network(x)
        assert (len(weights) == 1) == (len(found) == 1)
        out.float().square().mean().backward()
        found.append([out, x.grad, *(p.grad for p in network.parameters())])
    for ran, postponed in zip(*found, strict=True):
        assert postponed.dtype == ran.dtype and postponed.any()
        assert (postponed - ran).float().norm() <= 0.03 * ran.float().norm()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("implementation", list(CheckpointImpl))
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same_under_activation_checkpointing(kind, implementation, level) -> None:
    running, postponed = pair(stack(kind), level=level)
    postponed = wrap_blocks(postponed, implementation)
    for network in (running, postponed):
        torch.manual_seed(3)
        network(feature_map().requires_grad_()).square().sum().backward()
    assert_close_gradients(postponed, running)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_backward_passes_give_twice_the_gradient(kind, level) -> None:
    running, postponed = pair(stack(kind), level=level)
    for network in (running, postponed):
        torch.manual_seed(3)
        loss = network(feature_map()).square().sum()
        loss.backward(retain_graph=True)
        once = [p.grad.clone() for p in network.parameters()]
        loss.backward()
        for grad, parameter in zip(once, network.parameters(), strict=True):
            assert torch.equal(parameter.grad, 2 * grad)
    assert_close_gradients(postponed, running)


@pytest.mark.parametrize("frozen", ["0.conv1", "1.conv2", "0.conv", "shortcut", "none"])
@pytest.mark.parametrize("input_too", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_what_takes_no_gradient_gets_none(kind, input_too, frozen) -> None:
    stock = stack(kind)
    for name, parameter in stock.named_parameters():
        parameter.requires_grad_(frozen not in name)
    found = []
    for network in (networks := pair(stock)):
        torch.manual_seed(3)
        x = feature_map().requires_grad_(input_too)
        network(x).square().sum().backward()
        found.append(x.grad)
    assert_close_gradients(networks[1], networks[0])
    assert {g is None for g in found} == {not input_too}
    if input_too:
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_shortcut_alone_may_learn(kind) -> None:
    stock = stack(kind)[:1]
    for name, parameter in stock.named_parameters():
        parameter.requires_grad_("shortcut" in name)
    networks = pair(stock)
    for network in networks:
        network(feature_map()).square().sum().backward()
    torch.testing.assert_close(*(network[0].shortcut.weight.grad for network in networks))


def test_a_shared_parameter_counts_once() -> None:
    stock = stack()
    stock[1].conv2.weight = stock[1].conv1.weight
    running, postponed = pair(stock)
    for network in (running, postponed):
        torch.manual_seed(3)
        network(feature_map()).square().sum().backward()
    assert len(list(postponed.parameters())) == 4
    assert_close_gradients(postponed, running)


def bytes_kept(network: nn.Module, x: Tensor) -> tuple[int, Tensor]:
    """For the backward pass, parameters aside; and the output."""
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    with saved_storages() as storages:
        out = network(x)
    return sum(size for pointer, size in storages.items() if pointer not in parameters), out


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_the_branch_is_kept(kind, relu, level) -> None:
    stock, x = stack(kind)[1:], torch.randn(3, 6, 8, 8, dtype=torch.float64, requires_grad=True)
    kept, out = bytes_kept(dropped(stock, level=level, erase_relu=not relu), x)
    assert kept == x.nbytes + relu * out.nbytes
    assert kept < bytes_kept(stock, x)[0]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["conv1", "conv2"])
def test_a_hook_on_a_parameter_runs_once_on_its_gradient(name, when) -> None:
    running, postponed = pair(stack())
    seen: list[Tensor] = []

    def watch() -> None:
        getattr(postponed[1], name).weight.register_hook(lambda grad: seen.append(grad.clone()))

    if when == "before":
        watch()
    for network in (running, postponed):
        torch.manual_seed(3)
        loss = network(feature_map()).square().sum()
        if when == "after" and network is postponed:
            watch()
        loss.backward()
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], getattr(running[1], name).weight.grad)
    assert_close_gradients(postponed, running)


@pytest.mark.parametrize("name", ["0.conv1", "1.conv2"])
def test_a_parameter_changed_between_the_passes_is_an_error_as_in_stock(name) -> None:
    stock = stack()
    for network in (stock, dropped(stock)):
        loss = network(feature_map().requires_grad_()).sum()
        with torch.no_grad():
            network.get_submodule(name).weight.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def by_functional_call(network: nn.Module) -> dict[str, Tensor]:
    """Gradients of weights that the network holds in its forward pass and no longer."""
    weights = {n: (0.5 * p.detach()).requires_grad_() for n, p in network.named_parameters()}
    torch.func.functional_call(network, weights, feature_map()).square().sum().backward()
    return {name: weight.grad for name, weight in weights.items()}


def by_exchange(network: nn.Module) -> dict[str, Tensor]:
    """Gradients of parameters that others replace before the backward pass."""
    weights = dict(network.named_parameters())
    loss = network(feature_map()).square().sum()
    for name in weights:
        conv = network.get_submodule(name.removesuffix(".weight"))
        conv.weight = nn.Parameter(torch.zeros_like(conv.weight))
    loss.backward()
    assert all(p.grad is None for p in network.parameters())
    return {name: weight.grad for name, weight in weights.items()}


def by_copies(network: nn.Module) -> dict[str, Tensor]:
    """Gradients through weights that are no parameters, as in DataParallel's copies."""
    weights = dict(network.named_parameters())
    for name, weight in weights.items():
        conv = network.get_submodule(name.removesuffix(".weight"))
        del conv.weight
        conv.weight = weight * 1
    network(feature_map()).square().sum().backward()
    return {name: weight.grad for name, weight in weights.items()}


@pytest.mark.parametrize("gradients", [by_functional_call, by_exchange, by_copies])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_go_to_the_weights_of_the_forward_pass(
    kind, gradients: Callable[[nn.Module], dict[str, Tensor]]
) -> None:
    found = []
    for network in pair(stack(kind)):
        torch.manual_seed(3)
        found.append(gradients(network))
    for name, expected in found[0].items():
        assert expected.any()
        torch.testing.assert_close(found[1][name], expected)


@pytest.mark.parametrize("batch_norm", ["conv1", "conv2"])
def test_running_statistics_in_a_branch_move_as_in_stock(batch_norm) -> None:
    stock = stack()
    for block in stock:
        getattr(block, batch_norm).norm = nn.BatchNorm2d(6).double()
    shaken = dropped(stock[:1])
    with running_convolutions() as weights:
        shaken(feature_map())
    assert any(weight is shaken[0].conv1.weight for weight in weights)
    stock.train()(feature_map())
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        moved, expected = (
            getattr(getattr(network[0], batch_norm).norm, name) for network in (shaken, stock)
        )
        assert not torch.equal(expected, getattr(nn.BatchNorm2d(6), name).to(expected.dtype))
        torch.testing.assert_close(moved, expected)
