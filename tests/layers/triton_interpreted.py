"""Run by test_triton_junction.py with TRITON_INTERPRET=1."""

import itertools

import torch

from shakedrop_det.layers import Scales
from shakedrop_det.layers.triton_junction import triton_junction

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 8e-3}
N, C, H, W = 3, 5, 9, 37  # more than one program, and a last one that is not full


def compare(layout, dtype, scale_shape, affine: bool, relu: bool) -> None:
    x, f, grad = (
        torch.randn(N, C, H, W).to(dtype).contiguous(memory_format=layout) for _ in range(3)
    )
    f[0, 0, 0, 0] = float("inf")  # and the scale of this image is 0
    x.requires_grad_()
    f.requires_grad_()
    s, t = torch.rand(scale_shape) * 2 - 1, torch.rand(scale_shape) * 2 - 1
    s[0] = 0
    weight, bias = (torch.randn(C), torch.randn(C)) if affine else (None, None)
    out = triton_junction(x, f, Scales(s, t), weight=weight, bias=bias, relu=relu)
    out.backward(grad)

    w = weight.double().view(1, C, 1, 1) if affine else 1.0
    c = bias.double().view(1, C, 1, 1) if affine else 0.0
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


def compare_dropped(layout, dtype, relu: bool) -> None:
    """A branch that is known to be dropped, whose residual is a view of a single zero."""
    x, grad = (torch.randn(N, C, H, W).to(dtype).contiguous(memory_format=layout) for _ in "xg")
    f = torch.zeros((), dtype=dtype).expand(N, C, H, W).requires_grad_()
    x.requires_grad_()
    s, t = torch.zeros(N, 1, 1, 1), torch.rand(N, 1, 1, 1)
    weight, bias = torch.randn(C), torch.randn(C)
    scales = Scales(s, t, gate=False, dropped=True)
    out = triton_junction(x, f, scales, weight=weight, bias=bias, relu=relu)
    grad_x, grad_f = torch.autograd.grad(out, [x, f], grad)

    expected = x.detach().relu() if relu else x.detach()
    expected_grad = grad * (expected > 0) if relu else grad
    grad_branch = expected_grad.double() * t.double() * weight.double().view(1, C, 1, 1)
    close = {"atol": TOLERANCE[dtype], "rtol": TOLERANCE[dtype]}
    assert torch.equal(out, expected) and torch.equal(grad_x, expected_grad)
    torch.testing.assert_close(grad_f.double(), grad_branch, **close)
    assert out.dtype == dtype and out.is_contiguous(memory_format=layout)


if __name__ == "__main__":
    torch.manual_seed(0)
    layouts = torch.contiguous_format, torch.channels_last
    dropped_cases = list(itertools.product(layouts, TOLERANCE, (True, False)))
    for case in dropped_cases:
        compare_dropped(*case)
    cases = list(
        itertools.product(
            layouts,
            TOLERANCE,
            ((1, 1, 1, 1), (N, 1, 1, 1), (N, C, 1, 1)),
            (True, False),
            (True, False),
        )
    )
    for case in cases:
        compare(*case)
    print(f"{len(cases) + len(dropped_cases)} cases agree")
