"""Single digits."""

from __future__ import annotations

import numpy as np
import pytest

from shakedrop_det.data import digit_split, digits, load_single_digits


@pytest.fixture(scope="module")
def val() -> list[dict]:
    return load_single_digits(False)


def test_records_hold_square_images_with_their_labels(val: list[dict]) -> None:
    assert [record["image_id"] for record in val] == list(range(360))
    assert [record["label"] for record in val] == digit_split(False)[1].tolist()
    for record in val:
        assert record["image"].dtype == np.uint8
        assert record["image"].shape == (record["height"], record["width"], 3) == (64, 64, 3)


def test_the_same_on_each_call(val: list[dict]) -> None:
    for first, again in zip(val, load_single_digits(False), strict=True):
        np.testing.assert_array_equal(first["image"], again["image"])


def test_training_side_shows_each_digit_in_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, labels = (values[:30] for values in digit_split(True))
    monkeypatch.setattr(digits, "digit_split", lambda train: (samples, labels) if train else None)
    records = load_single_digits(True)
    assert [record["label"] for record in records] == [*labels] * 3
    images = {record["image"].tobytes() for record in records}
    assert len(images) == len(records) == 3 * len(labels)
