"""Run by test_triton_junction.py with TRITON_INTERPRET=1."""

import itertools
from functools import partial

import torch
from detectron2.layers import FrozenBatchNorm2d

from shakedrop_det.layers import Scales, SeededScale
from shakedrop_det.layers.fused import trust
from shakedrop_det.layers.fused.frozen_batch_norm import frozen_affine
from shakedrop_det.layers.fused.triton_junction import triton_junction

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 8e-3}
LAYOUTS = torch.contiguous_format, torch.channels_last
N, C, H, W = 3, 5, 9, 37  # more than one program, and a last one that is not full


def random_norm() -> FrozenBatchNorm2d:
    norm = FrozenBatchNorm2d(C)
    for buffer in norm.buffers():
        buffer.copy_(torch.rand(C) + 0.5)
    return norm


def affine_map(norm) -> tuple[torch.Tensor, torch.Tensor]:
    if norm is None:
        return torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    return tuple(factor.double() for factor in frozen_affine(norm))


def compare(layout, scale_shape, dtype, affine: bool, relu: bool) -> None:
    x, f, grad = (
        torch.randn(N, C, H, W).to(dtype).contiguous(memory_format=layout) for _ in range(3)
    )
    f[0, 0, 0, 0] = float("inf")  # and the scale of this image is 0
    x.requires_grad_()
    f.requires_grad_()
    s, t = torch.rand(scale_shape) * 2 - 1, torch.rand(scale_shape) * 2 - 1
    if scale_shape == ():
        s.zero_()
        scales = Scales(0.0, float(t))
    else:
        s[0] = 0
        scales = Scales(s, t)
    norm = random_norm() if affine else None
    out = triton_junction(x, f, scales, norm=norm, relu=relu)
    out.backward(grad)

    w, c = affine_map(norm)
    branch = (f.detach().double() * w + c).nan_to_num(0, 0, 0)
    expected = x.detach().double() + s.double() * branch
    expected_grad = grad.double()
    if relu:
        expected = expected.clamp(min=0)
        expected_grad = expected_grad * (out.detach() > 0)
    close = {"atol": TOLERANCE[dtype], "rtol": TOLERANCE[dtype]}
    torch.testing.assert_close(out.double(), expected, **close)
    torch.testing.assert_close(x.grad.double(), expected_grad, **close)
    torch.testing.assert_close(f.grad.double(), expected_grad * t.double() * w, **close)
    assert out.dtype == dtype and out.is_contiguous(memory_format=layout)


def compare_second_derivatives(layout, relu: bool) -> None:
    """Of a penalty on gradients: the backward pass is linear in the gradient that comes in."""
    x, f, grad, of_x, of_f = (
        torch.randn(N, C, H, W).contiguous(memory_format=layout) for _ in range(5)
    )
    for tensor in (x, f, grad):
        tensor.requires_grad_()
    norm = random_norm()
    s, t = torch.rand(2, N, C, 1, 1)
    out = triton_junction(x, f, Scales(s, t), norm=norm, relu=relu)
    grads = torch.autograd.grad(out, [x, f], grad, create_graph=True)
    (got,) = torch.autograd.grad(grads, grad, [of_x, of_f])
    expected = of_x + of_f * t * affine_map(norm)[0].float()
    torch.testing.assert_close(got, expected * (out.detach() > 0) if relu else expected)


def pixel_scales() -> Scales:
    shape, cpu = torch.Size((N, C, H, W)), torch.device("cpu")
    return Scales(*(SeededScale(seed, (-1.0, 1.0), shape, cpu) for seed in (1, 2)))


KINDS = {
    "dropped": Scales(0.0, 0.7),
    "number": Scales(0.3, 0.7),
    "image": Scales(*torch.rand(2, N, 1, 1, 1)),
    "channel": Scales(*torch.rand(2, N, C, 1, 1)),
    "pixel": pixel_scales(),
}


def self_tests_pass(kind, dtype, relu: bool) -> None:
    settings = {"dtype": dtype, "contiguous": relu, "frozen": not relu, "relu": relu}
    found = trust.self_test(KINDS[kind], device=torch.device("cpu"), **settings)
    assert found is None, (kind, settings, found)


def self_tests_find_what_is_wrong() -> None:
    for function in ("triton_junction", "reference_junction"):
        right = getattr(trust, function)
        for wrong in (
            lambda x, *args, right=right, **kwargs: right(x, *args, **kwargs) * 1.01,
            lambda x, *args, right=right, **kwargs: right(2 * x - x.detach(), *args, **kwargs),
            lambda x, *args, right=right, **kwargs: right(x, *args, **kwargs) * float("nan"),
        ):
            setattr(trust, function, wrong)
            found = trust.self_test(KINDS["image"], device=torch.device("cpu"), dtype=torch.float32)
            assert found and "of a kernel differs" in found
        setattr(trust, function, right)


if __name__ == "__main__":
    torch.manual_seed(0)
    shapes = ((), (1, 1, 1, 1), (N, 1, 1, 1), (N, C, 1, 1), (N, C, H, W))
    yes_and_no = (True, False)
    half = (torch.bfloat16, torch.float16)
    cases = {
        compare: (LAYOUTS, shapes, [torch.float32], yes_and_no, yes_and_no),
        partial(compare): (LAYOUTS, shapes, half, [True], [True]),
        compare_second_derivatives: (LAYOUTS, yes_and_no),
        self_tests_pass: (KINDS, TOLERANCE, yes_and_no),
    }
    count = 0
    for check, arguments in cases.items():
        for case in itertools.product(*arguments):
            check(*case)
            count += 1
    self_tests_find_what_is_wrong()
    print(f"{count} cases agree")
