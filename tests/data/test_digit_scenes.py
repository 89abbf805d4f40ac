"""Digit scenes: what the files hold, and that they are complete or not there."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from shakedrop_det.data import build_digit_scenes, digit_scenes, digit_split, prepare_digit_scenes

SMALL = {"num_train": 3, "num_val": 2}


def contents(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def scenes(datasets_root: str) -> Path:
    return Path(datasets_root, "digit_scenes")


@pytest.fixture(params=["train", "val"])
def coco(request: pytest.FixtureRequest, scenes: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(scenes / "annotations" / f"instances_{request.param}.json"))


def test_bytes_depend_on_the_seed_alone(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_digit_scenes(tmp_path / name, **SMALL, seed=seed)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[file] != other[file] for file in first)


def test_more_scenes_leave_the_first_as_they_are(tmp_path: Path) -> None:
    build_digit_scenes(tmp_path / "few", **SMALL)
    build_digit_scenes(tmp_path / "many", num_train=5, num_val=2)
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    images = [file for file in few if file.endswith(".png")]
    assert len(images) == 5
    assert all(few[file] == many[file] for file in images)
    assert len({few[file] for file in images}) == 5, "two scenes are the same"


def test_files_and_records_agree(scenes: Path, coco: COCO) -> None:
    split = "train" if len(coco.imgs) == 16 else "val"
    assert sorted(os.listdir(scenes / split)) == [i["file_name"] for i in coco.imgs.values()]
    for record in coco.imgs.values():
        with Image.open(scenes / split / record["file_name"]) as image:
            assert (image.mode, image.size) == ("RGB", (record["width"], record["height"]))
    assert [(c["id"], c["name"]) for c in coco.loadCats(coco.getCatIds())] == [
        (digit + 1, str(digit)) for digit in range(10)
    ]


def test_masks_boxes_and_areas(coco: COCO) -> None:
    for image_id in coco.imgs:
        annotations = coco.imgToAnns[image_id]
        assert 2 <= len(annotations) <= 6
        masks = np.stack([coco.annToMask(annotation) for annotation in annotations])
        assert masks.sum(axis=0).max() == 1, "a pixel belongs to two digits"
        for annotation, mask in zip(annotations, masks, strict=True):
            rows, cols = np.nonzero(mask)
            assert annotation["area"] == mask.sum() >= 40
            assert annotation["bbox"] == [
                cols.min(),
                rows.min(),
                np.ptp(cols) + 1,
                np.ptp(rows) + 1,
            ]
            assert annotation["iscrowd"] == 0


def test_later_digits_hide_earlier_ones_but_not_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[int] = []
    draw = digit_scenes.draw_glyph

    def spy(*args: object, **kwargs: float) -> np.ndarray:
        opacity = draw(*args, **kwargs)
        whole.append(int((opacity >= 0.5).sum()))
        return opacity

    monkeypatch.setattr(digit_scenes, "draw_glyph", spy)
    samples, labels = digit_split(True)
    visible = []
    for seed in range(40):
        whole.clear()
        _, instances = digit_scenes.draw_scene(samples, labels, np.random.default_rng(seed))
        if len(instances) == len(whole):  # No digit was left out for want of room.
            parts = [mask.sum() / area for (_, mask), area in zip(instances, whole, strict=True)]
            assert parts[-1] == 1
            visible += parts
    assert 0.5 <= min(visible) < 0.7
    assert np.mean(np.array(visible) < 1) > 0.1, "hardly any digit is occluded"


def test_a_mask_covers_its_digit(scenes: Path, coco: COCO) -> None:
    """A digit's pixels have nearly one colour, unlike what is around them."""
    split = "train" if len(coco.imgs) == 16 else "val"
    for annotation in coco.anns.values():
        file = scenes / split / coco.imgs[annotation["image_id"]]["file_name"]
        pixels = np.asarray(Image.open(file), dtype=float)
        inside = np.median(pixels[coco.annToMask(annotation) == 1], axis=0)
        same = np.abs(pixels - inside).max(axis=2) < 3
        mask = coco.annToMask(annotation) == 1
        assert same[mask].mean() > 0.5
        assert same[~mask].mean() < 0.02


