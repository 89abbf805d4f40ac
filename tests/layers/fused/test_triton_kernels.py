"""The Triton kernels compile for GPUs, on a machine that has none."""

from __future__ import annotations

from typing import Any

import pytest

triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from shakedrop_det.layers.fused import triton_kernels  # noqa: E402

INTEGERS = ("image_size", "pixels", "stride")
NUMBERS = ("number",)
FACTORS = ("scale", "weight", "bias")


def ptx(kernel: Any, maps: str, *, capability: int = 90, **constants: Any) -> str:
    """The assembly of a kernel for feature maps of a dtype ("fp32", "bf16" or "fp16")."""
    constants = {"channels": 256, "BLOCK": triton_kernels.BLOCK, **constants}
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature = dict.fromkeys(kernel.arg_names, f"*{maps}")
    signature.update(dict.fromkeys(INTEGERS, "i32"))
    signature.update(dict.fromkeys(NUMBERS, "fp32"))
    signature.update({name: "*fp32" for name in FACTORS if name in kernel.arg_names})
    signature.update(dict.fromkeys(constants, "constexpr"))
    paths = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, constexprs=paths)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]


@pytest.fixture(autouse=True)
def _nothing_is_cached(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


KERNELS = {"forward": triton_kernels.forward_kernel, "backward": triton_kernels.backward_kernel}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("maps", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("level", ["batch", "image", "channel", "pixel"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_each_level_layout_and_dtype_compiles_to_float32_arithmetic(
    channels_last, level, maps, kernel
) -> None:
    settings = {"CHANNELS_LAST": channels_last, "LEVEL": level, "DROPPED": False}
    code = ptx(KERNELS[kernel], maps, **settings, AFFINE=True, RELU=True)
    assert ".f32" in code and ".f64" not in code


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_each_form_of_the_junction_compiles(relu, affine, dropped, kernel) -> None:
    settings = {"CHANNELS_LAST": False, "LEVEL": "image", "DROPPED": dropped}
    assert ".entry" in ptx(KERNELS[kernel], "fp32", **settings, AFFINE=affine, RELU=relu)


@pytest.mark.parametrize("capability", [75, 80, 100])
def test_other_generations_of_gpus_compile_as_well(capability) -> None:
    settings = {"CHANNELS_LAST": True, "LEVEL": "pixel", "DROPPED": False}
    for kernel in KERNELS.values():
        assert ptx(kernel, "fp16", capability=capability, **settings, AFFINE=True, RELU=True)
