"""Run by test_triton_junction.py with TRITON_INTERPRET=1."""

import itertools

import torch

from shakedrop_det.layers import PixelScales, Scales
from shakedrop_det.layers.triton_junction import triton_junction

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 8e-3}
LAYOUTS = torch.contiguous_format, torch.channels_last
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


def compare_second_derivatives(layout, per_pixel: bool, relu: bool) -> None:
    """Of a penalty on gradients: the backward pass is linear in the gradient that comes in."""
    x, f, grad, of_x, of_f = (
        torch.randn(N, C, H, W).contiguous(memory_format=layout) for _ in range(5)
    )
    for tensor in (x, f, grad):
        tensor.requires_grad_()
    weight, bias = torch.randn(C), torch.randn(C)
    s, t = scale_maps(pixel_scales("image"), layout) if per_pixel else torch.rand(2, N, C, 1, 1)
    scales = pixel_scales("image") if per_pixel else Scales(s, t)
    out = triton_junction(x, f, scales, weight=weight, bias=bias, relu=relu)
    grads = torch.autograd.grad(out, [x, f], grad, create_graph=True)
    (got,) = torch.autograd.grad(grads, grad, [of_x, of_f])
    expected = of_x + of_f * t * weight.view(1, C, 1, 1)
    torch.testing.assert_close(got, expected * (out.detach() > 0) if relu else expected)


def pixel_scales(gate_level: str) -> PixelScales:
    """Of a block whose gate is closed, or open for the first of the images."""
    gates = {"gate": False}
    if gate_level == "image":
        gates = {"drawn_gate": torch.tensor([True, False, False]).view(N, 1, 1, 1)}
    ranges, shape = ((-1.0, 1.0), (0.25, 0.75)), torch.Size((N, C, H, W))
    return PixelScales(2**31 - 2, ranges, 1.5, shape, torch.device("cpu"), **gates)


def scale_maps(scales: PixelScales, layout) -> tuple[torch.Tensor, torch.Tensor]:
    """s and t of each pixel: what becomes of a residual of 1, and of a gradient of 1."""
    x = torch.zeros(N, C, H, W).contiguous(memory_format=layout)
    f = torch.ones(N, C, H, W).contiguous(memory_format=layout).requires_grad_()
    out = triton_junction(x, f, scales, relu=False)
    return out.detach(), torch.autograd.grad(out.sum(), f)[0]


def compare_pixels(layout, dtype, gate_level: str, affine: bool, relu: bool) -> None:
    scales = pixel_scales(gate_level)
    s, t = scale_maps(scales, layout)
    for scale, (low, high) in zip((s, t), scales.ranges, strict=True):
        if gate_level == "image":
            assert (scale[0] == 1.5).all()
        made = scale[1:]
        width = high - low
        assert low <= made.min() < low + 0.01 * width and high - 0.01 * width < made.max() < high
        assert abs(made.mean() - (low + high) / 2) < 0.02 * width
        assert abs(made.std() - width / 12**0.5) < 0.02 * width
    assert len(s[1:].unique()) > 0.99 * s[1:].numel()
    closed = torch.stack([s[1:].flatten(), t[1:].flatten(), s[1:].roll(1, 3).flatten()])
    assert (closed.corrcoef().triu(1).abs() < 0.06).all()
    again = scale_maps(scales, layout)
    assert all(torch.equal(a, b) for a, b in zip((s, t), again, strict=True))
    x, f, grad = (
        torch.randn(N, C, H, W).to(dtype).contiguous(memory_format=layout) for _ in range(3)
    )
    x.requires_grad_()
    f.requires_grad_()
    weight, bias = (torch.randn(C), torch.randn(C)) if affine else (None, None)
    out = triton_junction(x, f, scales, weight=weight, bias=bias, relu=relu)
    out.backward(grad)
    w = weight.double().view(1, C, 1, 1) if affine else 1.0
    c = bias.double().view(1, C, 1, 1) if affine else 0.0
    expected = x.detach().double() + s.double() * (f.detach().double() * w + c)
    expected_grad = grad.double()
    if relu:
        expected, expected_grad = expected.clamp(min=0), expected_grad * (out.detach() > 0)
    close = {"atol": TOLERANCE[dtype], "rtol": TOLERANCE[dtype]}
    torch.testing.assert_close(out.double(), expected, **close)
    torch.testing.assert_close(x.grad.double(), expected_grad, **close)
    torch.testing.assert_close(f.grad.double(), expected_grad * t.double() * w, **close)


def no_numbers_are_shared() -> None:
    """By images, blocks or the two directions."""
    scales = pixel_scales("batch")
    following = PixelScales(scales.seed + 2, *list(vars(scales).values())[1:])
    maps = [(m - m.min()) / (m.max() - m.min()) for m in scale_maps(scales, LAYOUTS[0])]
    maps.append(scale_maps(following, LAYOUTS[0])[0])
    rows = torch.cat([m.flatten(1) for m in maps])
    assert (rows.corrcoef().triu(1).abs() < 0.1).all()


if __name__ == "__main__":
    torch.manual_seed(0)
    dropped_cases = list(itertools.product(LAYOUTS, TOLERANCE, (True, False)))
    for case in dropped_cases:
        compare_dropped(*case)
    cases = list(
        itertools.product(
            LAYOUTS,
            TOLERANCE,
            ((1, 1, 1, 1), (N, 1, 1, 1), (N, C, 1, 1)),
            (True, False),
            (True, False),
        )
    )
    for case in cases:
        compare(*case)
    pixel_cases = list(
        itertools.product(LAYOUTS, TOLERANCE, ("batch", "image"), (True, False), (True, False))
    )
    for case in pixel_cases:
        compare_pixels(*case)
    no_numbers_are_shared()
    second_cases = list(itertools.product(LAYOUTS, (True, False), (True, False)))
    for case in second_cases:
        compare_second_derivatives(*case)
    print(f"{sum(map(len, (cases, dropped_cases, pixel_cases, second_cases)))} cases agree")
