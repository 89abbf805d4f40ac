"""Experiments whose parts do not fit together, and what is no mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shakedrop_det.experiments import load_plan
from tests.conftest import CONFIGS

from .test_plan import HELPS, SEARCH, write

BIRDS = {
    "images": [],
    "annotations": [{"id": 1}],
    "categories": [{"id": 1, "name": "gull"}, {"id": 2, "name": "tern"}],
}


def test_files_are_other_images_if_they_are_in_another_folder(tmp_path: Path) -> None:
    """Although both datasets are named after the file."""
    detector = {"config": str(CONFIGS / "tiny_mask_rcnn.yaml"), "metrics": ["bbox/AP"]}
    files = [str(tmp_path / name / "val.json") for name in ("a", "b")]
    options = {"DATASETS.TEST": f"{files[0]}:images"}
    search = {**SEARCH, "options": {"DATASETS.TEST": f"{files[1]}:images"}}
    given = {**detector, "options": options, "variants": {"shaken": {}}}
    load_plan(write(tmp_path, **given, search=search))
    with pytest.raises(ValueError, match="search: options must set DATASETS.TEST .*a/val.json"):
        load_plan(write(tmp_path, **given, search={**search, "options": options}))


def test_a_loss_may_be_all_that_is_reported_if_nothing_is_claimed(tmp_path: Path) -> None:
    assert load_plan(write(tmp_path, metrics=["total_loss"])).metrics == ("total_loss",)


def test_a_metric_of_a_category_is_accepted_while_the_categories_are_not_known(
    tmp_path: Path,
) -> None:
    given = {"variants": {"plain": {}}, "settings": {"all": {}}, "options": {}}
    detector = {**given, "config": str(CONFIGS / "tiny_mask_rcnn.yaml")}
    test = {"DATASETS.TEST": ["coco_2017_val"], "MODEL.ROI_HEADS.NUM_CLASSES": 80}
    load_plan(write(tmp_path, **{**detector, "options": test}, metrics=["segm/AP-person"]))


def test_a_metric_of_a_category_is_checked_for_each_dataset_whose_file_is_here(
    tmp_path: Path,
) -> None:
    """The categories of the other one are not known."""
    (tmp_path / "here.json").write_text(json.dumps(BIRDS))
    files = [f"{tmp_path / name}.json" for name in ("here", "elsewhere")]
    detector = {"config": str(CONFIGS / "tiny_mask_rcnn.yaml"), "variants": {"plain": {}}}
    options = {"DATASETS.TEST": ",".join(files)}

    def load(metric: str) -> None:
        load_plan(write(tmp_path, **detector, options=options, metrics=[metric]))

    load("here/bbox/AP-gull")
    load("elsewhere/bbox/AP-heron")
    for unknown in ("here/bbox/AP-heron", "elsewhere/box/AP-heron"):
        with pytest.raises(ValueError, match=f"names '{unknown}', which .* does not compute"):
            load(unknown)


def test_runs_with_different_data_that_would_count_as_one_are_refused(tmp_path: Path) -> None:
    """Else the results of one would be copied for the other."""
    settings = {f"fold {n}": {"DATASETS.TRAIN": f"/fold{n}/a/b.json:/images/c"} for n in (1, 2)}
    message = (
        "which.*, fold 2, plain, seed 1: it uses /fold2/a/b.json and fold 1, plain, seed 1 uses "
        "/fold1/a/b.json, but .* the same run, .* last two parts .*: rename one of these parts"
    )
    with pytest.raises(ValueError, match=message):
        load_plan(write(tmp_path, settings=settings))
    settings = {"one": {"DATASETS.TRAIN": "/a/b.json:/1/c/d"}}
    settings["two"] = {"DATASETS.TRAIN": "/a/b.json:/2/c/d"}
    with pytest.raises(ValueError, match="it uses /2/c/d and one, plain, seed 1 uses /1/c/d, but"):
        load_plan(write(tmp_path, settings=settings))
    settings["two"] = {"DATASETS.TRAIN": "/a/b.json:/1/c/d"}
    load_plan(write(tmp_path, settings=settings))


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"variants": {"a": {"MODEL.SHAKEDROP.SURVIVAL_PROB": 1.5}}},
            r"few images, a, seed 1: MODEL.SHAKEDROP.SURVIVAL_PROB must be .*1\.5",
        ),
        (
            {"search": {**SEARCH, "options": {}}},
            "search: options must set DATASETS.TEST to .* not reported on.* digits_val too",
        ),
        (
            {"claims": [{**HELPS, "as_images": True}]},
            "as_images needs settings that begin with the number of images.* got 'few images'",
        ),
        (
            {"claims": [{**HELPS, "as_images": True}], "settings": {"1 a": {}, "1 b": {}}},
            "as_images needs at least two settings, with different numbers .* got 1 a, 1 b",
        ),
        (
            {
                "claims": [{**HELPS, "as_images": True, "beyond": "20"}],
                "settings": {"10": {}, "20": {}},
            },
            "claims: as_images and beyond exclude each other, got 'It helps'",
        ),
        (
            {"claims": [{**HELPS, "variant": "plain"}]},
            "claims: 'It helps' compares 'plain' with itself: name another variant",
        ),
        (
            {"claims": [{**HELPS, "setting": "many", "beyond": "many"}]},
            "claims: 'It helps' compares the gain in 'many' with itself: name another setting",
        ),
        ({"metrics": ["classification/top2"]}, "names 'classification/top2', which .*: name class"),
        ({"metrics": ["bbox/AP"]}, "'bbox/AP', .*: name classification/top1 or .* or total_loss"),
        (
            {"metrics": ["total_loss"], "claims": [HELPS]},
            "first of metrics .* for which higher is better, got 'total_loss': name another",
        ),
        ({"metrics": ["total_loss"], "search": SEARCH}, "the first of metrics is .* 'total_loss'"),
        (
            {"options": {"DATASETS.TEST": ["digit_val"]}},
            "seed 1: DATASETS.TEST has no registered dataset 'digit_val': name digits_val",
        ),
        ({"search": {**SEARCH, "values": [0.5, 1.5]}}, "many, shaken, 1.5, seed 11: .*SURVIVAL"),
        ({"options": {"DATASETS.TEST": []}}, "seed 1: DATASETS.TEST is empty: name a dataset"),
    ],
)
def test_a_mistake_is_named_with_what_to_write(tmp_path: Path, changes, message) -> None:
    with pytest.raises(ValueError, match=f"^experiment .*which.*{message}"):
        load_plan(write(tmp_path, **changes))
