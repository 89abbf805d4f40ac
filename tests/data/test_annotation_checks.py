"""Everything wrong with the annotations of a dataset is told at once, or left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from shakedrop_det.data import check_dataset
from shakedrop_det.data.annotation_checks import AnnotationCheck, Needs
from tests.own_data import (
    EVALUATED,
    MASKS,
    NAME,
    PLAIN,
    POLYGONS,
    RLE,
    Content,
    each,
    first,
    without,
)


@pytest.mark.parametrize("needs", [POLYGONS, MASKS, EVALUATED, Needs(), Needs(training=False)])
def test_good_annotations_pass(written: Callable[..., None], needs: Needs) -> None:
    written()
    check_dataset(NAME, num_classes=2, needs=needs)


KEYPOINTS = Needs(training=False, keypoints=1)
# Sizes of images 1 and 2.
KNOWN: dict[str, Any] = {"sizes": {1: None, 2: (64, 80)}, "categories": [5, 9]}


def odd_annotations() -> st.SearchStrategy[Any]:
    """Right ones, those with any value at some places, and things that are no annotations."""
    usual = st.sampled_from([-3, -1, 0, 0.5, 1, 2, 3, 5, 63, 64, 79, 80])
    odd = st.sampled_from([10**400, 1.7e308, -1.7e308, math.inf, math.nan, True, None, "5", [1]])
    numbers = st.one_of(usual, odd, st.floats())
    polygon = st.sampled_from([[], [1] * 4, [1] * 6, [1] * 7, [0.5] * 8, [math.nan] * 6, ["5"] * 6])
    polygons = st.lists(polygon, max_size=2)
    value = st.one_of(numbers, st.lists(numbers, max_size=5), polygons, st.just(RLE))
    changes = st.one_of(
        st.just({}),
        st.fixed_dictionaries({"bbox": st.lists(usual, min_size=4, max_size=4)}),
        st.fixed_dictionaries({"segmentation": polygons}),
        st.dictionaries(st.sampled_from([*PLAIN, "ignore", "keypoints"]), value, max_size=2),
    )
    key = st.sampled_from([*[None] * 14, *PLAIN])
    changed = st.builds(
        lambda number, changes, left_out: {
            k: v for k, v in {**PLAIN, "id": number, **changes}.items() if k != left_out
        },
        *(st.integers(1, 4), changes, key),
    )
    return st.one_of(changed, st.sampled_from([None, 3, "5", [], [PLAIN]]))


@settings(max_examples=500)
@given(
    annotations=st.lists(odd_annotations(), max_size=3),
    needs=st.sampled_from([POLYGONS, MASKS, EVALUATED, Needs(), Needs(training=False), KEYPOINTS]),
)
@example(annotations=[{**PLAIN, "segmentation": [[1] * 7]}], needs=EVALUATED)
def test_the_quick_answer_is_the_thorough_one(annotations: list[Any], needs: Needs) -> None:
    quick, thorough = (AnnotationCheck(needs, **KNOWN) for _ in range(2))
    for annotation in annotations:
        found = [] if quick.is_plain(annotation) else list(quick.problems(annotation))
        assert found == list(thorough.problems(annotation))


@pytest.mark.parametrize("needs", [POLYGONS, MASKS, EVALUATED, Needs(), Needs(training=False)])
def test_right_annotations_get_the_quick_answer(needs: Needs) -> None:
    check = AnnotationCheck(needs, **KNOWN)
    assert check.is_plain(PLAIN) and not check.is_plain(PLAIN), "the second has the same 'id'"


@pytest.mark.parametrize("needs", [POLYGONS, EVALUATED])
@pytest.mark.parametrize(
    "change, message",
    [
        (without("segmentation"), "'segmentation' is missing, but MODEL.MASK_ON is True"),
        (first(segmentation=None), "'segmentation' is None, but MODEL.MASK_ON"),
        (first(segmentation=[]), r"'segmentation' is \[\], but MODEL.MASK_ON"),
        (first(segmentation=[1, 2, 3, 4, 5, 6]), "that is not a list of polygons: .1, 2"),
        (first(segmentation=[[1, 2, 3, 4, 5, float("nan")]]), "of other than finite numbers"),
        (first(segmentation=[["1", "2", "3", "4", "5", "6"]]), "of other than finite numbers"),
        (without("bbox"), "'bbox' is missing, but must be x, y, width and height"),
        (first(bbox=[1, 2, 3]), r"'bbox' is \[1, 2, 3\]"),
        (first(bbox=[1, float("nan"), 3, 4]), r"'bbox' is \[1, nan, 3, 4\]"),
        (first(bbox=[1, 10**400, 3, 4]), "'bbox' is .* but must be x, y, width and height"),
        (first(bbox=[9, 9, -3, 4]), "a box of negative size"),
        (first(bbox=[80, 9, 3, 4]), "a box outside its image of 80 x 64 pixels"),
        (without("id"), "has no 'id'"),
        (first(id=2), "annotation 2 has the 'id' of another annotation"),
        (first(category_id=7), "has category_id 7, which is not one of 5, 9"),
        (first(category_id="5"), "has category_id '5', which is not one of 5, 9"),
        (first(category_id=[5]), r"has category_id \[5\], which is not one of 5, 9"),
        (first(image_id=99), "refers to image 99, which is not in the file"),
        (first(iscrowd=2), "has iscrowd 2, which must be 0 or 1"),
        (first(ignore=1), "has 'ignore'"),
        (lambda c: c["annotations"].append(3), "is not a record but 3"),
        (lambda c: c["images"][1].pop("height"), "image 2 has height None"),
        (lambda c: c["images"][1].update(height=64.0), "image 2 has height 64.0, .* whole number"),
        (lambda c: c["images"][1].pop("file_name"), "image 2 has no 'file_name'"),
        (lambda c: c["images"][1].update(id=1), "image 1 has the 'id' of another image"),
        (lambda c: c["images"][1].update(id=[2]), "image .2. has no 'id'"),
        (lambda c: c["images"][2].update(file_name="gone.png"), "image 3 has no file .*gone.png"),
        (
            lambda c: c["images"][2].update(width=64, height=80),
            "has 80 x 64 pixels, but its record",
        ),
    ],
)
def test_mistakes_are_named(
    written: Callable[..., None],
    needs: Needs,
    change: Callable[[Content], object],
    message: str,
) -> None:
    written(change)
    with pytest.raises(ValueError, match=message):
        check_dataset(NAME, num_classes=2, needs=needs)


@pytest.mark.parametrize(
    "change, needs, message",
    [
        (without("area"), EVALUATED, "has area None, but COCO metrics need a number"),
        (first(area=-1), EVALUATED, "has area -1, but COCO metrics need a number"),
        (without("iscrowd"), EVALUATED, "has no 'iscrowd', which COCO metrics need"),
        (first(segmentation=[[5, 5, 9, 9]]), EVALUATED, "a polygon of 4 numbers"),
        (each(lambda a: a.update(segmentation=RLE)), POLYGONS, "'polygon': set it to 'bitmask'"),
        (first(segmentation={**RLE, "size": [80, 64]}), MASKS, r"height and width \[80, 64\]"),
        (first(segmentation={**RLE, "counts": [1, 2]}), MASKS, "'counts' do not match its"),
    ],
)
def test_what_only_some_runs_need(
    written: Callable[..., None],
    change: Callable[[Content], object],
    needs: Needs,
    message: str,
) -> None:
    written(change)
    with pytest.raises(ValueError, match=message):
        check_dataset(NAME, num_classes=None, needs=needs)
    check_dataset(NAME, num_classes=None, needs=Needs())


@pytest.mark.parametrize(
    "change",
    [
        first(segmentation=[[5, 5, 9, 9]]),
        first(bbox=[10, 10, 0, 4]),
        first(bbox=[-3, 60, 20, 20]),
        first(iscrowd=1, segmentation=RLE),
    ],
)
def test_what_detectron2_mends_is_left_to_it(
    written: Callable[..., None], change: Callable[[Content], object]
) -> None:
    written(change)
    check_dataset(NAME, num_classes=2, needs=POLYGONS)
    assert len(DatasetCatalog.get(NAME)) == 4


COMPRESSED = mask_util.encode(np.asfortranarray(np.tri(64, 80), dtype=np.uint8))["counts"].decode()


@pytest.mark.parametrize("needs", [MASKS, EVALUATED])
@pytest.mark.parametrize(
    "size, counts, message",
    [
        ([64, 80], COMPRESSED, None),
        ([64, 80], COMPRESSED[:-4], "annotation 1 has a mask whose 'counts' do not match its"),
        ([64, 80], COMPRESSED + "0", "annotation 1 has a mask whose 'counts' do not match its"),
        ([64, 80], "a b", "annotation 1 has a mask whose 'counts' do not match its"),
        ([64, 80], "", "annotation 1 has a mask whose 'counts' do not match its size"),
        ([64], COMPRESSED, r"annotation 1 has a mask of height and width \[64\], but its image"),
        ([80, 64], COMPRESSED, r"annotation 1 has a mask of height and width \[80, 64\], but its"),
    ],
)
def test_compressed_masks_are_decoded(
    written: Callable[..., None], needs: Needs, size: list[int], counts: str, message: str | None
) -> None:
    written(first(segmentation={"size": size, "counts": counts}))
    if message is None:
        check_dataset(NAME, num_classes=None, needs=needs)
        return
    with pytest.raises(ValueError, match=message):
        check_dataset(NAME, num_classes=None, needs=needs)


def test_ten_are_listed_of_each_kind_in_turn(written: Callable[..., None]) -> None:
    def change(content: Content) -> None:
        without("segmentation")(content)
        content["annotations"][13]["category_id"] = 3

    written(change, num_images=8)
    with pytest.raises(ValueError) as error:
        check_dataset(NAME, num_classes=None, needs=POLYGONS)
    lines = str(error.value).splitlines()
    assert lines[0].endswith("has 17 mistakes:")
    assert len([line for line in lines if line.startswith("  image")]) == 10
    assert any("image 7, annotation 14 has category_id 3" in line for line in lines)
    assert lines[-2] == "  and 7 more"
    assert "DATASETS.SKIP_BAD_ANNOTATIONS True" in lines[-1]


@pytest.mark.parametrize("counts", [[-10, 40, 5090], [10.5, 19.5, 5090]])
def test_run_lengths_are_whole_and_not_negative(counts: list[float]) -> None:
    check = AnnotationCheck(MASKS, **KNOWN)
    mask = {"size": [64, 80], "counts": counts}
    (problem,) = check.problems({**PLAIN, "segmentation": mask})
    assert problem == "has a mask whose 'counts' do not match its size [64, 80]"
    mask["counts"] = [10, 20, 5090]
    assert not list(check.problems({**PLAIN, "id": 2, "segmentation": mask}))
