"""Shaken blocks in training and at test time, against the equations."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import Tensor, nn

from shakedrop_det import shake, without_noise
from shakedrop_det.modeling import ShakenBlock
from shakedrop_det.modeling.residual_branch import before_norm

from ..paper_form import paper_form
from .networks import (
    group_norm,
    images,
    narrow_resnet,
    randomize_norms,
    run,
    running_convolutions,
)
from .recording import recorded_scales

NORMS = {"FrozenBN": "FrozenBN", "BN": "BN", "GN": group_norm, "none": ""}
SETTINGS = {
    "final ReLU": {},
    "EraseReLU": {"alpha": (-1, 1), "erase_relu": True},
    "RandomDrop": {"beta": (0, 0)},
    "Single-branch Shake": {"survival_prob": 0.0, "decay": "constant", "alpha": (0, 1)},
    "inverted": {"inverted": True},
    "per batch": {"level": "batch", "alpha": (-1, 1)},
    "per channel": {"level": "channel", "alpha": (-1, 1)},
    "gate per image": {"gate_level": "image"},
    "per pixel": {"level": "pixel", "alpha": (-1, 1)},
    "per pixel, final ReLU": {"level": "pixel"},
    "per pixel, gate per image": {"level": "pixel", "gate_level": "image", "inverted": True},
}


def three_blocks(block: type = BottleneckBlock, norm="BN") -> nn.Sequential:
    special = {"bottleneck_channels": 4} if block is BottleneckBlock else {}
    first = block(8, 16, stride=2, norm=norm, **special)
    stack = nn.Sequential(first, *(block(16, 16, norm=norm, **special) for _ in range(2)))
    randomize_norms(stack)
    return stack.double()


def equations(
    stack: nn.Sequential, x: Tensor, scales: list[tuple[Tensor, Tensor]], *, relu: bool
) -> Tensor:
    """The network written from the equations, with stock detectron2 modules for the branches."""
    for block, (s, t) in zip(stack, scales, strict=True):
        convs = [block.conv1, block.conv2] + ([block.conv3] if hasattr(block, "conv3") else [])
        f = x
        for conv in convs[:-1]:
            f = conv(f).relu()
        f = convs[-1](f)
        f = s * f + (t - s) * (f - f.detach())
        x = (x if block.shortcut is None else block.shortcut(x)) + f
        x = x.relu() if relu else x
    return x


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("skip", ["exact", "always"])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("block", [BasicBlock, BottleneckBlock])
def test_a_training_step_follows_the_equations(block, norm, setting, skip, seed) -> None:
    """With the scales that the blocks happened to draw."""
    spec = paper_form(**SETTINGS[setting], skip=skip)
    stock = three_blocks(block, NORMS[norm])
    shaken = shake(copy.deepcopy(stock), spec)
    x = torch.randn(4, 8, 8, 8, dtype=torch.float64)
    with recorded_scales() as scales:
        got = run(shaken, x, seed=seed)
    reference = nn.Module()
    reference.stack = stock
    reference.forward = lambda x: equations(stock, x, scales, relu=not spec.erase_relu)
    expected = {name.replace("stack.", ""): value for name, value in run(reference, x).items()}
    if skip == "always":  # then the statistics of dropped branches stay behind
        got, expected = ({n: v for n, v in r.items() if "norm" not in n} for r in (got, expected))
    assert got.keys() == expected.keys()
    for name, value in got.items():
        other = torch.zeros_like(value) if expected[name] is None else expected[name]
        torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-6, msg=name)


def images_of(block: ShakenBlock) -> Tensor:
    return torch.zeros(1, block.in_channels, 4, 4, dtype=torch.float64)


@pytest.mark.parametrize("setting", SETTINGS)
def test_fused_junctions_change_nothing_but_rounding(setting) -> None:
    spec = paper_form(**SETTINGS[setting])
    shaken = shake(three_blocks(norm="FrozenBN"), spec)
    x = torch.randn(4, 8, 8, 8, dtype=torch.float64)
    got = run(shaken, x)
    assert all(before_norm(block, images_of(block))[1] is block.conv3.norm for block in shaken)
    for block in shaken:
        block.conv3.norm.register_forward_hook(lambda *args: None)
    assert not any(before_norm(block, images_of(block))[1] for block in shaken)
    expected = run(shaken, x)
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name], msg=name)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("erase_relu", [False, True])
def test_at_test_time_each_residual_has_its_expected_scale(erase_relu, inverted) -> None:
    spec = paper_form(alpha=(-0.5, 1), survival_prob=0.4, erase_relu=erase_relu, inverted=inverted)
    stock = three_blocks().eval()
    shaken = shake(copy.deepcopy(stock), spec).eval()
    expectations = [p + (1 - p) * 0.25 for p in (0.8, 0.6, 0.4)]
    scales = [(torch.tensor(1.0 if inverted else e).double(),) * 2 for e in expectations]
    x = torch.randn(2, 8, 8, 8, dtype=torch.float64)
    expected = equations(stock, x, scales, relu=not erase_relu)
    torch.testing.assert_close(shaken(x), expected)
    assert torch.equal(shaken(x), shaken(x)), "nothing is random"


@pytest.mark.parametrize("level", ["batch", "image", "channel", "pixel"])
@pytest.mark.parametrize("norm", NORMS)
def test_scales_of_one_on_the_noisy_path_give_the_stock_network(norm, level) -> None:
    ones = {"alpha": (1, 1), "beta": (1, 1), "survival_prob": 0.0, "decay": "constant"}
    stock = three_blocks(norm=NORMS[norm])
    shaken = shake(copy.deepcopy(stock), paper_form(**ones, level=level))
    x = torch.randn(2, 8, 8, 8, dtype=torch.float64)
    expected = run(stock, x)
    for name, value in run(shaken, x).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-9, msg=name)


def test_hooks_on_blocks_and_convolutions_still_fire() -> None:
    network = narrow_resnet(18)
    seen: list[str] = []
    network.res2[0].register_forward_hook(lambda *_: seen.append("block"))
    shake(network, paper_form(survival_prob=0.0))
    network.res3[0].conv2.register_forward_hook(lambda *_: seen.append("conv"))
    network.res4[0].conv2.norm.register_forward_hook(lambda *_: seen.append("norm"))
    network.train()(images())
    assert sorted(seen) == ["block", "conv", "norm"]


def test_handles_that_were_given_out_before_still_remove_their_hook() -> None:
    network = narrow_resnet(18)
    seen: list[str] = []
    handle = network.res2[0].register_forward_hook(lambda *_: seen.append("block"))
    shake(network, paper_form()).train()
    network(images())
    handle.remove()
    network(images())
    assert seen == ["block"]


@pytest.mark.parametrize("level", ["batch", "image", "pixel"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_penalty_on_gradients_has_the_gradient_that_it_has_in_stock(norm, level) -> None:
    """One block: the gradient that reaches it then carries no graph that could warn of one lost."""
    ones = {"alpha": (1, 1), "beta": (1, 1), "survival_prob": 0.0, "decay": "constant"}
    stock = three_blocks(norm=NORMS[norm])[1:2]
    shaken = shake(copy.deepcopy(stock), paper_form(**ones, level=level))
    found = []
    for network in (stock, shaken):
        x = torch.randn(
            2, 16, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        x.requires_grad_()
        weights = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
        loss = (network.train()(x) * weights).sum()
        torch.autograd.grad(loss, x, create_graph=True)[0].square().sum().backward()
        found.append([x.grad, *(p.grad for p in network.parameters() if p.grad is not None)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_functional_calls_and_gradients_of_each_sample_work() -> None:
    spec = paper_form(alpha=(0.5, 0.5), beta=(0.75, 0.75), survival_prob=0.2)
    stack = shake(three_blocks(norm="FrozenBN"), spec).train()
    parameters = {name: p.detach() for name, p in stack.named_parameters()}
    x = torch.randn(3, 8, 8, 8, dtype=torch.float64)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(stack, parameters, (x,)).square().sum()

    torch.manual_seed(0)
    got = torch.func.grad(loss)(parameters, x)
    torch.manual_seed(0)
    stack(x).square().sum().backward()
    for name, parameter in stack.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad)

    def loss_of_one(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return loss(parameters, x[None])

    with without_noise(stack):
        of_each = torch.func.vmap(torch.func.grad(loss_of_one), (None, 0), randomness="different")(
            parameters, x
        )
        for i in range(3):
            for name, gradient in torch.func.grad(loss_of_one)(parameters, x[i]).items():
                torch.testing.assert_close(of_each[name][i], gradient)


def test_skipping_random_drop_leaves_running_statistics_alone_only_if_asked_to() -> None:
    def moved(skip: str) -> bool:
        spec = paper_form(beta=(0, 0), survival_prob=0.0, decay="constant", skip=skip)
        stack = shake(three_blocks(), spec)
        before = stack[1].conv1.norm.running_mean.clone()
        stack.train()(torch.randn(2, 8, 8, 8, dtype=torch.float64))
        return not torch.equal(stack[1].conv1.norm.running_mean, before)

    assert moved("exact") and not moved("always")


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("norm", NORMS)
def test_under_autocast_the_output_is_half_precision(norm, setting) -> None:
    network = narrow_resnet(18, norm=NORMS[norm])
    shaken = shake(copy.deepcopy(network), paper_form(**SETTINGS[setting]))
    with torch.autocast("cpu", torch.bfloat16):
        expected, got = network(images()), shaken(images())
    assert {n: o.dtype for n, o in got.items()} == {n: o.dtype for n, o in expected.items()}
    assert got["res5"].dtype == torch.bfloat16


@pytest.mark.parametrize("beta", [(0, 0), (0, 1)])
def test_a_branch_is_left_out_of_a_step_where_both_scales_are_zero(beta) -> None:
    spec = paper_form(beta=beta, survival_prob=0.0, decay="constant")
    stack = shake(three_blocks(norm="FrozenBN"), spec).train()
    x = torch.randn(2, 8, 8, 8, dtype=torch.float64)
    with running_convolutions() as weights:
        stack(x)
    ran = {id(weight) for weight in weights}
    assert (id(stack[1].conv1.weight) in ran) == (beta == (0, 1))
    assert id(stack[0].shortcut.weight) in ran


@pytest.mark.parametrize("beta", [(0, 0), (0, 1)])
def test_weights_of_data_parallel_copies_get_the_gradients_of_the_parameters(beta) -> None:
    """They are attributes of a copied module, and no parameters."""
    stack = shake(three_blocks(norm="FrozenBN"), paper_form(beta=beta, survival_prob=0.0))
    x = torch.randn(2, 8, 8, 8, dtype=torch.float64)
    expected = run(stack.train(), x)
    weights = dict(stack.named_parameters())
    for name, weight in weights.items():
        conv = stack.get_submodule(name.removesuffix(".weight"))
        del conv.weight
        conv.weight = weight * 1
    run(stack, x)
    for name, weight in weights.items():
        torch.testing.assert_close(weight.grad, expected[f"gradient of {name}"])


def test_threads_draw_apart_and_disturb_each_other_in_nothing_else() -> None:
    """As DataParallel runs its copies."""
    spec = paper_form(alpha=(1, 1), beta=(1, 1), survival_prob=0.5)
    stack = shake(three_blocks(norm="FrozenBN"), spec).train()
    x = torch.randn(2, 8, 8, 8, dtype=torch.float64)
    expected = stack(x)
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda _: stack(x), range(40)))
    for out in outputs:
        torch.testing.assert_close(out, expected)


class Doubled(nn.Module):
    """A norm that is none of torch's or detectron2's."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("norm", [Doubled, lambda c: nn.InstanceNorm2d(c, affine=True)])
def test_a_norm_of_any_kind_follows_the_equations(norm, setting) -> None:
    spec = paper_form(**SETTINGS[setting])
    stock = three_blocks(norm=norm)
    shaken = shake(copy.deepcopy(stock), spec)
    x = torch.randn(4, 8, 8, 8, dtype=torch.float64)
    with recorded_scales() as scales:
        got = run(shaken, x)
    torch.testing.assert_close(got["out"], equations(stock, x, scales, relu=not spec.erase_relu))
