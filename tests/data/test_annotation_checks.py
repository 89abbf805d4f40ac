"""Everything wrong with the annotations of a dataset is told at once, or left out."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_util

from shakedrop_det.data import check_dataset
from shakedrop_det.data.annotation_checks import AnnotationCheck, Needs
from shakedrop_det.data.record_checks import find_record_problems
from tests.own_data import each, write_own_data

NAME = "test_annotations"
Content = dict[str, Any]
POLYGONS = Needs(masks=True, polygons=True)
MASKS = Needs(masks=True)
EVALUATED = Needs(training=False, masks=True)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """``written(change)`` registers own data with that change as :data:`NAME`."""

    def register(change: Callable[[Content], object] | None = None, **options: Any) -> None:
        write_own_data(tmp_path / "own", change, **options)
        register_coco_instances(
            NAME, {}, str(tmp_path / "own" / "instances.json"), str(tmp_path / "own" / "images")
        )

    yield register
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def first(**values: object) -> Callable[[Content], object]:
    return lambda content: content["annotations"][0].update(values)


def without(key: str) -> Callable[[Content], object]:
    return each(lambda annotation: annotation.pop(key))


RLE = {"size": [64, 80], "counts": [10, 20, 5090]}


@pytest.mark.parametrize("needs", [POLYGONS, MASKS, EVALUATED, Needs(), Needs(training=False)])
def test_good_annotations_pass(written: Callable[..., None], needs: Needs) -> None:
    written()
    check_dataset(NAME, num_classes=2, needs=needs)


PLAIN: dict[str, Any] = {
    "id": 1,
    "image_id": 2,
    "category_id": 5,
    "iscrowd": 0,
    "area": 576,
    "bbox": [6, 8.5, 24, 24],
    "segmentation": [[6, 8, 30, 8, 30, 32], [6, 8, 9, 8, 9, 9, 6, 9]],
}
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


@pytest.mark.parametrize(
    "mode, message", [("I;16", "image 1 has mode 'I;16', whose values"), ("F", "has mode 'F'")]
)
def test_deep_images_are_named(
    written: Callable[..., None], tmp_path: Path, mode: str, message: str
) -> None:
    written()
    for path in (tmp_path / "own" / "images").iterdir():
        Image.new(mode, (80, 64)).save(path, format="TIFF" if mode == "F" else "PNG")
    with pytest.raises(ValueError, match=message):
        check_dataset(NAME, num_classes=None)


def test_a_deep_image_among_hundreds_is_found(written: Callable[..., None], tmp_path: Path) -> None:
    written(num_images=250)
    Image.new("I;16", (80, 64)).save(tmp_path / "own" / "images" / "177.png")
    with pytest.raises(ValueError, match="has 1 mistake.*\n.*image 178 has mode 'I;16'"):
        check_dataset(NAME, num_classes=None)


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


def test_a_turned_photograph_has_the_size_that_one_sees(
    written: Callable[..., None], tmp_path: Path
) -> None:
    written()
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (tmp_path / "own" / "images").iterdir():
        Image.new("RGB", (64, 80)).save(path, exif=exif)
    check_dataset(NAME, num_classes=None)
    for path in (tmp_path / "own" / "images").iterdir():
        Image.new("RGB", (80, 64)).save(path, exif=exif)
    with pytest.raises(ValueError, match="has 64 x 80 pixels \\(after EXIF rotation\\)"):
        check_dataset(NAME, num_classes=None)


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


def test_bad_annotations_are_left_out_if_asked(
    written: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def change(content: Content) -> None:
        content["annotations"][0]["segmentation"] = []
        content["images"][3]["file_name"] = "gone.png"

    written(change)
    skip: dict[str, Any] = {"needs": POLYGONS, "skip_bad": True, "folder": str(tmp_path / "run")}
    logging.getLogger("shakedrop_det").propagate = True
    check_dataset(NAME, num_classes=2, **skip)
    assert "Skipped 1 of 4 images and 3 of 8 annotations" in caplog.text
    assert "image 1, annotation 1 has no mask" in caplog.text
    records = DatasetCatalog.get(NAME)
    assert [len(record["annotations"]) for record in records] == [1, 2, 2]
    # What COCO's metrics are computed with is the same.
    used = json.loads(Path(MetadataCatalog.get(NAME).json_file).read_text())
    assert len(used["annotations"]) == 5
    # A file that was corrected is used again, in the same process.
    path = tmp_path / "own" / "instances.json"
    path.write_text(path.read_text().replace("gone.png", "3.png").replace("[]", "[[1,2,3,4,5,6]]"))
    check_dataset(NAME, num_classes=2, **skip)
    assert sum(len(record["annotations"]) for record in DatasetCatalog.get(NAME)) == 8
    assert MetadataCatalog.get(NAME).json_file == str(path)


def test_damaged_images_are_left_out_of_the_metrics(
    written: Callable[..., None], tmp_path: Path
) -> None:
    """Their objects would count as missed."""
    written()
    file = tmp_path / "own" / "images" / "2.png"
    with Image.open(file) as image:
        image.save(file, format="JPEG")
    file.write_bytes(file.read_bytes()[:-1000])
    folder = str(tmp_path / "run")
    check_dataset(NAME, num_classes=2, needs=Needs(), skip_bad=True, folder=folder)
    assert len(DatasetCatalog.get(NAME)) == 4  # Training replaces it when it is read.
    check_dataset(NAME, num_classes=2, needs=EVALUATED, skip_bad=True, folder=folder)
    used = json.loads(Path(MetadataCatalog.get(NAME).json_file).read_text())
    assert [image["id"] for image in used["images"]] == [1, 2, 4]


@pytest.mark.parametrize("order", [(POLYGONS, EVALUATED), (EVALUATED, POLYGONS)])
def test_what_one_of_two_uses_cannot_have_is_left_out_of_both(
    written: Callable[..., None], tmp_path: Path, order: tuple[Needs, Needs]
) -> None:
    def change(content: Content) -> None:
        content["annotations"][0]["segmentation"] = RLE
        del content["annotations"][1]["area"]

    written(change)
    skip: dict[str, Any] = {"skip_bad": True, "folder": str(tmp_path / "run")}
    for again, needs in enumerate(order):
        check_dataset(NAME, num_classes=2, needs=needs, again=bool(again), **skip)
    records = DatasetCatalog.get(NAME)
    assert [len(record["annotations"]) for record in records] == [0, 2, 2, 2]


def test_nothing_left_is_an_error(written: Callable[..., None], tmp_path: Path) -> None:
    written(without("segmentation"))
    with pytest.raises(ValueError, match="has no valid images or annotations"):
        check_dataset(
            NAME, num_classes=None, needs=POLYGONS, skip_bad=True, folder=str(tmp_path / "run")
        )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"category_id": 2}, "annotation number 0 has category_id 2, which is not one of 0, 1"),
        ({"bbox": [70, 70, 75, 79]}, "a box outside its image of 80 x 64 pixels"),
        ({"bbox": [9, 9, 5, 5]}, "a box of negative size"),
        ({"bbox_mode": None}, "has no 'bbox_mode'"),
        ({"segmentation": None}, "'segmentation' is missing, but MODEL.MASK_ON"),
    ],
)
def test_records_of_a_function_are_checked_too(change: dict[str, Any], message: str) -> None:
    annotation = {
        "bbox": [1, 2, 9, 9],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 1,
        "segmentation": [[1, 2, 9, 2, 9, 9]],
    }
    record = {"file_name": "a.png", "image_id": "a", "height": 64, "width": 80}
    both = {key: value for key, value in {**annotation, **change}.items() if value is not None}
    DatasetCatalog.register(NAME, lambda: [{**record, "annotations": [both]}])
    try:
        with pytest.raises(ValueError, match=message):
            check_dataset(NAME, num_classes=2, needs=POLYGONS)
        both = annotation
        check_dataset(NAME, num_classes=2, needs=POLYGONS)
        del record["image_id"]
        with pytest.raises(ValueError, match="image 'at 0' has no 'image_id'"):
            check_dataset(NAME, num_classes=2, needs=EVALUATED)
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)


def test_records_may_have_the_ids_of_the_coco_file_they_were_copied_from() -> None:
    annotation = {
        **PLAIN,
        "image_id": 7,
        "category_id": 1,
        "bbox_mode": BoxMode.XYWH_ABS,
        "segmentation": [[1, 2, 9, 2, 9, 9]],
    }
    record = {"file_name": "a.png", "image_id": 7, "height": 64, "width": 80}
    copies = [annotation, {**annotation, "id": 1}]
    for needs in (POLYGONS, EVALUATED):
        problems = find_record_problems(
            [{**record, "annotations": copies}], num_classes=2, needs=needs
        )
        assert not problems.number, problems


@pytest.mark.parametrize("counts", [[-10, 40, 5090], [10.5, 19.5, 5090]])
def test_run_lengths_are_whole_and_not_negative(counts: list[float]) -> None:
    check = AnnotationCheck(MASKS, **KNOWN)
    mask = {"size": [64, 80], "counts": counts}
    (problem,) = check.problems({**PLAIN, "segmentation": mask})
    assert problem == "has a mask whose 'counts' do not match its size [64, 80]"
    mask["counts"] = [10, 20, 5090]
    assert not list(check.problems({**PLAIN, "id": 2, "segmentation": mask}))
