"""skip_branch() and postpone_branch(): outputs without a branch, gradients as if it had run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shakedrop_det.layers import postpone_branch, skip_branch

from .reference import random_map, reference_junction

N, C, H, W = 2, 3, 4, 5
ZERO, ONE = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)


def feature_maps() -> tuple[Tensor, Tensor, Tensor]:
    """Shortcut and input of a branch, and a parameter."""
    return random_map(N, C, H, W), random_map(N, C, H, W, seed=1), random_map(C, 1, 1, seed=2)


def branch(x: Tensor, weight: Tensor) -> Tensor:
    return (weight * x).tanh()


def postponed(
    shortcut: Tensor, x: Tensor, weight: Tensor, run: Callable = branch, *, relu: bool = True
) -> Tensor:
    return postpone_branch(shortcut, x, run, [weight], relu=relu)


@pytest.mark.parametrize("relu", [True, False])
def test_a_skipped_branch_gives_the_shortcut_and_zeros_where_gradients_are_asked_for(relu) -> None:
    shortcut, frozen, weight = feature_maps()
    frozen.requires_grad_(False)
    out = skip_branch(shortcut, [frozen, weight], relu=relu)
    expected = shortcut.clamp(min=0) if relu else shortcut
    assert torch.equal(out, expected)
    grad = torch.randn_like(out)
    out.backward(grad)
    torch.testing.assert_close(shortcut.grad, torch.autograd.grad(expected, shortcut, grad)[0])
    assert frozen.grad is None and torch.equal(weight.grad, torch.zeros_like(weight))


@pytest.mark.parametrize("relu", [True, False])
def test_a_postponed_branch_has_first_and_second_derivatives_by_the_equations(relu) -> None:
    """With a forward scale of 0 and a backward scale of 1."""
    inputs = feature_maps()
    outputs = postponed(*inputs, relu=relu), reference_junction(
        inputs[0], branch(*inputs[1:]), ZERO, ONE, relu=relu
    )
    assert torch.equal(*outputs)
    found = []
    for out in outputs:
        first = torch.autograd.grad(out.pow(3).sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        found.append([*first, *second])
    for a, b in zip(*found, strict=True):
        assert a.any()
        torch.testing.assert_close(a, b)


def test_a_postponed_branch_runs_once_in_each_backward_pass_and_never_before() -> None:
    inputs, runs = feature_maps(), []

    def watched(x: Tensor, weight: Tensor) -> Tensor:
        runs.append(torch.is_grad_enabled())
        return branch(x, weight)

    out = postponed(*inputs, watched)
    assert runs == []
    first = torch.autograd.grad(out.sum(), inputs, retain_graph=True)
    assert runs == [True]
    second = torch.autograd.grad(out.sum(), inputs)
    assert runs == [True, True]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("in_forward", [False, True])
def test_autocast_is_in_the_branch_what_it_is_in_the_forward_pass(in_forward, in_backward) -> None:
    inputs, found = feature_maps(), []

    def watched(x: Tensor, weight: Tensor) -> Tensor:
        found.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return branch(x, weight)

    with torch.autocast("cpu", torch.float16, enabled=in_forward):
        out = postponed(*inputs, watched)
        expected = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", torch.bfloat16, enabled=in_backward):
        out.sum().backward()
        assert torch.is_autocast_enabled("cpu") == in_backward
    assert found[0][0] == in_forward and (not in_forward or found == [expected])


@pytest.mark.parametrize("relu", [True, False])
def test_kept_are_input_parameters_and_output(relu) -> None:
    inputs, saved = feature_maps(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        out = postponed(*inputs, relu=relu)
    kept = {t.data_ptr() for t in (*inputs[1:], *[out] * relu)}
    assert {t.data_ptr() for t in saved} == kept


@pytest.mark.parametrize("when", ["before", "after"])
def test_hooks_of_input_and_parameter_run_once_on_the_whole_gradient(when) -> None:
    shortcut, x, weight = feature_maps()
    seen: list[tuple[str, Tensor]] = []
    y = x * 1  # not a leaf, and the shortcut as well

    def watch() -> None:
        y.register_hook(lambda grad: seen.append(("y", grad)))
        weight.register_hook(lambda grad: seen.append(("weight", grad)))

    if when == "before":
        watch()
    out = postponed(y, y, weight)
    if when == "after":
        watch()
    expected = torch.autograd.grad(
        reference_junction(y, branch(y, weight), ZERO, ONE, relu=True).sum(), [y, weight]
    )
    seen.clear()
    out.sum().backward()
    found = dict(seen)
    assert sorted(name for name, _ in seen) == ["weight", "y"]
    torch.testing.assert_close(found["y"], expected[0])
    torch.testing.assert_close(found["weight"], expected[1])


@pytest.mark.parametrize("taking", range(3), ids=["shortcut", "input", "parameter"])
def test_what_takes_no_gradient_gets_none(taking) -> None:
    inputs = feature_maps()
    expected = torch.autograd.grad(postponed(*inputs).sum(), inputs)[taking]
    for index, tensor in enumerate(inputs):
        tensor.requires_grad_(index == taking)
    postponed(*inputs).sum().backward()
    assert [t.grad is not None for t in inputs] == [i == taking for i in range(3)]
    torch.testing.assert_close(inputs[taking].grad, expected)


def test_a_parameter_that_the_branch_does_not_use_gets_no_gradient() -> None:
    shortcut, x, weight = feature_maps()
    unused = weight.detach().clone().requires_grad_()
    postpone_branch(
        shortcut, x, lambda x, weight, _: branch(x, weight), [weight, unused], relu=True
    ).sum().backward()
    assert weight.grad.any() and unused.grad is None


@pytest.mark.parametrize("index", [1, 2], ids=["input", "parameter"])
def test_a_change_in_place_before_the_backward_pass_is_an_error(index) -> None:
    inputs = feature_maps()
    out = postponed(*inputs)
    with torch.no_grad():
        inputs[index].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("relu", [True, False])
def test_what_is_done_to_the_output_in_place_leaves_the_shortcut_alone(relu) -> None:
    inputs = feature_maps()
    before = inputs[0].detach().clone()
    with torch.no_grad():
        postponed(*inputs, relu=relu).add_(1)
        skip_branch(inputs[0], [], relu=relu).add_(1)
    assert torch.equal(inputs[0], before)
