"""Everything that is timed or measured."""

from __future__ import annotations

import pytest

from shakedrop_det.benchmark import CASES, MEMORY_CASES, Case, MemoryCase, measure


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_variant_of_a_case_runs(case: Case) -> None:
    variants = case.make("cpu")
    assert len(variants) >= 2
    for variant in variants.values():
        variant()


@pytest.mark.slow
@pytest.mark.parametrize("case", MEMORY_CASES, ids=lambda case: case.name)
def test_ours_saves_no_more_than_its_scales_beyond_stock(case: MemoryCase) -> None:
    found = measure(case, device="cpu")
    stock = found["detectron2"].saved
    scales = 16 * 2 * 2 * 4  # blocks, images, forward and backward, bytes
    assert all(memory.saved <= stock + scales for name, memory in found.items() if "ours" in name)
