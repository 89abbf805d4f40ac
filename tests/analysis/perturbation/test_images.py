"""The choice of images."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakedrop_det.analysis.perturbation.images import PER_CLASS, spread


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=300),
    st.integers(PER_CLASS, 400),
)
def test_chosen_images_are_few_different_and_several_of_a_class(
    labels: list[int], limit: int
) -> None:
    chosen = spread(labels, limit)
    assert 0 < len(chosen) == len(set(chosen)) <= limit
    there = Counter(labels)
    for label, number in Counter(labels[index] for index in chosen).items():
        assert number >= min(PER_CLASS, there[label])


def test_all_classes_are_there_where_the_limit_allows() -> None:
    labels = [index // 50 for index in range(500)]
    assert Counter(labels[index] for index in spread(labels, 200)) == dict.fromkeys(range(10), 20)
    assert sorted(spread(labels, 500)) == list(range(500))
    assert {labels[index] for index in spread(labels, 25)} == {0, 9}


def test_too_low_a_limit_is_named() -> None:
    with pytest.raises(ValueError, match="--num-images must be at least 10, got 3"):
        spread([0, 1], 3)
