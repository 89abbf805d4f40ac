"""Digits: the split and the drawing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from shakedrop_det.data import digit_split
from shakedrop_det.data.digit_rendering import draw_background, draw_glyph, pick_colour


def as_set(samples: np.ndarray) -> set[bytes]:
    return {sample.tobytes() for sample in samples}


def test_split_has_each_digit_on_one_side() -> None:
    train, train_labels = digit_split(True)
    val, val_labels = digit_split(False)
    assert not as_set(train) & as_set(val)
    data = load_digits()
    assert as_set(train) | as_set(val) == as_set((data.images / 16).astype(np.float32))
    assert len(train) + len(val) == len(data.images)
    shares = np.bincount(val_labels) / np.bincount(np.r_[train_labels, val_labels])
    np.testing.assert_allclose(shares, 0.2, atol=0.01)


def test_split_keeps_labels_with_samples() -> None:
    data = load_digits()
    label_of = {
        image.astype(np.float32).tobytes(): target
        for image, target in zip(data.images / 16, data.target, strict=True)
    }
    for train in (True, False):
        samples, labels = digit_split(train)
        assert [label_of[sample.tobytes()] for sample in samples] == labels.tolist()


@given(
    index=st.integers(0, 359),
    height=st.floats(16, 64),
    angle=st.floats(-25, 25),
)
def test_glyph_is_cropped_to_its_mask_and_of_the_height_asked_for(
    index: int, height: float, angle: float
) -> None:
    sample = digit_split(False)[0][index]
    opacity = draw_glyph(sample, height=height, angle=angle)
    mask = opacity >= 0.5
    assert opacity.min() >= 0 and opacity.max() <= 1
    for axis in (0, 1):
        assert mask.any(axis=axis)[[0, -1]].all()
    # A sample fills its 8 rows nearly, and turning it lengthens it by 13% at most.
    assert 0.6 * height < max(mask.shape) < 1.2 * height + 2


def test_glyph_turns_counter_clockwise() -> None:
    stroke = np.zeros((8, 8), dtype=np.float32)
    stroke[:, 3:5] = 1
    mask = draw_glyph(stroke, height=64, angle=25) >= 0.5
    top, bottom = np.flatnonzero(mask[1]).mean(), np.flatnonzero(mask[-2]).mean()
    assert top < bottom - 10  # The upper end goes to the left.


@given(seed=st.integers(0, 2**32))
def test_background_has_a_texture(seed: int) -> None:
    image = draw_background(64, np.random.default_rng(seed))
    assert image.shape == (64, 64, 3)
    assert 3 < image.std(axis=(0, 1)).max() < 60


@given(seed=st.integers(0, 2**32), other=st.tuples(*[st.floats(0, 255)] * 3))
def test_colour_contrasts_with_one_other(seed: int, other: tuple[float, float, float]) -> None:
    colour = pick_colour(np.random.default_rng(seed), [np.array(other)])
    assert np.linalg.norm(colour - other) >= 90
