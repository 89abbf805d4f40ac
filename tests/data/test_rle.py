"""Compressed run lengths are read as pycocotools writes them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from shakedrop_det.data.rle import run_lengths


def decoded(lengths: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    values = np.repeat(np.arange(len(lengths)) % 2, lengths)
    return values.reshape(size, order="F").astype(np.uint8)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_masks_of_pycocotools_come_back(height: int, width: int, part: float, seed: int) -> None:
    drawn = np.random.default_rng(seed).random((height, width)) < part
    mask = np.asfortranarray(drawn, dtype=np.uint8)
    lengths = run_lengths(mask_util.encode(mask)["counts"].decode())
    assert np.array_equal(decoded(lengths, mask.shape), mask)


def test_large_areas_come_back() -> None:
    for mask in (np.zeros((3000, 4000)), np.ones((3000, 4000)), np.tri(3000, 4000)):
        mask = np.asfortranarray(mask, dtype=np.uint8)
        lengths = run_lengths(mask_util.encode(mask)["counts"].decode())
        assert np.array_equal(decoded(lengths, mask.shape), mask)


@pytest.mark.parametrize("text", ["o", "P", "é", "a b", "ooooooooo0", "/"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a compressed RLE|impossible"):
        run_lengths(text)


def test_it_takes_no_more_than_seconds_for_a_large_data_set() -> None:
    """100,000 masks, of 16 here."""
    mask = np.asfortranarray(np.tri(480, 640), dtype=np.uint8)
    text = mask_util.encode(mask)["counts"].decode()
    begin = time.process_time()
    for _ in range(1000):
        run_lengths(text)
    assert (time.process_time() - begin) * 100 < 60