def test_perfect_predictions_have_ap_100(coco: COCO) -> None:
    predictions = [
        {key: annotation[key] for key in ("image_id", "category_id", "segmentation", "bbox")}
        | {"score": 1.0}
        for annotation in coco.anns.values()
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        for kind in ("bbox", "segm"):
            evaluation = COCOeval(coco, coco.loadRes(predictions), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            assert evaluation.stats[0] == pytest.approx(1)


def test_encoded_counts_are_compressed_text(coco: COCO) -> None:
    annotation = next(iter(coco.anns.values()))
    assert isinstance(annotation["segmentation"]["counts"], str)
    assert mask_util.area(annotation["segmentation"]) == annotation["area"]


def test_a_complete_set_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_digit_scenes(tmp_path / "scenes", **SMALL)
    monkeypatch.setattr(digit_scenes, "draw_scene", None)
    build_digit_scenes(tmp_path / "scenes", **SMALL)
    prepare_digit_scenes(tmp_path / "scenes")


@pytest.mark.parametrize("lost", ["train/000002.png", "annotations/instances_val.json"])
def test_a_set_that_lost_a_file_is_built_anew(tmp_path: Path, lost: str) -> None:
    build_digit_scenes(tmp_path / "scenes", **SMALL)
    before = contents(tmp_path / "scenes")
    (tmp_path / "scenes" / lost).unlink()
    build_digit_scenes(tmp_path / "scenes", **SMALL)
    assert contents(tmp_path / "scenes") == before


def test_other_arguments_replace_the_set(tmp_path: Path) -> None:
    build_digit_scenes(tmp_path / "scenes", **SMALL)
    build_digit_scenes(tmp_path / "scenes", num_train=1, num_val=1, seed=5)
    build_digit_scenes(tmp_path / "fresh", num_train=1, num_val=1, seed=5)
    assert contents(tmp_path / "scenes") == contents(tmp_path / "fresh")
    assert sorted(os.listdir(tmp_path)) == ["fresh", "scenes"]


def test_an_interrupted_build_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = digit_scenes.draw_scene
    calls = iter(range(100))

    def interrupted(*args: object) -> object:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(digit_scenes, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_digit_scenes(tmp_path / "scenes", **SMALL)
    assert os.listdir(tmp_path) == []


def test_a_killed_build_is_not_taken_for_complete(tmp_path: Path) -> None:
    """What a killed process leaves is beside the folder, not in it."""
    context = multiprocessing.get_context("fork")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digit_scenes, "_write_json", lambda *args: os._exit(9))
        process = context.Process(
            target=build_digit_scenes, args=(tmp_path / "scenes",), kwargs=SMALL
        )
        process.start()
        process.join()
    assert process.exitcode == 9
    assert not (tmp_path / "scenes").exists()
    build_digit_scenes(tmp_path / "scenes", **SMALL)
    build_digit_scenes(tmp_path / "fresh", **SMALL)
    assert contents(tmp_path / "scenes") == contents(tmp_path / "fresh")


def test_builds_at_the_same_time_do_no_harm(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = [
        context.Process(target=build_digit_scenes, args=(tmp_path / "scenes",), kwargs=SMALL)
        for _ in range(4)
    ]
    for process in start:
        process.start()
    for process in start:
        process.join()
    assert [process.exitcode for process in start] == [0] * 4
    build_digit_scenes(tmp_path / "fresh", **SMALL)
    assert contents(tmp_path / "scenes") == contents(tmp_path / "fresh")
    assert sorted(os.listdir(tmp_path)) == ["fresh", "scenes"]


def test_the_slower_of_two_builds_uses_the_faster_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = digit_scenes._write_json

    def overtaken(path: Path, content: object) -> None:
        write(path, content)
        if path.name == "digit_scenes.json":
            monkeypatch.setattr(digit_scenes, "_write_json", write)
            build_digit_scenes(tmp_path / "scenes", **SMALL)
            (tmp_path / "scenes" / "train" / "000001.png").touch()
            monkeypatch.setattr(Path, "iterdir", lambda self: iter(()))  # It looks empty still.

    monkeypatch.setattr(digit_scenes, "_write_json", overtaken)
    build_digit_scenes(tmp_path / "scenes", **SMALL)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["scenes"]
    assert len(contents(tmp_path / "scenes")) == 8


@pytest.mark.parametrize("file", ["notes.txt", "train/photo.jpg"])
def test_a_folder_with_other_files_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / "scenes" / file).parent.mkdir(parents=True)
    (tmp_path / "scenes" / file).write_text("mine")
    with pytest.raises(FileExistsError, match=f"{tmp_path}/scenes contains files .*{file[:5]}"):
        build_digit_scenes(tmp_path / "scenes", **SMALL)
    assert (tmp_path / "scenes" / file).read_text() == "mine"


def test_other_files_beside_ours_are_not_deleted(tmp_path: Path) -> None:
    build_digit_scenes(tmp_path / "scenes", **SMALL)
    (tmp_path / "scenes" / "notes.txt").write_text("mine")
    build_digit_scenes(tmp_path / "scenes", **SMALL)
    with pytest.raises(FileExistsError, match="notes.txt"):
        build_digit_scenes(tmp_path / "scenes", **SMALL, seed=9)
    assert (tmp_path / "scenes" / "notes.txt").read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scenes").write_text("mine")
    with pytest.raises(FileExistsError, match="is a file"):
        build_digit_scenes(tmp_path / "scenes", **SMALL)


def test_sets_of_another_version_are_built_anew(tmp_path: Path) -> None:
    build_digit_scenes(tmp_path / "scenes", **SMALL)
    marker = tmp_path / "scenes" / "digit_scenes.json"
    before = marker.read_text()
    marker.write_text(json.dumps(json.loads(before) | {"version": 0}))
    build_digit_scenes(tmp_path / "scenes", **SMALL)
    assert marker.read_text() == before


@pytest.mark.parametrize(
    "wrong", [{"num_train": 0}, {"num_val": -1}, {"seed": -1}], ids=lambda wrong: next(iter(wrong))
)
def test_arguments_out_of_range(tmp_path: Path, wrong: dict[str, int]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} must be at least [01], got {value}"):
        build_digit_scenes(tmp_path / "scenes", **wrong)
