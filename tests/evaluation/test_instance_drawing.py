"""Objects drawn into photographs."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.data import Metadata

from shakedrop_det.evaluation.instance_drawing import (
    distinct_colours,
    draw_instances,
    readable_scale,
    with_names,
)

SIDE = 400  # not enlarged


@pytest.fixture
def image() -> np.ndarray:
    """Grey noise."""
    grey = np.random.default_rng(0).integers(80, 120, (SIDE, SIDE, 1), dtype=np.uint8)
    return np.repeat(grey, 3, axis=2)


def changed(picture: np.ndarray, image: np.ndarray) -> np.ndarray:
    return np.abs(picture.astype(int) - image).max(axis=2) > 12


def test_masks_keep_their_holes(image: np.ndarray) -> None:
    ring = np.zeros((SIDE, SIDE), dtype=np.uint8)
    ring[100:300, 100:300] = 1
    ring[150:250, 150:250] = 0
    box = np.array([[60.0, 60.0, 340.0, 340.0]])
    picture = draw_instances(image, classes=[0], labels=[""], boxes=box, masks=[ring])
    drawn = changed(picture, image)[105:295, 105:295]
    inner = ring[105:295, 105:295] == 1
    assert drawn[inner].mean() > 0.98
    assert drawn[47:143, 47:143].mean() < 0.02


def test_small_objects_are_on_top_of_large_ones(image: np.ndarray) -> None:
    large, small = np.zeros((2, SIDE, SIDE), dtype=np.uint8)
    large[50:350, 50:350] = 1
    small[180:220, 180:220] = 1
    boxes = np.array([[180.0, 180, 220, 220], [50, 50, 350, 350]])
    pair = draw_instances(image, classes=[0, 1], labels=["", ""], boxes=boxes, masks=[small, large])
    colour = np.array(distinct_colours(2)[0])
    middle = pair[190:210, 190:210].reshape(-1, 3).mean(axis=0)
    assert np.argmax(middle) == np.argmax(colour)


def test_polygons_and_boxes_without_masks(image: np.ndarray) -> None:
    box = np.array([[100.0, 100, 300, 300]])
    polygon = np.array([100.0, 100, 300, 100, 300, 300, 100, 300])
    filled = changed(
        draw_instances(image, classes=[0], labels=[""], boxes=box, masks=[[polygon]]), image
    )
    framed = changed(draw_instances(image, classes=[0], labels=[""], boxes=box), image)
    assert filled[120:280, 120:280].mean() > 0.98
    assert framed[120:280, 120:280].mean() < 0.02
    assert framed[98:103, 120:280].max(axis=0).mean() > 0.9
    assert framed[95:106, 120:280].sum(axis=0).max() <= 4  # thin


def test_a_class_has_one_colour_in_all_pictures(image: np.ndarray) -> None:
    box = np.array([[100.0, 100, 300, 300]])
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[100:300, 100:300] = 1

    def middle(*classes: int) -> np.ndarray:
        boxes, masks = box.repeat(len(classes), axis=0), [mask] * len(classes)
        labels = [""] * len(classes)
        picture = draw_instances(image, classes=classes, labels=labels, boxes=boxes, masks=masks)
        return picture[150:250, 150:250].reshape(-1, 3).mean(axis=0)

    grey = image[150:250, 150:250].mean()
    for number in (0, 5):
        colour = 255 * np.array(distinct_colours(9)[number])
        np.testing.assert_allclose(middle(number), 0.55 * grey + 0.45 * colour, atol=2)


def test_labels_stand_beside_their_objects(image: np.ndarray) -> None:
    boxes = np.array([[100.0, 100, 200, 200], [100, 40, 200, 98]])
    labels = ["first 90%", "second 80%"]
    named = draw_instances(image, classes=[0, 1], labels=labels, boxes=boxes)
    plain = draw_instances(image, classes=[0, 1], labels=["", ""], boxes=boxes)
    written = changed(named, plain)
    assert written.sum() > 500
    for left, top, right, bottom in boxes.astype(int):
        assert not written[top + 2 : bottom - 2, left + 2 : right - 2].any()


def test_nothing_to_draw(image: np.ndarray) -> None:
    picture = draw_instances(image, classes=[], labels=[], boxes=np.zeros((0, 4)), masks=[])
    np.testing.assert_array_equal(picture, image)


def test_small_pictures_are_enlarged(image: np.ndarray) -> None:
    picture = draw_instances(image[:40, :60], classes=[], labels=[], boxes=np.zeros((0, 4)))
    assert picture.shape == (280, 420, 3)
    assert readable_scale(1080, 1920) == 1


def test_colours_differ_and_stay() -> None:
    colours = np.array(distinct_colours(12))
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    assert distances[~np.eye(12, dtype=bool)].min() > 0.1
    np.testing.assert_array_equal(distinct_colours(5), colours[:5])


def test_classes_without_a_name_are_called_by_their_number() -> None:
    known = Metadata(name="some", stuff_classes=["sky"], stuff_colors=[(0, 0, 200)], more=1)
    named = with_names(known, things=["ball", "1"], num_stuff=3)
    assert named.stuff_classes == ["sky", "1", "2"]
    assert named.stuff_colors == [(0, 0, 200), *2 * [(128, 128, 128)]]
    assert (named.thing_classes, named.get("thing_colors"), named.more) == (["ball", "1"], None, 1)
    assert known.stuff_classes == ["sky"]
    named = with_names(Metadata(thing_classes=["ball"], thing_colors=[(1, 2, 3)]), num_stuff=0)
    assert (named.thing_classes, named.thing_colors) == (["ball"], [(1, 2, 3)])
