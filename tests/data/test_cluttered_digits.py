"""Cluttered digits: who is in which split, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from shakedrop_det.data import cluttered_digits
from shakedrop_det.data.cluttered_digits import SIZE, load_cluttered_digits

NUM_DIGITS = {"train": 797, "val": 400, "test": 600}
TIMES = {"train": 1, "val": 5, "test": 4}


def arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    data = load_cluttered_digits(split)
    records = [data[index] for index in range(len(data))]
    return np.stack([r["image"] for r in records]), np.array([r["label"] for r in records])


@pytest.mark.parametrize("split", NUM_DIGITS)
def test_each_digit_is_drawn_as_often_as_it_says(split: str) -> None:
    images, labels = arrays(split)
    assert images.shape == (NUM_DIGITS[split] * TIMES[split], SIZE, SIZE, 3)
    assert images.dtype == np.uint8
    counts = np.bincount(labels) / len(labels)
    # The classes are as common as among all digits.
    assert counts == pytest.approx(np.bincount(load_digits().target) / 1797, abs=0.003)


def test_the_splits_are_disjoint_and_together_all_digits() -> None:
    parts = [cluttered_digits._digits(split)[0].reshape(-1, 64) for split in NUM_DIGITS]
    assert [len(part) for part in parts] == list(NUM_DIGITS.values())
    found = sorted(map(tuple, np.concatenate(parts).tolist()))
    assert found == sorted(map(tuple, (load_digits().data / 16).astype(np.float32).tolist()))


def test_the_images_are_the_same_on_each_call_and_differ_between_draws() -> None:
    images, labels = arrays("val")
    again, _ = arrays("val")
    assert np.array_equal(images, again)
    first, second = images[:400], images[400:800]
    assert np.array_equal(labels[:400], labels[400:800])
    assert not (first == second).all(axis=(1, 2, 3)).any()


def test_without_clutter_and_noise_the_digit_itself_is_in_the_image(monkeypatch) -> None:
    monkeypatch.setattr(cluttered_digits, "_FRAGMENTS", 0)
    monkeypatch.setattr(cluttered_digits, "_NOISE", 0.0)
    images, _ = arrays("train")
    samples = np.rint(255 * cluttered_digits._digits("train")[0])
    places = [(row, column) for row in range(3) for column in range(3)]
    for image, sample in zip(images[:50, ..., 0], samples[:50], strict=True):
        assert image.sum() == sample.sum()
        assert any(np.array_equal(image[r : r + 8, c : c + 8], sample) for r, c in places)


def test_clutter_makes_it_harder() -> None:
    """Else the plain network would leave nothing to gain."""
    from sklearn.neighbors import KNeighborsClassifier

    (images, labels), (others, truth) = arrays("train"), arrays("val")
    model = KNeighborsClassifier(1).fit(images[..., 0].reshape(797, -1), labels)
    assert 0.2 < model.score(others[..., 0].reshape(2000, -1), truth) < 0.7
