"""Results as JSON: what is kept, what is found again, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from shakedrop_det.experiments import Plan, Result, Run, Store, load_plan, recorded
from shakedrop_det.experiments.recorded import digest, recorded_keys
from tests.conftest import CONFIGS

from .test_plan import write

FIRST = Run("few images", "plain", 1)
RESULT = Result(
    {"classification/top1": 50.0, "total_loss": 1.0},
    seconds=60.0,
    code="abc",
    machine="a CPU",
    date="2026-01-02",
)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write(tmp_path))


def test_what_was_added_is_found_by_whoever_has_the_file(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "here")
    assert store.find(plan, FIRST) is None
    store.add(plan, FIRST, RESULT)
    assert store.results(plan) == {FIRST: RESULT}
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "which.json").rename(tmp_path / "there" / "which.json")
    elsewhere = Store(tmp_path / "there")
    assert elsewhere.results(plan) == {FIRST: RESULT}
    second = Run("few images", "plain", 2)
    elsewhere.add(plan, second, Result({}, 1.0, diverged="the loss became infinite"))
    assert set(Store(tmp_path / "there").results(plan)) == {FIRST, second}


def test_a_run_is_a_line_of_the_file(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    store.add(plan, FIRST, RESULT)
    before = (tmp_path / "results" / "which.json").read_text().splitlines()
    store.add(plan, Run("few images", "plain", 2), RESULT)
    after = (tmp_path / "results" / "which.json").read_text().splitlines()
    assert len(after) == len(before) + 1 and json.loads("\n".join(after))["question"] == "Which?"


def test_a_metric_that_is_nan_is_named(plan: Plan, tmp_path: Path) -> None:
    """As COCO's of a size that no object has. It would make means and a search meaningless."""
    store = Store(tmp_path)
    store.add(plan, FIRST, replace(RESULT, metrics={**RESULT.metrics, "total_loss": math.nan}))
    plan = replace(plan, metrics=("classification/top1", "total_loss"))
    with pytest.raises(ValueError, match="'total_loss', which is NaN in .*name another metric"):
        Store(tmp_path).results(plan)
    others = replace(plan, metrics=("classification/top1",))
    assert list(Store(tmp_path).results(others)) == [FIRST]


def test_what_another_process_adds_meanwhile_is_kept(plan: Plan, tmp_path: Path) -> None:
    """Each of them has read the file before the other wrote."""
    one, other = Store(tmp_path / "results"), Store(tmp_path / "results")
    for store, run in zip([one, other, one, other], plan.runs, strict=False):
        store.add(plan, run, RESULT)
    found = Store(tmp_path / "results").results(plan)
    assert list(found) == plan.runs[:4] and one.results(plan) != other.results(plan) == found
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["which.json"]


def test_of_a_run_that_two_processes_have_trained_the_first_result_is_kept(
    plan: Plan, tmp_path: Path
) -> None:
    one, other = Store(tmp_path / "results"), Store(tmp_path / "results")
    one.add(plan, FIRST, RESULT)
    other.add(plan, FIRST, replace(RESULT, seconds=1.0))
    assert other.find(plan, FIRST) == Store(tmp_path / "results").find(plan, FIRST) == RESULT


def test_the_folders_above_own_data_are_not_part_of_a_run(tmp_path: Path) -> None:
    """They differ between machines; the last two parts of paths do not."""
    stores = []
    for machine, name in (("here", "birds"), ("there", "birds"), ("here", "cats")):
        files = [[name, f"/{machine}/data/{name}.json", f"/{machine}/data/images"]]
        options = {"SOLVER.MAX_ITER": 3, "SOLVER.STEPS": [], "DATASETS.COCO_FILES": files}
        plan = load_plan(write(tmp_path, options=options))
        stores.append((recorded_keys(plan.config(FIRST)), plan))
    assert stores[0][0] == stores[1][0] and "/here" not in str(stores[0][0])
    Store(tmp_path / "results").add(stores[0][1], FIRST, RESULT)
    assert Store(tmp_path / "results").find(stores[1][1], FIRST) == RESULT
    with pytest.raises(ValueError, match=r"COCO_FILES was .*birds.json.*, now .*cats.json"):
        Store(tmp_path / "results").find(stores[2][1], FIRST)
    full = [["birds", "/x/data/birds.json", "/x/data/images/"]]
    assert digest({**stores[0][0], "DATASETS.COCO_FILES": full}) == digest(stores[0][0])


def test_nor_are_those_above_image_folders() -> None:
    folders = [[["birds", f"/{machine}/birds/train"]] for machine in ("here", "there")]
    first, second = (digest({"DATASETS.IMAGE_FOLDERS": entries}) for entries in folders)
    assert first == second != digest({"DATASETS.IMAGE_FOLDERS": [["birds", "/here/cats/train"]]})


@pytest.mark.parametrize(
    "other",
    ["/data/fold2/a.json:/data/images", "/data/fold1/a.json:/data/new", "/fold1/a.json:/images"],
)
def test_other_data_makes_another_run(tmp_path: Path, other: str) -> None:
    """Although all datasets are named after the file, and have one name."""
    settings = {
        "few images": {"DATASETS.TRAIN": "/data/fold1/a.json:/data/images"},
        "others": {"DATASETS.TRAIN": other},
    }
    plan = load_plan(write(tmp_path, settings=settings))
    store = Store(tmp_path / "results")
    store.add(plan, FIRST, RESULT)
    assert store.find(plan, FIRST) == RESULT
    assert store.find(plan, Run("others", "plain", 1)) is None


