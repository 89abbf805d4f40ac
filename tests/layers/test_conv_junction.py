"""conv_junction(): convolution, frozen norm and junction at once, against each by itself."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor

from shakedrop_det.layers import Scales, conv_junction
from tests.saved_tensors import saved_storages

from .reference import random_map, reference_junction

N, C, OUT = 3, 4, 6
GEOMETRIES = {
    "1x1": {"kernel_size": 1},
    "3x3": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
}
SIDES = {"wide": 16, "narrow": 2}
"""Of square inputs: the output has more numbers than 4 weights, and fewer."""
SCALES = {
    "batch": ([0.7], [-0.4]),
    "image": ([0.7, -0.3, 1.2], [-0.4, 1.1, 0.5]),
    "some images dropped": ([0.7, 0.0, 0.0], [-0.4, 1.1, 0.0]),
    "batch dropped": ([0.0], [0.6]),
    "all images dropped": ([0.0, 0.0, 0.0], [-0.4, 0.0, 0.5]),
}


class Case(NamedTuple):
    """What conv_junction() takes; all tensors but the scales take a gradient."""

    shortcut: Tensor
    x: Tensor
    conv: Conv2d

    @property
    def inputs(self) -> list[Tensor]:
        return [self.shortcut, self.x, self.conv.weight]

    def join(
        self, scales: Scales, *, relu: bool = False, fold: bool = False, skip: bool = True
    ) -> Tensor:
        norm = self.conv.norm
        return conv_junction(
            self.shortcut, self.x, self.conv, norm, scales, relu=relu, fold=fold, skip=skip
        )


def make_case(
    geometry: str = "3x3", side: int = SIDES["wide"], dtype: torch.dtype = torch.float64
) -> Case:
    torch.manual_seed(5)
    norm = FrozenBatchNorm2d(OUT)
    for buffer in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        buffer.uniform_(0.5, 1.5)
    conv = Conv2d(C, OUT, bias=False, norm=norm, **GEOMETRIES[geometry]).to(dtype)
    x = random_map(N, C, side, side, dtype=dtype)
    return Case(random_map(*conv(x).shape, seed=1, dtype=dtype), x, conv)


def make_scales(name: str) -> Scales:
    return Scales(*(torch.tensor(s, dtype=torch.float64).view(-1, 1, 1, 1) for s in SCALES[name]))


@pytest.mark.parametrize("skip", [True, False], ids=["skip", ""])
@pytest.mark.parametrize("fold", [True, False], ids=["fold", ""])
@pytest.mark.parametrize("relu", [True, False], ids=["ReLU", "EraseReLU"])
@pytest.mark.parametrize("scales_name", SCALES)
@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_values_and_gradients_follow_the_equations(
    geometry, size, scales_name, relu, fold, skip
) -> None:
    case, scales = make_case(geometry, SIDES[size]), make_scales(scales_name)
    got = case.join(scales, relu=relu, fold=fold, skip=skip)
    expected = reference_junction(case.shortcut, case.conv(case.x), *scales[:2], relu=relu)
    assert (got.numel() > 4 * case.conv.weight.numel()) == (size == "wide")
    weights = torch.linspace(-1, 1, got.numel(), dtype=torch.float64).view_as(got)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad(got, case.inputs, weights),
        torch.autograd.grad(expected, case.inputs, weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fold", [True, False])
def test_maps_whose_channels_lie_next_to_each_other_follow_the_equations(fold) -> None:
    case, scales = make_case(), make_scales("some images dropped")
    layout = torch.channels_last
    shortcut, x = (t.clone(memory_format=layout) for t in (case.shortcut, case.x))
    got = case._replace(shortcut=shortcut, x=x).join(scales, relu=True, fold=fold)
    expected = reference_junction(shortcut, case.conv(x), *scales[:2], relu=True)
    torch.testing.assert_close(got, expected)
    for a, b in zip(
        torch.autograd.grad(got.square().sum(), case.inputs),
        torch.autograd.grad(expected.square().sum(), case.inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("geometry, is_wide", [("1x1", True), ("3x3", False)])
@pytest.mark.parametrize("values", [[0.7], [0.7, -0.4, 0.0]], ids=["batch", "image"])
def test_gradcheck_and_gradgradcheck_pass_where_both_scales_are_equal(
    values, geometry, is_wide, relu, fold
) -> None:
    shortcut, x, conv = make_case(geometry, side=4)
    scale = torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)
    weight = conv.weight.detach().requires_grad_()
    assert (shortcut.numel() > 4 * weight.numel()) == is_wide
    del conv.weight

    def function(shortcut: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        conv.weight = weight
        return Case(shortcut, x, conv).join(Scales(scale, scale), relu=relu, fold=fold)

    assert torch.autograd.gradcheck(function, (shortcut, x, weight))
    assert torch.autograd.gradgradcheck(function, (shortcut, x, weight))


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("scales_name", SCALES)
def test_second_derivatives_follow_the_equations(scales_name, size, relu) -> None:
    case, scales = make_case(side=SIDES[size]), make_scales(scales_name)
    found = []
    for out in (
        case.join(scales, relu=relu),
        reference_junction(case.shortcut, case.conv(case.x), *scales[:2], relu=relu),
    ):
        first = torch.autograd.grad(out.pow(3).sum(), case.inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), case.inputs)
        found.append([*first, *second])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_an_image_whose_scale_is_zero_keeps_its_shortcut_whatever_the_convolution_gives(
    skip, fold, bad
) -> None:
    case = make_case()
    x = case.x.detach().clone()
    x[1] = bad
    case = case._replace(x=x)
    dropped = case.join(make_scales("batch dropped"), fold=fold, skip=skip)
    assert torch.equal(dropped, case.shortcut)
    s = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64).view(N, 1, 1, 1)
    out = case.join(Scales(s, s), fold=fold, skip=skip)
    assert torch.equal(out[1], case.shortcut[1])
    expected = case.shortcut + s * case.conv(x)
    torch.testing.assert_close(out[::2], expected[::2])


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("scales_name", SCALES)
def test_what_is_done_to_the_output_in_place_leaves_the_inputs_alone(
    scales_name, relu, skip
) -> None:
    case = make_case()
    before = [t.detach().clone() for t in case.inputs]
    with torch.no_grad():
        case.join(make_scales(scales_name), relu=relu, skip=skip).add_(1)
    assert all(torch.equal(a, b) for a, b in zip(case.inputs, before, strict=True))


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("scales_name", SCALES)
def test_saved_are_input_weight_scales_and_output_and_no_other_map(scales_name, relu, fold) -> None:
    case = make_case()
    scales = Scales(*(scale.clone() for scale in make_scales(scales_name)[:2]))
    with saved_storages() as storages:
        out = case.join(scales, relu=relu, fold=fold)
    kept = [case.x, case.conv.weight, scales.backward, case.conv.norm.weight, *[out] * relu]
    assert sum(storages.values()) == sum(tensor.nbytes for tensor in kept)
    large = {tensor.data_ptr() for tensor in (case.x, case.conv.weight, *[out] * relu)}
    assert large <= storages.keys()


@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("taking", range(3), ids=["shortcut", "input", "weight"])
def test_what_takes_no_gradient_gets_none(taking, size) -> None:
    case, scales = make_case(side=SIDES[size]), make_scales("image")
    expected = torch.autograd.grad(case.join(scales).square().sum(), case.inputs)[taking]
    for index, tensor in enumerate(case.inputs):
        tensor.requires_grad_(index == taking)
    case.join(scales).square().sum().backward()
    assert [t.grad is not None for t in case.inputs] == [i == taking for i in range(3)]
    torch.testing.assert_close(case.inputs[taking].grad, expected)


@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("scales_name", SCALES)
@pytest.mark.parametrize("fold", [True, False])
def test_half_precision_stays_half_precision_whatever_the_shortcut_has(
    fold, scales_name, size
) -> None:
    case = make_case(side=SIDES[size], dtype=torch.bfloat16)
    shortcut = case.shortcut.detach().float().requires_grad_()
    scales = make_scales(scales_name).to(torch.float32)
    out = case._replace(shortcut=shortcut).join(scales, fold=fold)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    dtypes = [t.grad.dtype for t in (shortcut, *case.inputs[1:])]
    assert dtypes == [torch.float32, torch.bfloat16, torch.bfloat16]


def test_a_batch_without_images_passes() -> None:
    case = make_case()
    shortcut, x = (t.detach()[:0].requires_grad_() for t in case.inputs[:2])
    for scales in (Scales(*torch.rand(2, 0, 1, 1, 1)), Scales(*torch.rand(2, 1, 1, 1, 1))):
        out = case._replace(shortcut=shortcut, x=x).join(scales, relu=True)
        gradients = torch.autograd.grad(out.sum(), [shortcut, x, case.conv.weight])
        assert out.shape == shortcut.shape and gradients[1].shape == x.shape
        assert not gradients[2].any()
