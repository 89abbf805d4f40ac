"""The Triton kernels on a GPU, against the reference in eager mode and compiled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d

from shakedrop_det.layers import Scales, SeededScale, junction, reference_junction
from shakedrop_det.layers.fused import trust
from shakedrop_det.layers.fused.triton_junction import triton_junction

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

N, C, H, W = 3, 24, 17, 19
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 8e-2}


def seeded(seed: int, gate: torch.Tensor | None = None) -> SeededScale:
    shape, device = torch.Size((N, C, H, W)), torch.device("cuda", 0)
    return SeededScale(seed, (-1.0, 1.0), shape, device, gate, 1.5)


KINDS: dict[str, Callable[[], Scales]] = {
    "dropped": lambda: Scales(0.0, 0.7),
    "number": lambda: Scales(0.3, 0.7),
    "image": lambda: Scales(*torch.rand(2, N, 1, 1, 1, device="cuda")),
    "channel": lambda: Scales(*torch.rand(2, N, C, 1, 1, device="cuda")),
    "pixel": lambda: Scales(seeded(1), seeded(2)),
}


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_pass_their_self_test(kind, dtype, contiguous, frozen, relu) -> None:
    found = trust.self_test(
        KINDS[kind](),
        device=torch.device("cuda", 0),
        dtype=dtype,
        contiguous=contiguous,
        frozen=frozen,
        relu=relu,
    )
    assert found is None


def results(join, scales: Scales, dtype: torch.dtype, norm, layout) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, f, grad = (
        torch.randn(N, C, H, W, generator=generator)
        .to("cuda", dtype)
        .contiguous(memory_format=layout)
        for _ in range(3)
    )
    x.requires_grad_()
    f.requires_grad_()
    out = join(x, f * 1, scales, norm=norm, relu=False)
    return [out.detach(), *torch.autograd.grad(out, [x, f], grad)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["dropped", "number", "image", "channel"])
def test_kernel_reference_and_compiled_reference_agree(kind, dtype, frozen, layout) -> None:
    scales = KINDS[kind]()
    norm = FrozenBatchNorm2d(C).cuda() if frozen else None
    found = [
        results(join, scales, dtype, norm, layout)
        for join in (triton_junction, reference_junction, torch.compile(reference_junction))
    ]
    for kernel, eager, compiled in zip(*found, strict=True):
        tolerance = TOLERANCE[dtype]
        torch.testing.assert_close(kernel, eager, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(kernel, compiled, rtol=tolerance, atol=tolerance)


def test_a_junction_on_a_gpu_uses_the_kernels() -> None:
    """Or all of the above would tell nothing of training."""
    x = torch.randn(N, C, H, W, device="cuda", requires_grad=True)
    out = junction(x, x * 1, KINDS["image"]())
    assert "TritonJunction" in type(out.grad_fn).__name__


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_kernels_run_on_the_device_of_their_tensors() -> None:
    x = torch.randn(N, C, H, W, device="cuda:1", requires_grad=True)
    with torch.cuda.device(0):
        out = junction(x, 2 * x, Scales(0.5, 0.5), relu=False)
        out.sum().backward()
    torch.testing.assert_close(out.detach(), 2 * x.detach())
    assert out.device == x.grad.device == x.device
