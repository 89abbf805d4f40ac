"""The variants of a benchmark compute the same thing."""

from __future__ import annotations

import pytest
import torch

from shakedrop_det.benchmark.junctions import NORMS, STOCK, junction_variants
from shakedrop_det.benchmark.timing import Variant


def results(variant: Variant) -> list[torch.Tensor]:
    found = variant()
    assert isinstance(found, tuple)
    return [tensor.detach().clone() for tensor in found]


@pytest.mark.parametrize("level", ["batch", "image", "channel", "pixel"])
@pytest.mark.parametrize("norm", NORMS)
def test_junctions_that_survive_compute_what_stock_computes(norm, level) -> None:
    variants = junction_variants(
        "cpu", norm=norm, level=level, survival_prob=1.0, shape=(2, 32, 5, 5)
    )
    assert len(variants) == 3
    expected = results(variants[STOCK])
    for variant in variants.values():
        for a, b in zip(results(variant), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("erase_relu", [False, True])
def test_junctions_whose_gate_is_closed_do_not(erase_relu) -> None:
    torch.manual_seed(0)
    variants = junction_variants("cpu", norm="BN", erase_relu=erase_relu, shape=(2, 32, 5, 5))
    expected = results(variants[STOCK])[0]
    perturbed = results(variants["ours, gate closed"])[0]
    assert not torch.allclose(perturbed, expected)
    assert (perturbed.min() < 0) == erase_relu