def test_results_are_found_where_the_data_is_not(tmp_path: Path) -> None:
    """Although the number of classes, which is read from the file, is not known there."""
    file = tmp_path / "birds" / "train.json"
    file.parent.mkdir()
    categories = [{"id": 1, "name": "gull"}, {"id": 2, "name": "tern"}]
    file.write_text(
        json.dumps({"images": [], "annotations": [{"id": 1}], "categories": categories})
    )
    given = {"config": str(CONFIGS / "tiny_mask_rcnn.yaml"), "metrics": ["bbox/AP-gull"]}
    options = {"DATASETS.TRAIN": str(file), "DATASETS.TEST": str(file)}
    path = write(tmp_path, **given, options=options, variants={"plain": {}})
    here = load_plan(path)
    Store(tmp_path / "results").add(here, FIRST, Result({"bbox/AP-gull": 50.0}, 60.0))
    file.unlink()
    there = load_plan(path)
    classes = [plan.config(FIRST).MODEL.ROI_HEADS.NUM_CLASSES for plan in (here, there)]
    assert classes[0] == 2 != classes[1]
    assert list(Store(tmp_path / "results").results(there)) == [FIRST]


def test_a_run_that_two_experiments_share_is_found_by_both(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    store.add(plan, FIRST, RESULT)
    (tmp_path / "other").mkdir()
    settings = {"as few": {"SOLVER.IMS_PER_BATCH": 2}, "one": {"SOLVER.IMS_PER_BATCH": 1}}
    other = load_plan(write(tmp_path / "other", settings=settings))
    other = replace(other, name="other")
    shared = Run("as few", "plain", 1)
    assert store.results(other) == {shared: RESULT}
    store.adopt(other, shared)
    store.adopt(other, shared)
    assert len(json.loads((tmp_path / "results" / "other.json").read_text())["runs"]) == 1


def test_a_run_with_another_config_is_named_with_the_key(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    store.add(plan, FIRST, RESULT)
    options = {"SOLVER.MAX_ITER": 3, "SOLVER.STEPS": [], "SOLVER.BASE_LR": 0.5}
    changed = load_plan(write(tmp_path, options=options))
    with pytest.raises(
        ValueError,
        match="which.json has few images, plain, seed 1 with another config .*"
        "SOLVER.BASE_LR was .*, now 0.5.*: set another --results, or remove the run",
    ):
        Store(tmp_path / "results").results(changed)


def test_a_key_that_a_later_version_adds_with_a_default_changes_no_run(
    plan: Plan, monkeypatch
) -> None:
    cfg = plan.config(FIRST)
    before = recorded_keys(cfg)
    later, defaults = cfg.clone(), dict(recorded._defaults())
    later.MODEL.SHAKEDROP.NEW = 3
    monkeypatch.setattr(recorded, "_defaults", lambda: {**defaults, "MODEL.SHAKEDROP.NEW": 3})
    assert digest(recorded_keys(later)) == digest(before)
    later.MODEL.SHAKEDROP.NEW = 4
    assert digest(recorded_keys(later)) != digest(before)


def test_a_default_of_shakedrop_that_a_later_version_changes_is_seen(
    plan: Plan, tmp_path: Path, monkeypatch
) -> None:
    """A run that relied on it is another then, and one that sets the key is the same."""
    store = Store(tmp_path)
    store.add(plan, FIRST, RESULT)
    key = "MODEL.SHAKEDROP.SURVIVAL_PROB"
    defaults = {**recorded._defaults(), key: 0.25}
    monkeypatch.setattr(recorded, "_defaults", lambda: defaults)
    assert Store(tmp_path).find(plan, FIRST) == RESULT
    later = load_plan(
        write(tmp_path, options={"SOLVER.MAX_ITER": 3, "SOLVER.STEPS": [], key: 0.25})
    )
    with pytest.raises(ValueError, match=f"with another config .{key} was 0.5, now 0.25"):
        Store(tmp_path).find(later, FIRST)


def test_a_run_is_known_apart_from_its_seed_and_folder(plan: Plan) -> None:
    cfg = plan.config(FIRST)
    other = cfg.clone()
    other.SEED, other.OUTPUT_DIR = 77, "elsewhere"
    assert recorded_keys(other) == recorded_keys(cfg)
    assert not {"SEED", "OUTPUT_DIR"} & recorded_keys(cfg).keys()
    assert recorded_keys(cfg)["SOLVER.IMS_PER_BATCH"] == 2


def test_a_metric_that_was_not_evaluated_is_named_with_those_that_were(
    plan: Plan, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    store.add(plan, FIRST, RESULT)
    other = replace(plan, metrics=("bbox/AP",))
    message = "'bbox/AP', which few images, .* available are classification/top1, total"
    with pytest.raises(ValueError, match=message):
        store.results(other)


@pytest.mark.parametrize("text", ["{", '{"runs": [{}], "configs": {}}', '{"runs": 3}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "which.json").write_text(text)
    with pytest.raises(ValueError, match="which.json is not a valid results file .*: move it away"):
        Store(tmp_path)


def test_json_of_other_content_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "mechanism.json").write_text('{"blocks": [1]}')
    Store(tmp_path).add(plan, FIRST, RESULT)
    assert (tmp_path / "mechanism.json").read_text() == '{"blocks": [1]}'
    assert Store(tmp_path).results(plan) == {FIRST: RESULT}
