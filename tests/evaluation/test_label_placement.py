"""Labels beside objects."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shakedrop_det.evaluation.label_placement import place_labels

WIDTH, HEIGHT = 300.0, 200.0
SIZE = np.array([[30.0, 10.0]])


def area(first: np.ndarray, second: np.ndarray) -> float:
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    return float(np.clip(high - low, 0, None).prod())


def placed(*boxes: tuple[float, ...]) -> np.ndarray:
    corners = np.array(boxes)
    sizes = SIZE.repeat(len(boxes), axis=0)
    positions = place_labels(corners, sizes, width=WIDTH, height=HEIGHT)
    return np.hstack([positions, positions + sizes])


def test_a_label_is_above_its_object_where_there_is_room() -> None:
    np.testing.assert_array_equal(placed((50, 50, 120, 120)), [[50, 40, 80, 50]])


def test_a_label_is_below_where_a_neighbour_is_above() -> None:
    labels = placed((50, 50, 120, 120), (40, 0, 130, 49))
    np.testing.assert_array_equal(labels[0], [50, 120, 80, 130])


def test_a_label_of_an_object_that_fills_the_picture_is_inside() -> None:
    np.testing.assert_array_equal(placed((0, 0, WIDTH, HEIGHT)), [[0, 0, 30, 10]])


def test_labels_of_equal_boxes_do_not_cover_each_other() -> None:
    labels = placed(*[(100, 80, 200, 140)] * 6)
    for index, first in enumerate(labels):
        assert all(area(first, second) == 0 for second in labels[index + 1 :])


@given(
    st.lists(st.tuples(*[st.floats(0, 150)] * 2, *[st.floats(5, 50)] * 2), min_size=1, max_size=8)
)
def test_labels_touch_their_objects_and_stay_in_the_picture(
    places: list[tuple[float, float, float, float]],
) -> None:
    boxes = [(x, y, x + w, y + h) for x, y, w, h in places]
    for label, box in zip(placed(*boxes), boxes, strict=True):
        assert (label[:2] >= -1e-9).all() and (label[2:] <= [WIDTH, HEIGHT]).all()
        grown = np.array([box[0] - 1e-6, box[1] - 1e-6, box[2] + 1e-6, box[3] + 1e-6])
        assert area(label, grown) > 0


def test_no_objects_have_no_labels() -> None:
    positions = place_labels(np.zeros((0, 4)), np.zeros((0, 2)), width=WIDTH, height=HEIGHT)
    assert positions.shape == (0, 2)
