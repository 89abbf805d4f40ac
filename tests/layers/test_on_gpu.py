"""The junction on a GPU, eager and compiled, against the same on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor

from shakedrop_det.layers import Scales, SeededScale, junction, reference_junction

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

N, C, H, W = 3, 24, 17, 19
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 8e-2}
SHAPES = {"image": (2, N, 1, 1, 1), "channel": (2, N, C, 1, 1), "pixel": (2, N, C, H, W)}
KINDS = ["dropped", "number", "equal numbers", *SHAPES]


def scales_of(kind: str) -> Scales:
    if kind in SHAPES:
        return Scales(*torch.rand(SHAPES[kind], generator=torch.Generator().manual_seed(2)) - 0.5)
    return {
        "dropped": Scales(0.0, 0.7),
        "number": Scales(0.3, 0.7),
        "equal numbers": Scales(1.1, 1.1),
    }[kind]


def results(
    join: Callable[..., Tensor],
    scales: Scales,
    *,
    device: str,
    dtype: torch.dtype,
    frozen: bool,
    layout: torch.memory_format = torch.contiguous_format,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, f, grad = (
        torch.randn(N, C, H, W, generator=generator)
        .to(device, dtype)
        .contiguous(memory_format=layout)
        .requires_grad_()
        for _ in range(3)
    )
    norm = FrozenBatchNorm2d(C) if frozen else None
    if norm is not None:
        norm.weight.copy_(torch.rand(C, generator=generator))
        norm = norm.to(device, torch.float64 if dtype == torch.float64 else torch.float32)
    moved = Scales(*(s.to(device) if isinstance(s, Tensor) else s for s in scales))
    out = join(x, f * 1, moved, norm=norm, relu=False)
    assert out.dtype == dtype and out.device == x.device
    return [out.detach().cpu(), *(g.cpu() for g in torch.autograd.grad(out, [x, f], grad))]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compiled", [False, True])
def test_it_computes_what_a_cpu_computes_in_float64(compiled, kind, dtype, frozen, layout) -> None:
    scales = scales_of(kind)
    torch._dynamo.reset()  # or the ninth case of one function would run eagerly
    join = torch.compile(reference_junction, fullgraph=True) if compiled else junction
    found = results(join, scales, device="cuda", dtype=dtype, frozen=frozen, layout=layout)
    expected = results(reference_junction, scales, device="cpu", dtype=torch.float64, frozen=frozen)
    tolerance = TOLERANCE[dtype]
    for got, value in zip(found, expected, strict=True):
        torch.testing.assert_close(got.double(), value, rtol=tolerance, atol=tolerance)


def test_scales_from_a_seed_are_those_of_the_backward_pass() -> None:
    x = torch.ones(N, C, H, W, device="cuda", requires_grad=True)
    scale = SeededScale(1, (-1.0, 1.0), x.shape, x.device)
    out = junction(torch.zeros_like(x), x * 1, Scales(scale, scale), relu=False)
    out.sum().backward()
    assert torch.equal(out, scale.make()) and torch.equal(x.grad, scale.make())
